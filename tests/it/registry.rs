//! A registry with TLS and a password, Docker engines that push to it and pull from it through Gantry's engine, and Gantry's own client that deletes from it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gantry_engine::docker::{Auth, Docker, Endpoint, Timeouts};
use gantry_engine::{Containers as _, EngineError};
use gantry_registry::{Account, Digest, Error, Reference, Repository, Rights};
use gantry_tests::artifacts::image;
use gantry_tests::daemon::docker;
use gantry_tests::hosts::Hosts;
use gantry_tests::registry::Registry;
use serde_json::json;

/// An image of this machine's engine that is named for the registry. Dropped, it is removed.
struct Made(String);

impl Made {
    fn of(registry: &Registry, name: &str) -> Result<Self> {
        let made = Self(registry.image(name));
        image(&made.0, name, "")?;
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = docker(&["rmi", "-f", &self.0]);
    }
}

fn engine(endpoint: Endpoint, auth: Auth) -> Result<Docker> {
    Ok(Docker::with(endpoint, auth, Timeouts::default())?)
}

fn known(registry: &Registry) -> Auth {
    Auth::none().with(&registry.address, &registry.user, &registry.password)
}

async fn push(engine: &Docker, image: &str) -> Result<(), EngineError> {
    engine.push_image(image, Box::pin(tokio::io::sink())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_pushed_with_the_password_and_pulled_by_another_host() -> Result<()> {
    let registry = Registry::start()?;
    let _trust = registry.trusted_by_docker()?;
    let made = Made::of(&registry, "team/shop:v1")?;
    let here = Endpoint::from_env;

    for auth in [Auth::none(), Auth::none().with(&registry.address, &registry.user, "wrong")] {
        let refused = push(&engine(here()?, auth)?, &made.0).await.err().context("refused")?;
        let text = refused.to_string();
        ensure!(
            text.contains("no basic auth credentials") || text.contains("unauthorized"),
            "{text}"
        );
        ensure!(!text.contains(&registry.password), "{text}");
    }
    ensure!(registry.catalog()?.is_empty(), "what was refused is not in it");

    push(&engine(here()?, known(&registry))?, &made.0).await?;
    ensure!(registry.catalog()? == ["team/shop".to_owned()].into());
    ensure!(registry.tags("team/shop")? == ["v1".to_owned()].into());

    let hosts = Hosts::start(1)?;
    let host = hosts.hosts.first().context("one host")?;
    let there = || {
        let address = format!("tcp://{}:2376", host.address);
        Endpoint::parse(&address).map(|host| host.with_certificates(hosts.certificates()))
    };
    let refused = engine(there()?, Auth::none())?.pull_image(&made.0).await.err();
    let text = refused.context("a pull needs the password too")?.to_string();
    ensure!(text.contains("no basic auth credentials") || text.contains("unauthorized"), "{text}");
    let other = engine(there()?, known(&registry))?;
    other.pull_image(&made.0).await?;
    let command = ["run", "--rm", "--network=none", "--entrypoint=/bin/cat", &made.0];
    let page = hosts.docker(host, &[&command[..], &["/www/index.html"]].concat())?;
    ensure!(page.trim() == "team/shop:v1", "{page}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_nobody_vouches_for_is_refused() -> Result<()> {
    let registry = Registry::start()?;
    let other = Registry::start()?;
    let made = Made::of(&registry, "team/shop:v1")?;
    let engine = engine(Endpoint::from_env()?, known(&registry))?;
    let refused = async |what: &str| {
        let error = push(&engine, &made.0).await.err().context(what.to_owned())?.to_string();
        ensure!(error.contains("x509: certificate signed by unknown authority"), "{error}");
        anyhow::Ok(())
    };
    refused("nobody vouches").await?;
    {
        let _trust = registry.trusted_by_docker_as(&other.ca())?;
        refused("another one vouches").await?;
    }
    ensure!(registry.catalog()?.is_empty(), "what was refused is not in it");
    let trust = registry.trusted_by_docker()?;
    push(&engine, &made.0).await?;
    drop(trust);
    ensure!(!Path::new("/etc/docker/certs.d").join(&registry.address).exists(), "nothing stays");
    Ok(())
}

fn account(registry: &Registry) -> Result<Account> {
    Ok(Account {
        registry: registry.address.clone(),
        user: registry.user.clone(),
        password: registry.password.clone(),
        authority: std::fs::read_to_string(registry.ca())?,
        ..Account::default()
    })
}

/// Puts an image without a layer there.
fn put(repository: &Repository<'_>, tag: &str, said: &str) -> Result<()> {
    let kind = |of: &str| format!("application/vnd.oci.image.{of}.v1+json");
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": [said]},
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let config = config.to_string();
    let digest = Digest::of(config.as_bytes());
    repository.upload_bytes(&digest, config.as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind("manifest"), "layers": [],
        "config": {"mediaType": kind("config"), "digest": digest.as_str(), "size": config.len()},
    });
    repository.name(tag, &kind("manifest"), manifest.to_string().as_bytes())?;
    Ok(())
}

#[test]
fn an_image_is_deleted_with_its_names_and_others_stay() -> Result<()> {
    let registry = Registry::start()?;
    let account = account(&registry)?;
    let image = Reference::parse(&registry.image("team/shop:v1"))?;
    let pushing = Repository::of(&image, &account, Rights::Push, &[])?;
    for (tag, said) in [("v1", "a=1"), ("v2", "a=2"), ("v3", "a=3"), ("v4", "a=3")] {
        put(&pushing, tag, said)?;
    }
    let tags = || registry.tags("team/shop");
    let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let repository = Repository::of(&image, &account, Rights::Delete, &[])?;
    ensure!(repository.tags()? == named(&["v1", "v2", "v3", "v4"]), "{:?}", repository.tags()?);
    let digest = |tag: &str| repository.digest(tag)?.context("an image");
    let (first, third) = (digest("v1")?, digest("v3")?);
    ensure!(digest("v4")? == third && digest("v2")? != third, "two names of one image");
    for _ in 0..2 {
        repository.delete(&first)?;
        ensure!(tags()? == named(&["v2", "v3", "v4"]), "{:?}", tags()?);
    }
    ensure!(repository.digest("v1")?.is_none(), "it is gone");
    repository.delete(&third)?;
    ensure!(tags()? == named(&["v2"]), "{:?}", tags()?);
    ensure!(repository.tags()? == tags()?, "the same is listed");
    Ok(())
}

#[test]
fn a_registry_with_its_deletion_switched_off_says_so_and_keeps_all() -> Result<()> {
    let registry = Registry::without_deletion()?;
    let account = account(&registry)?;
    let image = Reference::parse(&registry.image("team/shop:v1"))?;
    put(&Repository::of(&image, &account, Rights::Push, &[])?, "v1", "a=1")?;
    let repository = Repository::of(&image, &account, Rights::Delete, &[])?;
    let digest = repository.digest("v1")?.context("an image")?;
    let refused = repository.delete(&digest);
    ensure!(matches!(refused, Err(Error::NoDeletion { .. })), "{refused:?}");
    ensure!(registry.tags("team/shop")? == ["v1".to_owned()].into());
    Ok(())
}
