//! What runs: commands, logs, ports and evictions.

use std::time::Duration;

use futures_util::StreamExt as _;
use gantry_engine::EngineError;
use gantry_engine::call::cluster::{Change, Kind, Patch, PodExecOptions, PodLogOptions, Selection};
use gantry_engine::contract::cluster::{Fixture, MARK, eventually, next, refused, run, word};
use gantry_engine::contract::read;
use gantry_engine::stream::{Chunk, Session, Size, Source};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::cluster;

macro_rules! live {
    ($($test:ident;)*) => {
        mod tests {
            $(
                #[tokio::test]
                async fn $test() {
                    if let Some(fixture) = super::cluster().await {
                        super::run(fixture, |fixture| Box::pin(super::$test(fixture))).await;
                    }
                }
            )*
        }
    };
}

live! {
    a_command_gives_its_output_and_its_exit_code;
    a_command_reads_its_input_to_the_end;
    a_command_moves_many_bytes_both_ways;
    a_command_with_a_terminal_has_its_size;
    an_unknown_command_is_not_found;
    a_command_that_is_killed_has_a_code;
    a_session_that_is_dropped_is_closed;
    a_log_has_its_last_lines_and_follows;
    a_log_of_the_life_before_is_told;
    a_container_that_waits_is_a_conflict;
    an_attached_process_reads_and_writes;
    a_port_answers_http;
    a_port_that_nobody_listens_on_is_unreachable;
    a_budget_forbids_an_eviction;
    an_evicted_pod_has_its_grace;
}

fn pods() -> Kind {
    Kind::new("v1", "Pod")
}

/// A pod that runs a line of shell, once that runs.
async fn pod(fixture: &Fixture, line: &str, more: Value) -> String {
    let name = made(fixture, line, more).await;
    eventually("the pod runs", || async {
        let found = fixture.cluster.get(&pods(), &fixture.namespace, &name).await.unwrap();
        found["status"]["phase"] == "Running"
            && found["status"]["containerStatuses"][0]["ready"] == true
    })
    .await;
    name
}

async fn made(fixture: &Fixture, line: &str, more: Value) -> String {
    eventually("the service account is there", || async {
        let kind = Kind::new("v1", "ServiceAccount");
        fixture.cluster.get(&kind, &fixture.namespace, "default").await.is_ok()
    })
    .await;
    let name = fixture.name();
    let mut object = fixture.object("Pod", &name);
    let mut container = json!({
        "name": "main", "image": "busybox:test", "command": ["/bin/sh", "-c", line],
    });
    for (key, value) in more.as_object().unwrap() {
        container[key] = value.clone();
    }
    object["spec"] = json!({
        "containers": [container], "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
    });
    fixture.created(&object).await;
    name
}

async fn sleeping(fixture: &Fixture) -> String {
    pod(fixture, "sleep 1000", json!({})).await
}

fn shell(line: &str) -> PodExecOptions {
    PodExecOptions {
        command: ["/bin/sh", "-c", line].map(ToOwned::to_owned).to_vec(),
        ..PodExecOptions::default()
    }
}

async fn exec(fixture: &Fixture, pod: &str, options: &PodExecOptions) -> Session {
    fixture.cluster.exec(&fixture.namespace, pod, options).await.unwrap()
}

async fn exit(session: &mut Session) -> Result<i32, EngineError> {
    session.exit.take().unwrap().await
}

/// Reads until a text has come.
async fn until(session: &mut Session, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let chunk = timeout(Duration::from_secs(30), session.chunks.next()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("no `{text}` in `{seen}`"));
        let Chunk { bytes, .. } = chunk.unwrap_or_else(|| panic!("it ended: {seen}")).unwrap();
        seen.push_str(&String::from_utf8_lossy(&bytes));
    }
    seen
}

async fn a_command_gives_its_output_and_its_exit_code(fixture: &Fixture) {
    let pod = sleeping(fixture).await;
    for (line, code) in [("true", 0), ("exit 7", 7), ("exit 255", 255)] {
        let line = format!("echo out; echo err >&2; {line}");
        let mut session = exec(fixture, &pod, &shell(&line)).await;
        assert!(session.input.is_none() && session.sizes.is_none());
        let end = session.exit.take().unwrap();
        assert_eq!(read(session).await, ("out\n".to_owned(), "err\n".to_owned()), "{line}");
        assert_eq!(end.await, Ok(code), "{line}");
    }
}

async fn a_command_reads_its_input_to_the_end(fixture: &Fixture) {
    let pod = sleeping(fixture).await;
    let options = PodExecOptions { stdin: true, ..shell("cat; echo end; exit 3") };
    let mut session = exec(fixture, &pod, &options).await;
    let mut input = session.input.take().unwrap();
    input.write_all(b"hello\n").await.unwrap();
    input.shutdown().await.unwrap();
    let end = session.exit.take().unwrap();
    assert_eq!(read(session).await.0, "hello\nend\n");
    assert_eq!(end.await, Ok(3));
}

async fn a_command_moves_many_bytes_both_ways(fixture: &Fixture) {
    let pod = sleeping(fixture).await;
    let options = PodExecOptions { stdin: true, ..shell("cat") };
    let mut session = exec(fixture, &pod, &options).await;
    let mut input = session.input.take().unwrap();
    let end = session.exit.take().unwrap();
    let bytes: Vec<u8> = (0..4_000_000_u32).map(|number| b'a' + (number % 23) as u8).collect();
    let sent = bytes.clone();
    let write = async move {
        input.write_all(&sent).await.unwrap();
        input.shutdown().await.unwrap();
    };
    let ((out, _), ()) = tokio::join!(read(session), write);
    assert!(out.as_bytes() == bytes, "{} bytes came back", out.len());
    assert_eq!(end.await, Ok(0));
}

async fn a_command_with_a_terminal_has_its_size(fixture: &Fixture) {
    let pod = sleeping(fixture).await;
    let line = "echo ready; while read word; do stty size; echo err >&2; done";
    let options = PodExecOptions { stdin: true, tty: true, ..shell(line) };
    let mut session = exec(fixture, &pod, &options).await;
    let sizes = session.sizes.clone().unwrap();
    let mut input = session.input.take().unwrap();
    until(&mut session, "ready").await;
    for (width, height) in [(80, 24), (132, 43)] {
        sizes.send(Size { width, height }).await.unwrap();
        let expected = format!("{height} {width}");
        // The size arrives beside the input, and not before it for sure.
        let mut seen = String::new();
        for _ in 0..20 {
            input.write_all(b"\n").await.unwrap();
            seen = until(&mut session, "err").await;
            if seen.contains(&expected) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(seen.contains(&expected), "{seen}");
    }
    // The end of a terminal's input is a byte of it.
    input.write_all(&[4]).await.unwrap();
    while let Some(chunk) = session.chunks.next().await {
        assert_eq!(chunk.unwrap().source, Source::Stdout, "with a terminal there is one stream");
    }
    assert!(exit(&mut session).await.is_ok());
}

async fn an_unknown_command_is_not_found(fixture: &Fixture) {
    let pod = sleeping(fixture).await;
    let options = PodExecOptions {
        command: vec!["/no/such/program".to_owned()],
        ..PodExecOptions::default()
    };
    let mut session = exec(fixture, &pod, &options).await;
    while session.chunks.next().await.is_some() {}
    refused(exit(&mut session).await, "not-found");
}

async fn a_command_that_is_killed_has_a_code(fixture: &Fixture) {
    let pod = sleeping(fixture).await;
    let mut session = exec(fixture, &pod, &shell("kill -9 $$")).await;
    while session.chunks.next().await.is_some() {}
    assert_eq!(exit(&mut session).await, Ok(137));
    // And one whose pod goes has one, or an error: never 0.
    let mut session = exec(fixture, &pod, &shell("sleep 1000")).await;
    fixture.cluster.evict(&fixture.namespace, &pod, Some(0)).await.unwrap();
    while session.chunks.next().await.is_some() {}
    assert_ne!(exit(&mut session).await, Ok(0));
}

async fn a_session_that_is_dropped_is_closed(fixture: &Fixture) {
    let pod = sleeping(fixture).await;
    let options = PodExecOptions { stdin: true, ..shell("echo ready; cat; touch /tmp/closed") };
    let mut session = exec(fixture, &pod, &options).await;
    until(&mut session, "ready").await;
    drop(session);
    eventually("its input ends", || async {
        let mut look = exec(fixture, &pod, &shell("test -e /tmp/closed")).await;
        while look.chunks.next().await.is_some() {}
        exit(&mut look).await == Ok(0)
    })
    .await;
}

async fn a_log_has_its_last_lines_and_follows(fixture: &Fixture) {
    let line = "for i in 1 2 3 4 5; do echo line $i; done; read word </tmp/go; echo $word; exit 0";
    let line = format!("mkfifo /tmp/go; {line}");
    let pod = pod(fixture, &line, json!({})).await;
    let (cluster, namespace) = (&fixture.cluster, &fixture.namespace);
    let options = PodLogOptions { lines: 2, ..PodLogOptions::default() };
    eventually("the log is there", || async {
        let log = cluster.logs(namespace, &pod, &options).await.unwrap();
        read(log).await.0 == "line 4\nline 5\n"
    })
    .await;
    let all = PodLogOptions { lines: u32::MAX, timestamps: true, ..PodLogOptions::default() };
    let text = read(cluster.logs(namespace, &pod, &all).await.unwrap()).await.0;
    assert_eq!(text.lines().count(), 5);
    for line in text.lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(
            time.starts_with("20") && time.contains('T') && rest.starts_with("line "),
            "{line}"
        );
    }
    let none = PodLogOptions { lines: 0, ..PodLogOptions::default() };
    assert_eq!(read(cluster.logs(namespace, &pod, &none).await.unwrap()).await.0, "");
    let follow = PodLogOptions { lines: 1, follow: true, ..PodLogOptions::default() };
    let mut session = cluster.logs(namespace, &pod, &follow).await.unwrap();
    assert_eq!(until(&mut session, "line 5\n").await, "line 5\n");
    let mut go = exec(fixture, &pod, &shell("echo more >/tmp/go")).await;
    while go.chunks.next().await.is_some() {}
    // A follower's log ends with its container.
    assert_eq!(read(session).await.0, "more\n");
}

async fn a_log_of_the_life_before_is_told(fixture: &Fixture) {
    let (cluster, namespace) = (&fixture.cluster, &fixture.namespace);
    let line = "echo life; mkfifo /tmp/go; read word </tmp/go";
    let pod = pod(fixture, line, json!({})).await;
    let before = PodLogOptions { lines: 10, previous: true, ..PodLogOptions::default() };
    refused(cluster.logs(namespace, &pod, &before).await.map(|_| ()), "not-found");
    let mut go = exec(fixture, &pod, &shell("echo >/tmp/go")).await;
    while go.chunks.next().await.is_some() {}
    eventually("the container lives again", || async {
        match cluster.logs(namespace, &pod, &before).await {
            Ok(log) => read(log).await.0 == "life\n",
            Err(_) => false,
        }
    })
    .await;
}

async fn a_container_that_waits_is_a_conflict(fixture: &Fixture) {
    let (cluster, namespace) = (&fixture.cluster, &fixture.namespace);
    let more = json!({"image": "no-such-image:test", "imagePullPolicy": "Never"});
    let pod = made(fixture, "true", more).await;
    eventually("the pod has a node", || async {
        let found = cluster.get(&pods(), namespace, &pod).await.unwrap();
        found.pointer("/status/containerStatuses/0/state/waiting").is_some()
    })
    .await;
    let options = PodLogOptions { lines: 1, ..PodLogOptions::default() };
    let told = refused(cluster.logs(namespace, &pod, &options).await.map(|_| ()), "conflict");
    assert!(told.contains("waiting to start"), "{told}");
}

async fn an_attached_process_reads_and_writes(fixture: &Fixture) {
    let more = json!({"stdin": true, "stdinOnce": true});
    let line = "while read word; do echo got $word; echo err >&2; done; echo bye";
    let pod = pod(fixture, line, more).await;
    let options = PodExecOptions { stdin: true, ..PodExecOptions::default() };
    let mut session = fixture.cluster.attach(&fixture.namespace, &pod, &options).await.unwrap();
    assert!(session.exit.is_none(), "it is no command of ours");
    let mut input = session.input.take().unwrap();
    input.write_all(b"hello\n").await.unwrap();
    until(&mut session, "got hello").await;
    input.shutdown().await.unwrap();
    let (out, _) = timeout(Duration::from_secs(60), read(session)).await.unwrap();
    assert!(out.ends_with("bye\n"), "{out}");
}

async fn a_port_answers_http(fixture: &Fixture) {
    let line = "mkdir -p /www && echo hello >/www/index.html && httpd -f -p 8888 -h /www";
    let pod = pod(fixture, line, json!({})).await;
    let (cluster, namespace) = (&fixture.cluster, &fixture.namespace);
    let mut last = String::new();
    for _ in 0..100 {
        let mut session = cluster.port_forward(namespace, &pod, 8888).await.unwrap();
        let mut input = session.input.take().unwrap();
        input.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await.unwrap();
        last.clear();
        while let Some(chunk) = session.chunks.next().await {
            match chunk {
                Ok(chunk) => last.push_str(&String::from_utf8_lossy(&chunk.bytes)),
                // It does not listen yet.
                Err(error) => last.push_str(&format!("[{error}]")),
            }
        }
        if last.contains(" 200 OK") && last.ends_with("hello\n") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no answer: {last}");
}

async fn a_port_that_nobody_listens_on_is_unreachable(fixture: &Fixture) {
    let pod = sleeping(fixture).await;
    let mut session = fixture.cluster.port_forward(&fixture.namespace, &pod, 81).await.unwrap();
    let mut input = session.input.take().unwrap();
    // A port is tried when there is something to send.
    let _ = input.write_all(b"hello").await;
    let chunk = timeout(Duration::from_secs(60), session.chunks.next()).await.unwrap();
    let told = refused(chunk.unwrap(), "unreachable");
    assert!(told.contains("81"), "{told}");
}

async fn a_budget_forbids_an_eviction(fixture: &Fixture) {
    let (cluster, namespace) = (&fixture.cluster, &fixture.namespace);
    let pod = sleeping(fixture).await;
    let mut budget = fixture.object("PodDisruptionBudget", "all");
    budget["apiVersion"] = json!("policy/v1");
    budget["spec"] = json!({
        "minAvailable": 1,
        "selector": {"matchLabels": {MARK: namespace}},
    });
    let kind = Kind::new("policy/v1", "PodDisruptionBudget");
    fixture.created(&budget).await;
    eventually("the budget counts", || async {
        let found = cluster.get(&kind, namespace, "all").await.unwrap();
        found["status"]["currentHealthy"] == 1
    })
    .await;
    let told = refused(cluster.evict(namespace, &pod, None).await, "too-many-requests");
    assert!(told.contains("disruption budget"), "{told}");
    let patch = Patch::Merge(json!({"spec": {"minAvailable": 0}}));
    cluster.patch(&kind, namespace, "all", "", &patch, false).await.unwrap();
    eventually("the eviction is allowed", || async {
        cluster.evict(namespace, &pod, Some(0)).await.is_ok()
    })
    .await;
}

async fn an_evicted_pod_has_its_grace(fixture: &Fixture) {
    let (cluster, namespace) = (&fixture.cluster, &fixture.namespace);
    let pod = sleeping(fixture).await;
    let selection = Selection { fields: format!("metadata.name={pod}"), ..fixture.mine() };
    let mut changes = cluster.watch(&pods(), &selection).await.unwrap();
    cluster.evict(namespace, &pod, Some(3)).await.unwrap();
    loop {
        match next(&mut changes).await {
            Change::Applied(object) if !word(&object, "deletionTimestamp").is_empty() => {
                assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 3);
                break;
            }
            _ => {}
        }
    }
}
