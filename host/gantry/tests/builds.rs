//! A source is sent, built and deployed, in one operation; or it is refused before anything begins.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use gantry::api::{Accepted, AppInfo, Items, Operation, Problem, ProblemKind};
use gantry::client::{Change, ClientError};
use gantry_core::container::{ContainerConfig, Image};
use gantry_engine::Containers;
use hyper::Method;
use serde_json::{Value, json};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{House, SOON, kubernetes, refused};

/// The right to make images.
const GRANTED: &str =
    "[provisioners.docker]\ngrants = [\"images:build\", \"images:commit\", \"images:remove\"]\n";

/// A daemon whose engine has a platform, and an app of it.
async fn house(config: &str) -> Result<House> {
    let house = House::with_docker(config).await?;
    let config = ContainerConfig { cmd: Some(vec!["sh".to_owned()]), ..ContainerConfig::default() };
    // Nothing runs in memory that would make the folder.
    let kept: &[u8] = b"";
    let image = Image { config, ..Image::default() };
    let files = [("/home/application/current/.kept", kept)];
    let _same = house.engine.clone().with_image("tsuru/python:latest", image, files);
    let app = json!({"name": "web", "platform": "python"});
    house.done(Method::POST, "/v1/apps", app).await?;
    Ok(house)
}

/// A tar archive of these files.
fn archive(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(text.len())?);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, text.as_bytes())?;
    }
    Ok(builder.into_inner()?)
}

fn source(text: &str) -> Result<Vec<u8>> {
    archive(&[("Procfile", "web: serve\n"), ("page", text)])
}

fn dockerfile() -> Result<Vec<u8>> {
    archive(&[("Dockerfile", "FROM plain:1\nCOPY page /page\n"), ("page", "x")])
}

async fn send(
    house: &House,
    path: &str,
    bytes: Vec<u8>,
    change: &Change,
) -> Result<Result<Accepted, Problem>> {
    send_with(house, path, bytes, &BTreeMap::new(), change).await
}

/// The same with arguments of the build.
async fn send_with(
    house: &House,
    path: &str,
    bytes: Vec<u8>,
    args: &BTreeMap<String, String>,
    change: &Change,
) -> Result<Result<Accepted, Problem>> {
    let parts: Vec<io::Result<Bytes>> =
        bytes.chunks(300).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    let parts = stream::iter(parts).boxed();
    refused(house.client.change_stream(Method::POST, path, parts, args, change).await)
}

/// Sends a source and waits for the end of its deploy.
async fn deploy(house: &House, path: &str, bytes: Vec<u8>) -> Result<Result<Operation, Problem>> {
    match send(house, path, bytes, &Change::default()).await? {
        Ok(accepted) => house.end_of(&accepted).await,
        Err(problem) => Ok(Err(problem)),
    }
}

/// A source of which a part was sent, and then nothing until it breaks off.
struct Upload;

impl Upload {
    fn begin(
        house: &House,
    ) -> Result<(JoinHandle<gantry::client::Result<Accepted>>, oneshot::Sender<()>)> {
        let (breaks, broken) = oneshot::channel::<()>();
        let first = stream::iter([Ok(Bytes::from(source("one")?))]);
        let rest = stream::once(async {
            let _dropped = broken.await;
            Err(io::ErrorKind::BrokenPipe.into())
        });
        let (client, parts) = (house.client.clone(), first.chain(rest).boxed());
        let upload = tokio::spawn(async move {
            let change = Change::default();
            client.change_stream(Method::POST, BUILD, parts, &BTreeMap::new(), &change).await
        });
        Ok((upload, breaks))
    }
}

/// How many sources the daemon of a house keeps: files without a name, which only those see who have them open.
fn sources(house: &House) -> Result<usize> {
    let data = house.folder.path().join("data");
    let mut count = 0;
    for descriptor in std::fs::read_dir("/proc/self/fd")? {
        // Another test may have closed it.
        let Ok(file) = std::fs::read_link(descriptor?.path()) else { continue };
        let nameless = file.to_string_lossy().ends_with(" (deleted)");
        count += usize::from(nameless && file.parent() == Some(data.as_path()));
    }
    Ok(count)
}

async fn until_sources(house: &House, count: usize) -> Result<()> {
    let wait = async {
        while sources(house)? != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, wait).await.with_context(|| format!("no {count} sources"))?
}

async fn operations(house: &House) -> Result<Vec<Operation>> {
    let operations: Items<Operation> = house.client.get("/v1/operations").await?;
    Ok(operations.items)
}

async fn has(house: &House, image: &str) -> bool {
    house.engine.inspect_image(image).await.is_ok()
}

const BUILD: &str = "/v1/apps/web/build";

#[tokio::test]
async fn a_source_is_built_and_deployed_in_one_operation_that_says_what_it_was() -> Result<()> {
    let house = house(GRANTED).await?;
    let bytes = source("one")?;
    let operation =
        deploy(&house, BUILD, bytes.clone()).await?.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    assert_eq!(operation.result, Some(json!({"image": "tsuru/app-web:v1"})));
    let told = &operation.detail["source"];
    assert_eq!(told["size"], json!(bytes.len()));
    assert_eq!(told["sha256"].as_str().map(str::len), Some(64));
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!(
        (info.app.deploys, info.images.as_slice()),
        (1, &["tsuru/app-web:v1".to_owned()][..])
    );

    // The next one is built on it; what comes after the deploy of an image is not.
    let lines = |operation: &Operation| format!("/v1/operations/{}", operation.id);
    let second =
        deploy(&house, BUILD, source("two")?).await?.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let told: Value = house.client.get(&lines(&second)).await?;
    ensure!(told.to_string().contains("Building on tsuru/app-web:v1"), "{told}");
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let third =
        deploy(&house, BUILD, source("three")?).await?.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let told: Value = house.client.get(&lines(&third)).await?;
    ensure!(told.to_string().contains("Building on tsuru/python:latest"), "{told}");

    house.done(Method::POST, "/v1/apps/web/rollback", json!({"image": ":v1"})).await?;
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!(info.app.image.as_deref(), Some("tsuru/app-web:v1"));
    Ok(())
}

#[tokio::test]
async fn a_dockerfile_takes_arguments_and_none_of_their_values_is_written_down() -> Result<()> {
    let house = house(GRANTED).await?;
    let args = [("TOKEN", "hush"), ("VERSION", "2")];
    let args = args.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let send = async |path: &str, key: &str| {
        let change = Change { key: Some(key.to_owned()), ..Change::default() };
        send_with(&house, path, dockerfile()?, &args, &change).await
    };
    let path = format!("{BUILD}?dockerfile=Dockerfile");
    let accepted = send(&path, "once").await?.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let operation = house.end_of(&accepted).await?.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    assert_eq!(operation.result, Some(json!({"image": "tsuru/app-web:v1"})));
    assert_eq!(operation.detail["args"], json!(["TOKEN", "VERSION"]));
    ensure!(!operation.detail.to_string().contains("hush"), "{:?}", operation.detail);
    for (query, why) in [
        ("", "only a Dockerfile takes arguments"),
        ("?dockerfile=../Dockerfile", "is not in the source"),
        ("?dockerfile=Dockerfile&args=A", "belong in the header `gantry-build-args`"),
    ] {
        let problem = send(&format!("{BUILD}{query}"), "never").await?.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Invalid);
        ensure!(problem.detail.contains(why), "{problem:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_upload_that_breaks_off_begins_nothing_and_leaves_nothing() -> Result<()> {
    let house = house(GRANTED).await?;
    let before = operations(&house).await?.len();
    let (upload, breaks) = Upload::begin(&house)?;
    until_sources(&house, 1).await?;
    drop(breaks);
    let sent = upload.await?;
    ensure!(matches!(sent, Err(ClientError::Unreachable { .. })), "{sent:?}");
    until_sources(&house, 0).await?;
    assert_eq!(operations(&house).await?.len(), before);
    Ok(())
}

#[tokio::test]
async fn a_source_waits_for_its_turn_while_four_are_sent() -> Result<()> {
    let house = house(GRANTED).await?;
    let mut uploads = Vec::new();
    for _ in 0..4 {
        uploads.push(Upload::begin(&house)?);
    }
    until_sources(&house, 4).await?;
    let (client, whole) = (house.client.clone(), source("five")?);
    let fifth = tokio::spawn(async move {
        let parts = stream::iter([Ok(Bytes::from(whole))]).boxed();
        let change = Change::default();
        client.change_stream(Method::POST, BUILD, parts, &BTreeMap::new(), &change).await
    });
    // Others are answered meanwhile.
    for _ in 0..100 {
        operations(&house).await?;
        ensure!(sources(&house)? == 4 && !fifth.is_finished(), "nobody waited");
    }
    let (broken, breaks) = uploads.remove(0);
    drop(breaks);
    ensure!(broken.await?.is_err());
    let accepted = fifth.await??;
    house.end_of(&accepted).await?.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    for (upload, breaks) in uploads {
        drop(breaks);
        ensure!(upload.await?.is_err());
    }
    until_sources(&house, 0).await
}

#[tokio::test]
async fn a_source_that_says_it_is_too_large_is_refused_before_a_byte_of_it() -> Result<()> {
    let house = house(&format!("{GRANTED}[builds]\nlargest-source = \"4KiB\"\n")).await?;
    let mut stream = UnixStream::connect(house.folder.path().join("g.sock")).await?;
    let head = format!("POST {BUILD} HTTP/1.1\r\nhost: gantry\r\ncontent-length: 4097\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&answer).contains("more than 4096 bytes") {
            ensure!(stream.read_buf(&mut answer).await? > 0, "it ended");
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, read).await??;
    ensure!(answer.starts_with(b"HTTP/1.1 403 "), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

#[tokio::test]
async fn what_is_no_source_is_refused_before_anything_begins() -> Result<()> {
    let house = house(&format!("{GRANTED}[builds]\nlargest-source = \"4KiB\"\n")).await?;
    let before = operations(&house).await?.len();
    for (path, bytes, kind, why) in [
        (BUILD, Vec::new(), ProblemKind::Invalid, "the source is empty"),
        (BUILD, b"PK\x03\x04".to_vec(), ProblemKind::Invalid, "no tar archive"),
        (BUILD, source(&"x".repeat(5000))?, ProblemKind::OverLimit, "more than 4096 bytes"),
        ("/v1/apps/wed/build", source("x")?, ProblemKind::NotFound, ""),
    ] {
        let problem = deploy(&house, path, bytes).await?.unwrap_err();
        assert_eq!(problem.kind, kind, "{problem:?}");
        ensure!(problem.detail.contains(why), "{problem:?}");
        ensure!(kind == ProblemKind::Invalid || problem.hint.is_some(), "{problem:?}");
    }
    assert_eq!(operations(&house).await?.len(), before);
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_sent_twice_with_one_key_is_deployed_once() -> Result<()> {
    let house = house(GRANTED).await?;
    let change = Change { key: Some("k".to_owned()), ..Change::default() };
    let first = send(&house, BUILD, source("one")?, &change).await?.unwrap();
    let again = send(&house, BUILD, source("one")?, &change).await?.unwrap();
    assert_eq!(again.operation, first.operation);
    house.end_of(&first).await?.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let other = send(&house, BUILD, source("two")?, &change).await?.unwrap_err();
    assert_eq!(other.kind, ProblemKind::Conflict);
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!(info.app.deploys, 1);
    Ok(())
}

#[tokio::test]
async fn a_build_or_a_deploy_that_fails_leaves_neither_a_container_nor_an_image() -> Result<()> {
    let house = house(GRANTED).await?;
    deploy(&house, BUILD, source("one")?).await?.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let before = house.containers().await?;

    let hook = "hooks: {build: ['exit 3']}\n";
    let bad = archive(&[("Procfile", "web: serve\n"), ("tsuru.yaml", hook)])?;
    let problem = deploy(&house, BUILD, bad).await?.unwrap_err();
    ensure!(problem.detail.contains("`exit 3` ended with 3"), "{problem:?}");

    // Built, and then its units are not well: of either kind of build.
    house.played.answers(500);
    let sick = [
        ("Procfile", "web: serve\n"),
        ("tsuru.yaml", "healthcheck: {path: /up}\n"),
        ("Dockerfile", "FROM plain:1\nCOPY tsuru.yaml /tsuru.yaml\n"),
    ];
    for path in [BUILD.to_owned(), format!("{BUILD}?dockerfile=Dockerfile")] {
        let problem = deploy(&house, &path, archive(&sick)?).await?.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::UnitStartup, "{problem:?}");
    }
    assert_eq!(house.containers().await?, before);
    for number in 2..9 {
        let image = format!("tsuru/app-web:v{number}");
        ensure!(!has(&house, &image).await, "{image} is left");
    }
    let info: AppInfo = house.client.get("/v1/apps/web").await?;
    assert_eq!(info.app.image.as_deref(), Some("tsuru/app-web:v1"));
    Ok(())
}

#[tokio::test]
async fn without_the_grant_nothing_is_built_and_the_grant_is_named() -> Result<()> {
    let house = house("").await?;
    for (path, bytes, grant) in [
        (BUILD.to_owned(), source("x")?, "images:commit"),
        (format!("{BUILD}?dockerfile=Dockerfile"), dockerfile()?, "images:build"),
    ] {
        let problem = deploy(&house, &path, bytes).await?.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Denied, "{problem:?}");
        ensure!(problem.detail.contains(grant), "{problem:?}");
    }
    assert_eq!(house.containers().await?, []);
    Ok(())
}

#[tokio::test]
async fn a_provisioner_that_builds_nothing_says_so_before_the_source_is_read() -> Result<()> {
    let house = House::with_both("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "store", "pool": "yard"})).await?;
    let problem = deploy(&house, "/v1/apps/store/build", source("x")?).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::NotSupported);
    assert_eq!(problem.detail, "provisioner \"warehouse\" does not support builds");
    let hint = problem.hint.context("it says what to do")?;
    ensure!(hint.contains("gantry app deploy store --image IMAGE"), "{hint}");
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_far_too_large_is_told_so_while_it_is_still_sent() -> Result<()> {
    let house = house(&format!("{GRANTED}[builds]\nlargest-source = \"4KiB\"\n")).await?;
    let piece = Bytes::from(vec![7; 1 << 20]);
    for _ in 0..8 {
        let (args, change) = (BTreeMap::new(), Change::default());
        let parts = stream::iter((0..512).map({
            let piece = piece.clone();
            move |_| Ok(piece.clone())
        }));
        let sent = house.client.change_stream(Method::POST, BUILD, parts.boxed(), &args, &change);
        let problem = refused(sent.await)?.unwrap_err();
        assert_eq!(problem.kind, ProblemKind::OverLimit, "{problem:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cluster_builds_no_dockerfile_and_says_what_to_do() -> Result<()> {
    let house = House::new("").await?;
    let path = "/v1/plugins/kubernetes?grant-asked=true";
    let change = Change::default();
    let installed = house.client.change_bytes(Method::PUT, path, kubernetes()?, &change).await?;
    house.end_of(&installed).await?.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let pool = json!({"name": "kube", "provisioner": "kubernetes"});
    house.done(Method::POST, "/v1/pools", pool).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "pool": "kube"})).await?;
    let path = format!("{BUILD}?dockerfile=Dockerfile");
    let problem = deploy(&house, &path, dockerfile()?).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::NotSupported);
    ensure!(problem.detail.contains("does not support builds of a Dockerfile"), "{problem:?}");
    ensure!(problem.hint.is_some_and(|hint| hint.contains("gantry app deploy web --image IMAGE")));
    // On a platform it would: there is only no cluster.
    let problem = deploy(&house, BUILD, source("x")?).await?.unwrap_err();
    ensure!(problem.kind != ProblemKind::NotSupported, "{problem:?}");
    Ok(())
}
