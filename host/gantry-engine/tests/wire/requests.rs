//! What is sent.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use gantry_core::container::{ContainerSpec, LogConfig, PortBinding, RestartPolicy};
use gantry_engine::Containers as _;
use gantry_engine::call::{BuildOptions, ExecOptions, LogOptions};
use gantry_engine::docker::{Auth, Docker, Timeouts};
use gantry_engine::stream::Output;
use serde_json::{Value, json};

use crate::peer::{Answer, Peer, Seen, empty, json as document, version};
use crate::{docker, refused};

#[tokio::test]
async fn the_version_is_agreed_on_once_and_is_in_every_path() {
    for (newest, oldest, spoken) in
        [("1.41", "1.12", "1.41"), ("1.47", "1.24", "1.47"), ("1.99", "1.44", "1.51")]
    {
        let peer = Peer::raw(move |seen| match seen.path.as_str() {
            "/version" => version(newest, oldest),
            _ => document(200, "[]"),
        });
        let docker = docker(&peer);
        let none = BTreeMap::new();
        for answer in join_all((0..5).map(|_| docker.list(true, &none))).await {
            answer.unwrap();
        }
        let lines = peer.lines();
        assert_eq!(lines.iter().filter(|line| *line == "GET /version").count(), 1, "{lines:?}");
        let rest = lines.iter().filter(|line| line.starts_with(&format!("GET /v{spoken}/")));
        assert_eq!(rest.count(), 5, "{lines:?}");
        assert_eq!(docker.api_version().await.unwrap().to_string(), spoken);
    }
}

#[tokio::test]
async fn an_engine_that_is_too_old_or_too_new_is_refused() {
    for (newest, oldest, told) in [
        ("1.40", "1.12", "speaks API 1.40 only, and at least 1.41 is needed (Docker 20.10)"),
        ("2.3", "2.0", "speaks API 2.0 and newer only, and 1.51 is the newest known here"),
    ] {
        let peer = Peer::raw(move |_| version(newest, oldest));
        let docker = docker(&peer);
        for _ in 0..2 {
            let text = refused(docker.inspect("web-1").await, "failed");
            assert_eq!(text, format!("the Docker host `{}` {told}", peer.address()));
        }
        assert!(peer.lines().iter().all(|line| line == "GET /version"));
    }
}

#[tokio::test]
async fn connections_are_kept() {
    let peer = Peer::new(|_| document(200, "[]"));
    let docker = docker(&peer);
    for _ in 0..20 {
        docker.list(true, &BTreeMap::new()).await.unwrap();
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_create_sends_what_was_asked_for_and_nothing_else() {
    let peer = Peer::new(|_| document(201, r#"{"Id":"0f0f","Warnings":["low memory"]}"#));
    let mut spec = ContainerSpec {
        image: "app:v1".to_owned(),
        cmd: Some(vec!["/bin/sh".to_owned(), "-lc".to_owned(), "exec serve".to_owned()]),
        entrypoint: Some(Vec::new()),
        env: vec!["A=1".to_owned()],
        labels: [("app-name".to_owned(), "web".to_owned())].into(),
        exposed_ports: [("8888/tcp".to_owned(), Default::default())].into(),
        user: "ubuntu".to_owned(),
        ..ContainerSpec::default()
    };
    let host = &mut spec.host_config;
    (host.memory, host.memory_swap, host.cpu_shares) = (1024, 2048, 512);
    host.restart_policy = RestartPolicy { name: "always".to_owned(), maximum_retry_count: 0 };
    host.port_bindings.insert("8888/tcp".to_owned(), vec![PortBinding::default()]);
    host.log_config = Some(LogConfig {
        driver: "json-file".to_owned(),
        options: [("max-size".to_owned(), "1m".to_owned())].into(),
    });
    assert_eq!(docker(&peer).create("web-1", &spec).await.unwrap(), "0f0f");
    let [seen]: [Seen; 1] = peer.seen().try_into().unwrap();
    assert_eq!(seen.line(), "POST /v1.41/containers/create?name=web-1&platform=");
    assert_eq!(
        serde_json::from_slice::<Value>(&seen.body).unwrap(),
        json!({
            "Image": "app:v1",
            "Cmd": ["/bin/sh", "-lc", "exec serve"],
            "Entrypoint": [],
            "Env": ["A=1"],
            "Labels": {"app-name": "web"},
            "ExposedPorts": {"8888/tcp": {}},
            "User": "ubuntu",
            "HostConfig": {
                "Memory": 1024,
                "MemorySwap": 2048,
                "CpuShares": 512,
                "RestartPolicy": {"Name": "always"},
                "PortBindings": {"8888/tcp": [{"HostIp": "", "HostPort": ""}]},
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            },
        })
    );
}

#[tokio::test]
async fn each_call_is_dockers_own() {
    let peer = Peer::new(|seen| match seen.path.as_str() {
        path if path.contains("/json?") => document(200, "[]"),
        path if path.starts_with("/v1.41/commit") => document(201, r#"{"Id":"sha256:00"}"#),
        path if path.ends_with("/history") => document(200, "[]"),
        path if path.contains("/exec") && path.ends_with("/web-1/exec") => {
            document(201, r#"{"Id":"00ff"}"#)
        }
        path if path.ends_with("/00ff/json") => document(200, r#"{"Running":false,"ExitCode":3}"#),
        _ if seen.method == "DELETE" && seen.path.contains("/images/") => document(200, "[]"),
        _ => empty(204),
    });
    let docker = docker(&peer);
    let labels: BTreeMap<_, _> =
        [("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())].into();
    docker.list(true, &labels).await.unwrap();
    docker.start("web-1").await.unwrap();
    docker.stop("web-1", 7).await.unwrap();
    docker.remove("web-1", true).await.unwrap();
    docker.commit("web-1", "made", "v1", "a b", &labels).await.unwrap();
    docker.tag_image("made:v1", "h:1/other", "v2").await.unwrap();
    docker.remove_image("h:1/other:v2").await.unwrap();
    docker.image_history("made:v1").await.unwrap();
    let command = ExecOptions {
        command: vec!["ls".to_owned()],
        env: vec![("A".to_owned(), "1".to_owned())],
        tty: true,
        ..ExecOptions::default()
    };
    assert_eq!(docker.create_exec("web-1", &command).await.unwrap(), "00ff");
    docker.resize_exec("00ff", 33, 44).await.unwrap();
    assert_eq!(docker.inspect_exec("00ff").await.unwrap().exit_code, Some(3));
    let lines: Vec<String> = peer.seen().iter().map(Seen::line).collect();
    let filters = "%7B%22label%22%3A%5B%22a%3D1%22%2C%22b%22%5D%7D";
    assert_eq!(
        lines,
        [
            &format!("GET /v1.41/containers/json?all=true&size=false&filters={filters}"),
            "POST /v1.41/containers/web-1/start",
            "POST /v1.41/containers/web-1/stop?t=7",
            "DELETE /v1.41/containers/web-1?v=true&force=true&link=false",
            "POST /v1.41/commit?container=web-1&repo=made&tag=v1&comment=a+b&pause=true",
            "POST /v1.41/images/made:v1/tag?repo=h%3A1%2Fother&tag=v2",
            "DELETE /v1.41/images/h:1/other:v2",
            "GET /v1.41/images/made:v1/history",
            "POST /v1.41/containers/web-1/exec",
            "POST /v1.41/exec/00ff/resize?h=33&w=44",
            "GET /v1.41/exec/00ff/json",
        ]
    );
    let body = |index: usize| serde_json::from_slice::<Value>(&peer.seen()[index].body).unwrap();
    assert_eq!(body(4), json!({"Labels": {"a": "1", "b": ""}}));
    assert_eq!(
        body(8),
        json!({
            "AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "Tty": true,
            "Cmd": ["ls"], "Env": ["A=1"],
        })
    );
}

#[tokio::test]
async fn what_changes_nothing_is_a_success() {
    let peer = Peer::new(|seen| match seen.method.as_str() {
        "DELETE" => crate::peer::refusal(404, "No such container: web-1"),
        _ => empty(304),
    });
    let docker = docker(&peer);
    docker.start("web-1").await.unwrap();
    docker.stop("web-1", 1).await.unwrap();
    docker.remove("web-1", false).await.unwrap();
    docker.remove_image("app:v1").await.unwrap();
}

#[tokio::test]
async fn a_removal_under_way_is_waited_for() {
    let peer = Peer::new(|seen| match seen.method.as_str() {
        "DELETE" => crate::peer::refusal(409, "removal of container web-1 is already in progress"),
        _ => document(200, r#"{"StatusCode":137}"#),
    });
    docker(&peer).remove("web-1", true).await.unwrap();
    assert_eq!(peer.seen()[1].line(), "POST /v1.41/containers/web-1/wait?condition=removed");
}

#[tokio::test]
async fn a_pull_asks_for_one_image_and_shows_the_password_of_its_registry() {
    let peer = Peer::new(|_| document(200, r#"{"status":"done"}"#));
    // Its base64 has both letters that differ between the two alphabets.
    let auth = Auth::none().with("registry.example", "ann", "\u{fbff}\u{fbff}>>>???~~~");
    let docker = Docker::with(peer.endpoint(), auth, Timeouts::default()).unwrap();
    for image in
        ["busybox", "registry.example/app:v1", "registry.example:5000/app", "app@sha256:00ff"]
    {
        docker.pull_image(image).await.unwrap();
    }
    let seen = peer.seen();
    let lines: Vec<String> = seen.iter().map(Seen::line).collect();
    let query = |line: &String| {
        let pairs = line.split_once('?').unwrap().1.split('&');
        let mut kept: Vec<&str> = pairs.filter(|pair| !pair.ends_with('=')).collect();
        kept.sort_unstable();
        kept.join("&")
    };
    let queries: Vec<String> = lines.iter().map(query).collect();
    assert_eq!(
        queries,
        [
            "fromImage=busybox&tag=latest",
            "fromImage=registry.example%2Fapp&tag=v1",
            "fromImage=registry.example%3A5000%2Fapp&tag=latest",
            "fromImage=app&tag=sha256%3A00ff",
        ]
    );
    let shown: Vec<bool> =
        seen.iter().map(|seen| seen.header("x-registry-auth").is_some()).collect();
    assert_eq!(shown, [false, true, false, false]);
    let header = seen[1].header("x-registry-auth").unwrap();
    assert!(header.contains(['-', '_']) && !header.contains(['+', '/']), "{header}");
}

#[tokio::test]
async fn a_build_sends_its_context_and_its_options() {
    let peer = Peer::new(|_| {
        document(200, "{\"stream\":\"Step 1/1 : FROM scratch\\n\"}\r\n{\"stream\":\"done\\n\"}\r\n")
    });
    let options = BuildOptions {
        name: "built:v1".to_owned(),
        args: [("A".to_owned(), "1".to_owned())].into(),
        cache: true,
        ..BuildOptions::default()
    };
    let context = vec![9_u8; 300_000];
    let (output, read) = gantry_engine::contract::end();
    let docker = docker(&peer);
    let build = docker.build_image(&options, Box::pin(Cursor::new(context.clone())), output);
    let (built, told) = tokio::join!(build, read);
    built.unwrap();
    assert_eq!(told, "Step 1/1 : FROM scratch\ndone\n");
    let [seen]: [Seen; 1] = peer.seen().try_into().unwrap();
    for part in
        ["t=built%3Av1", "dockerfile=Dockerfile", "nocache=false", "rm=true", "forcerm=true"]
    {
        assert!(seen.path.contains(part), "{part}: {}", seen.path);
    }
    assert!(seen.path.contains("buildargs=%7B%22A%22%3A%221%22%7D"), "{}", seen.path);
    assert_eq!(seen.body, context);
}

#[tokio::test]
async fn a_log_is_asked_for_by_its_options() {
    let frame = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n\x02\0\0\0\0\0\0\x02no".to_vec();
    let peer = Peer::new(move |seen| match seen.path.ends_with("/json") {
        true => document(200, r#"{"Id":"0f","Config":{"Tty":false}}"#),
        false => Answer::Bytes(frame.clone()),
    });
    let options = LogOptions { lines: 5, follow: true, timestamps: true };
    let session = docker(&peer).logs("web-1", &options).await.unwrap();
    let read = gantry_engine::contract::read(session).await;
    assert_eq!(read, (String::new(), "no".to_owned()));
    assert_eq!(
        peer.seen()[1].line(),
        "GET /v1.41/containers/web-1/logs?stdout=1&stderr=1&follow=1&timestamps=1&tail=5"
    );
}

#[tokio::test]
async fn a_command_is_read_to_its_end_and_its_end_is_waited_for() {
    let inspections = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&inspections);
    let peer = Peer::new(move |seen| match seen.path.as_str() {
        "/v1.41/containers/web-1/exec" => document(201, r#"{"Id":"00ff"}"#),
        "/v1.41/exec/00ff/start" => Answer::Last(
            b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n\
              \x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x03err"
                .to_vec(),
        ),
        // It runs on for a while after its ends are closed.
        _ => match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0..3 => document(200, r#"{"Running":true,"ExitCode":null}"#),
            _ => document(200, r#"{"Running":false,"ExitCode":0}"#),
        },
    });
    let docker = docker(&peer);
    let command = ExecOptions { command: vec!["ls".to_owned()], ..ExecOptions::default() };
    let exec = docker.create_exec("web-1", &command).await.unwrap();
    let (output, read) = gantry_engine::contract::ends();
    let (ran, told) = tokio::join!(docker.start_exec(&exec, output), read);
    ran.unwrap();
    assert_eq!(told, ("out".to_owned(), "err".to_owned()));
    assert_eq!(inspections.load(std::sync::atomic::Ordering::Relaxed), 4);
    let start = &peer.seen()[1];
    assert_eq!(start.header("upgrade"), Some("tcp"));
    assert_eq!(start.body, br#"{"Detach":false,"Tty":false}"#);
}

#[tokio::test]
async fn output_nobody_reads_does_not_stop_a_command() {
    let peer = Peer::new(|seen| match seen.path.as_str() {
        "/v1.41/containers/web-1/exec" => document(201, r#"{"Id":"00ff"}"#),
        "/v1.41/exec/00ff/start" => Answer::Last(
            b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n\
              \x01\0\0\0\0\0\0\x03out"
                .to_vec(),
        ),
        _ => document(200, r#"{"Running":false,"ExitCode":0}"#),
    });
    let docker = docker(&peer);
    let command = ExecOptions { command: vec!["ls".to_owned()], ..ExecOptions::default() };
    let exec = docker.create_exec("web-1", &command).await.unwrap();
    let (gone, _) = tokio::io::duplex(1);
    let output = Output { stdout: Box::pin(gone), stderr: Box::pin(tokio::io::sink()) };
    docker.start_exec(&exec, output).await.unwrap();
}

#[tokio::test]
async fn a_session_has_a_keeper_that_knows_its_command_and_keeps_no_key_back() {
    let peer = Peer::new(|seen| match seen.path.as_str() {
        "/v1.41/containers/web-1/exec" => document(201, r#"{"Id":"00ff"}"#),
        "/v1.41/exec/00ff/start" => Answer::Last(
            b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n$ ".to_vec(),
        ),
        _ => document(200, r#"{"Running":false,"ExitCode":7,"Pid":12}"#),
    });
    let docker = docker(&peer);
    let options = ExecOptions {
        command: vec!["sh".to_owned()],
        user: "me".to_owned(),
        tty: true,
        stdin: true,
        ..ExecOptions::default()
    };
    let mut session = docker.exec_session("web-1", &options).await.unwrap();
    assert_eq!(session.chunks.next().await.unwrap().unwrap().bytes, "$ ");
    assert!(session.chunks.next().await.is_none());
    assert_eq!(session.exit.unwrap().await.unwrap(), 7);

    let seen = peer.seen();
    let body = |index: usize| serde_json::from_slice::<Value>(&seen[index].body).unwrap();
    let (keeper, command) = (body(0), body(2));
    assert_eq!((&keeper["Tty"], &keeper["AttachStdin"]), (&json!(false), &json!(true)));
    assert_eq!((&keeper["User"], &command["User"]), (&json!("me"), &json!("me")));
    let mark = keeper["Cmd"][3].as_str().unwrap();
    assert_eq!(command["Env"], json!([mark]));
    assert_eq!(keeper["Env"], Value::Null, "or it would take itself for its command");
    assert_eq!(command["Cmd"], json!(["sh"]));
    let keys = command["DetachKeys"].as_str().unwrap();
    assert!(!keys.is_empty() && !keys.contains("ctrl-p"), "{keys}");
    assert_eq!(body(3), json!({"Detach": false, "Tty": true}));
}
