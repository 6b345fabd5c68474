//! What becomes of answers, good and bad.

use std::collections::BTreeMap;
use std::io::Cursor;

use futures_util::StreamExt as _;
use gantry_core::container::ContainerSpec;
use gantry_engine::Containers as _;
use gantry_engine::call::{BuildOptions, ExecOptions, LogOptions};
use tokio::io::AsyncReadExt as _;

use crate::peer::{Answer, Peer, json, refusal};
use crate::{at, docker, hasty, refused};

fn spec() -> ContainerSpec {
    ContainerSpec { image: "app:v1".to_owned(), ..ContainerSpec::default() }
}

#[tokio::test]
async fn a_status_is_an_error_that_names_the_host_and_the_thing() {
    for (status, message, kind, told) in [
        (404, "No such container: web-1", "not-found", "no container `web-1` on `HOST`"),
        (
            409,
            "Container 0f is marked for removal",
            "conflict",
            "cannot start the container `web-1` on `HOST`: container 0f is marked for removal",
        ),
        (
            400,
            "OCI runtime create failed: no such file",
            "invalid",
            "cannot start the container `web-1` on `HOST`: OCI runtime create failed: no such file",
        ),
        (
            403,
            "authorization denied by plugin",
            "invalid",
            "cannot start the container `web-1` on `HOST`: authorization denied by plugin",
        ),
        (
            500,
            "server error",
            "failed",
            "cannot start the container `web-1` on `HOST`: server error",
        ),
        (500, "", "failed", "cannot start the container `web-1` on `HOST`: status 500"),
        (503, "", "failed", "cannot start the container `web-1` on `HOST`: status 503"),
        (
            500,
            "driver failed: Bind for 0.0.0.0:80 failed: port is already allocated",
            "conflict",
            "cannot start the container `web-1` on `HOST`: driver failed: Bind for 0.0.0.0:80 \
             failed: port is already allocated",
        ),
    ] {
        let peer = Peer::new(move |_| refusal(status, message));
        let text = refused(docker(&peer).start("web-1").await, kind);
        assert_eq!(text, told.replace("HOST", peer.address()));
    }
}

#[tokio::test]
async fn a_create_tells_a_missing_image_from_a_taken_name() {
    let peer = Peer::new(|_| refusal(404, "No such image: app:v1"));
    let text = refused(docker(&peer).create("web-1", &spec()).await, "not-found");
    assert_eq!(text, format!("no image `app:v1` on `{}`", peer.address()));
    let peer = Peer::new(|_| refusal(409, "Conflict. The container name \"/web-1\" is in use"));
    let text = refused(docker(&peer).create("web-1", &spec()).await, "conflict");
    assert!(text.starts_with("cannot create the container `web-1` on"), "{text}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_timed_out() {
    let peer = Peer::new(|_| Answer::Stuck(Vec::new()));
    let docker = hasty(&peer);
    let text = refused(docker.start("web-1").await, "timed-out");
    assert_eq!(
        text,
        format!(
            "cannot start the container `web-1` on `{}`: no answer within 200ms; what became of it \
             is not known",
            peer.address()
        )
    );
    refused(docker.list(true, &BTreeMap::new()).await, "timed-out");
    refused(docker.create("web-1", &spec()).await, "timed-out");
    refused(docker.pull_image("app:v1").await, "timed-out");
    refused(docker.logs("web-1", &follow()).await.map(|_| ()), "timed-out");
    refused(docker.download("web-1", "/").await.map(|_| ()), "timed-out");
    refused(docker.upload("web-1", "/", Box::pin(Cursor::new(b"x"))).await, "timed-out");
}

fn follow() -> LogOptions {
    LogOptions { lines: 1, follow: true, timestamps: false }
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_timed_out() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Id\":";
    let peer = Peer::new(move |_| Answer::Stuck(head.into()));
    refused(hasty(&peer).inspect("web-1").await, "timed-out");
    let head =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n{\"status\":\"half\"}\r\n";
    let peer = Peer::new(move |_| Answer::Stuck(head.into()));
    refused(hasty(&peer).pull_image("app:v1").await, "timed-out");
}

#[tokio::test]
async fn a_transfer_has_a_limit_on_its_silence_and_none_on_its_length() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    let peer = Peer::new(move |_| Answer::Stuck(head.into()));
    let mut archive = hasty(&peer).download("web-1", "/").await.unwrap();
    // Time in which nobody reads does not count.
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let mut bytes = Vec::new();
    let error = archive.read_to_end(&mut bytes).await.unwrap_err();
    assert_eq!((error.kind(), bytes.as_slice()), (std::io::ErrorKind::TimedOut, &b"half"[..]));

    // A source may take its time.
    let peer = Peer::new(|_| crate::peer::empty(200));
    let (mut source, archive) = tokio::io::duplex(16);
    let send = async move {
        for _ in 0..4 {
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            tokio::io::AsyncWriteExt::write_all(&mut source, b"part").await.unwrap();
        }
    };
    let docker = hasty(&peer);
    let (sent, ()) = tokio::join!(docker.upload("web-1", "/", Box::pin(archive)), send);
    sent.unwrap();
    assert_eq!(peer.seen()[0].body, b"partpartpartpart");
}

#[tokio::test]
async fn what_waits_by_its_nature_has_no_limit_of_its_own() {
    let peer = Peer::new(|_| Answer::Stuck(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".into()));
    let docker = hasty(&peer);
    let wait = tokio::time::timeout(std::time::Duration::from_millis(600), docker.wait("web-1"));
    assert!(wait.await.is_err(), "it waits on");
}

#[tokio::test]
async fn a_connection_that_dies_is_unreachable() {
    for bytes in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Id\":",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{\"Id\":",
    ] {
        let peer = Peer::new(move |_| Answer::Last(bytes.into()));
        let docker = docker(&peer);
        let text = refused(docker.inspect("web-1").await, "unreachable");
        let told = format!(
            "cannot inspect the container `web-1` on `{0}`: the Docker host `{0}` went away in the \
             middle",
            peer.address()
        );
        assert!(text.starts_with(&told), "{text}");
        refused(docker.create("web-1", &spec()).await, "unreachable");
        refused(docker.pull_image("app:v1").await, "unreachable");
        refused(docker.wait("web-1").await, "unreachable");
    }
}

#[tokio::test]
async fn an_engine_that_dies_is_asked_again_by_the_next_call() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let peer = Peer::new(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => Answer::Last(Vec::new()),
        _ => json(200, "[]"),
    });
    let docker = docker(&peer);
    refused(docker.list(true, &BTreeMap::new()).await, "unreachable");
    docker.list(true, &BTreeMap::new()).await.unwrap();
}

#[tokio::test]
async fn garbage_is_no_answer() {
    let peer = Peer::raw(|_| Answer::Last(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n".into()));
    let text = refused(docker(&peer).inspect("web-1").await, "failed");
    let told = format!(
        "`{}` does not answer like a Docker engine: what it sends is not HTTP",
        peer.address()
    );
    assert_eq!(text, told);
    for (body, told) in [
        ("<html>hello</html>", "its version is not Docker's JSON"),
        (r#"{"ApiVersion":"new"}"#, "its API version is `new`"),
    ] {
        let peer = Peer::raw(move |_| json(200, body));
        let text = refused(docker(&peer).inspect("web-1").await, "failed");
        assert!(text.ends_with(told), "{text}");
    }
    let peer = Peer::raw(|_| refusal(404, "page not found"));
    let text = refused(docker(&peer).inspect("web-1").await, "failed");
    assert!(text.ends_with("its version is a status 404"), "{text}");
    for body in ["<html>", "", "{\"Id\":", "[1]", "{\"Id\":1}"] {
        let peer = Peer::new(move |_| json(200, body));
        let text = refused(docker(&peer).inspect("web-1").await, "failed");
        assert!(text.ends_with("its answer is not Docker's JSON"), "{text}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_is_unreachable_and_the_reason_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    for (address, why) in [
        (closed.as_str(), "connection refused"),
        ("unix:///nowhere/docker.sock", "no such file or directory"),
        ("tcp://nobody.invalid:2375", ""),
    ] {
        let text = refused(at(address).start("web-1").await, "unreachable");
        let told = format!("the Docker host `{address}` cannot be reached: {why}");
        assert!(text.starts_with(&told), "{text}");
    }
}

#[tokio::test]
async fn an_error_in_the_lines_of_a_pull_a_push_or_a_build_is_an_error() {
    let line = r#"{"status":"Pulling"}
{"errorDetail":{"message":"Manifest for app:v1 not found: manifest unknown"},"error":"x"}
"#;
    let peer = Peer::new(move |_| json(200, line));
    let text = refused(docker(&peer).pull_image("app:v1").await, "not-found");
    assert!(text.starts_with("cannot pull the image `app:v1` on `unix://"), "{text}");
    assert!(text.ends_with("manifest for app:v1 not found: manifest unknown"), "{text}");

    let line = r#"{"stream":"Step 1/2 : FROM scratch\n"}
{"errorDetail":{"code":1,"message":"The command returned a non-zero code: 1"},"error":"x"}
"#;
    let peer = Peer::new(move |_| json(200, line));
    let options = BuildOptions { name: "built:v1".to_owned(), ..BuildOptions::default() };
    let (output, read) = gantry_engine::contract::end();
    let docker = docker(&peer);
    let build = docker.build_image(&options, Box::pin(Cursor::new(Vec::new())), output);
    let (built, told) = tokio::join!(build, read);
    let text = refused(built, "failed");
    assert!(text.ends_with("the command returned a non-zero code: 1"), "{text}");
    assert_eq!(told, "Step 1/2 : FROM scratch\n");

    let line = "{\"errorDetail\":{\"message\":\"unauthorized\"},\"error\":\"x\"}\n";
    let peer = Peer::new(move |_| json(200, line));
    let push = crate::docker(&peer).push_image("app:v1", Box::pin(tokio::io::sink())).await;
    refused(push, "failed");
}

#[tokio::test]
async fn a_stream_that_is_cut_says_so() {
    let cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                b\r\n\x01\0\0\0\0\0\0\x05hel\r\n"
        .to_vec();
    let peer = Peer::new(move |seen| match seen.path.ends_with("/json") {
        true => json(200, r#"{"Id":"0f","Config":{}}"#),
        false => Answer::Last(cut.clone()),
    });
    let docker = docker(&peer);
    let mut session = docker.logs("web-1", &follow()).await.unwrap();
    let first = session.chunks.next().await.unwrap().unwrap();
    assert_eq!(&first.bytes[..], b"hel");
    let error = session.chunks.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), "unreachable");
    assert!(session.chunks.next().await.is_none());
    let mut archive = docker.download("web-1", "/").await.unwrap();
    assert!(archive.read_to_end(&mut Vec::new()).await.is_err(), "half an archive is none");
}

#[tokio::test]
async fn a_command_whose_engine_dies_has_not_ended() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let peer = Peer::new(move |seen| match seen.path.as_str() {
        "/v1.41/containers/web-1/exec" => json(201, r#"{"Id":"00ff"}"#),
        "/v1.41/exec/00ff/start" => Answer::Last(
            b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".to_vec(),
        ),
        _ => match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => json(200, r#"{"Running":true}"#),
            _ => Answer::Last(Vec::new()),
        },
    });
    let docker = docker(&peer);
    let command = ExecOptions { command: vec!["ls".to_owned()], ..ExecOptions::default() };
    let exec = docker.create_exec("web-1", &command).await.unwrap();
    let (output, _read) = gantry_engine::contract::ends();
    refused(docker.start_exec(&exec, output).await, "unreachable");
}

#[tokio::test]
async fn a_copy_of_what_a_container_wrote_ends_although_its_stream_does_not() {
    use gantry_engine::call::ContainersCall;
    use gantry_engine::memory::Platform;
    use gantry_engine::{Call, Chain, Operation, Request, Scope};

    // It ends while somebody is attached, and the engine forgets to say so.
    let count = std::sync::atomic::AtomicU32::new(0);
    let peer = Peer::new(move |seen| {
        let state = match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0..=2 => r#""Status":"running","Running":true"#,
            _ => r#""Status":"exited","Running":false"#,
        };
        let labels = r#"{"gantry.owner":"docker","gantry.instance":"here"}"#;
        if seen.path.contains("/attach") {
            return Answer::Stuck(
                b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n\
                  \x01\0\0\0\0\0\0\x03out"
                    .to_vec(),
            );
        }
        if seen.path.contains("/logs") {
            let log = b"\x01\0\0\0\0\0\0\x03out\x01\0\0\0\0\0\0\x04rest".to_vec();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", log.len());
            return Answer::Bytes([head.into_bytes(), log].concat());
        }
        json(200, &format!(r#"{{"Id":"0f","State":{{{state}}},"Config":{{"Labels":{labels}}}}}"#))
    });
    let chain = Chain::new(Platform::new().backends("docker", [("here", docker(&peer))]));
    let operation = Operation::new("op", std::time::Duration::from_secs(60));
    let scope = std::sync::Arc::new(Scope::new("docker", "here", operation));
    for (logs, expected) in [(true, "outrest"), (false, "out")] {
        let call = ContainersCall::AttachCopy { id: "0f".to_owned(), logs };
        let call = Call::Containers { node: "here".to_owned(), call };
        let (output, read) = gantry_engine::contract::ends();
        let request = Request::new(call, None, Some(output));
        let (copied, (stdout, _)) = tokio::join!(chain.send(&scope, request), read);
        copied.unwrap();
        assert_eq!(stdout, expected);
    }
}

#[tokio::test]
async fn an_upload_whose_source_breaks_is_not_the_hosts_fault() {
    struct Broken;

    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Err(std::io::Error::other("the plugin went away")))
        }
    }

    let peer = Peer::new(|_| crate::peer::empty(200));
    let text = refused(docker(&peer).upload("web-1", "/", Box::pin(Broken)).await, "failed");
    assert!(text.contains("the plugin went away"), "{text}");
}
