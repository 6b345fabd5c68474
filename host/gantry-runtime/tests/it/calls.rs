//! What passes between a caller and a plugin.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_core::Error;
use gantry_engine::stream::Stream;
use gantry_engine::{Chain, Layer, Next, Reply, Request, Response, Scope};
use gantry_runtime::{Cause, LogsEnabled};

use crate::world::{IMAGE, With, World, app, eventually, key, operation, plain, question, shown};

/// A writer that keeps what is written.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    pub(crate) fn writer(&self) -> gantry_engine::stream::Writer {
        Box::pin(self.clone())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl tokio::io::AsyncWrite for Kept {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_reaches_the_plugin() {
    let world = World::new();
    let noop = world.provisioner("noop", plain()).await;
    let op = operation("op");
    noop.provision(&op, &app()).await.unwrap();
    noop.add_units(&op, &app(), 1, "web").await.unwrap();
    noop.remove_units(&op, &app(), 1, "web").await.unwrap();
    noop.restart(&op, &app(), "").await.unwrap();
    noop.start(&op, &app(), "").await.unwrap();
    noop.stop(&op, &app(), "").await.unwrap();
    assert_eq!(noop.units(&question(), &[app()]).await.unwrap(), []);
    assert_eq!(noop.routable_addresses(&question(), &app()).await.unwrap(), [""; 0]);
    noop.register_unit(&op, &app(), "id", Some("{}")).await.unwrap();
    noop.destroy(&op, &app()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_ability_is_told_in_the_words_of_the_contract() {
    let world = World::new();
    let noop = world.provisioner("noop", plain()).await;
    let op = operation("op");
    let told = noop.deploy(&op, &app(), "image").await.unwrap_err();
    assert_eq!(told.to_string(), "provisioner \"acme\" does not support image deploy");
    let told = noop.rollback(&op, &app(), "image").await.unwrap_err();
    assert_eq!(told.to_string(), "provisioner \"acme\" does not support rollback deploy");
    let kept = Kept::default();
    let told =
        noop.execute(&op, &app(), "ls", &[], kept.writer(), kept.writer()).await.unwrap_err();
    assert_eq!(told.to_string(), "provisioner \"acme\" does not support running commands");
    let told = noop.tail(&question(), &app(), &Default::default()).await.unwrap_err();
    assert_eq!(told.to_string(), "provisioner \"acme\" does not support showing logs");
    // What is optional and has a default is no error (spec 2.2).
    let enabled = LogsEnabled { enabled: true, doc: String::new() };
    assert_eq!(noop.logs_enabled(&question(), &app()).await.unwrap(), enabled);
    noop.initialise(&op).await.unwrap();
    assert_eq!(noop.startup_message(&question()).await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_writes_to_its_caller_and_gives_its_code() {
    let world = World::new();
    let echo = world.provisioner("echo", plain()).await;
    let (stdout, stderr) = (Kept::default(), Kept::default());
    let args = ["two".to_owned(), "words".to_owned(), "7".to_owned()];
    let code = echo
        .execute(&operation("op"), &app(), "say", &args, stdout.writer(), stderr.writer())
        .await
        .unwrap();
    assert_eq!(code, 7);
    assert_eq!(stdout.text(), "two words 7\n");
    assert_eq!(stderr.text(), "execute say\n");
    let ends = || (Kept::default().writer(), stderr.writer());
    let (out, err) = ends();
    assert_eq!(echo.execute_once(&operation("op"), &app(), "a", &[], out, err).await.unwrap(), 0);
    let (out, err) = ends();
    assert_eq!(
        echo.execute_isolated(&operation("op"), &app(), "b", &[], out, err).await.unwrap(),
        0
    );
    assert_eq!(stderr.text(), "execute say\nexecute-once a\nexecute-isolated b\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugins_own_error_comes_whole_and_is_no_death() {
    let world = World::new();
    let liar = world.provisioner("liar", plain()).await;
    let op = operation("op");
    let told = liar.remove_units(&op, &app(), 1, "").await.unwrap_err();
    assert!(!told.is_death());
    assert_eq!(told.cause, Cause::Plugin(Error::QuotaExceeded { available: 0, requested: 0 }));
    let told = liar.register_unit(&op, &app(), "x", None).await.unwrap_err();
    assert_eq!(told.to_string(), "unit \"another\" not found");
    let told = liar.stop(&op, &app(), "").await.unwrap_err();
    assert_eq!(told.to_string(), "provisioner \"acme\" does not support stopping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_garbage_error_is_bounded_and_the_host_serves_on() {
    let world = World::new();
    let liar = world.provisioner("liar", plain()).await;
    let op = operation("op");
    let Cause::Plugin(Error::Other(text)) = liar.provision(&op, &app()).await.unwrap_err().cause
    else {
        panic!("not the plugin's own error");
    };
    assert!(text.contains("all is well"));
    let Cause::Plugin(Error::UnitStartup(text)) =
        liar.destroy(&op, &app()).await.unwrap_err().cause
    else {
        panic!("not the plugin's own error");
    };
    assert!(text.len() <= 16 << 10, "a mebibyte of text was cut to {}", text.len());
    world.serves_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_without_end_end() {
    let world = World::new();
    let liar = world.provisioner("liar", plain()).await;
    let error = liar.units(&question(), &[app()]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the plugin trapped: `provisioner.units` says that `more` comes after `more`"
    );
    let error = liar.nodes(&question(), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the plugin trapped: `nodes.list` says that `more` comes after `more`"
    );
    world.serves_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_system_and_the_network_are_empty() {
    let world = World::new();
    for guest in ["wasi_files", "wasi_sockets"] {
        let error = world.failure(guest, plain()).await;
        let Cause::Plugin(Error::Other(told)) = error.cause else {
            panic!("`{guest}` reached something: {error:?}");
        };
        println!("{guest}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_and_output_reach_those_who_wait() {
    let world = World::new();
    let with = plain().config(serde_json::json!({"through": "output", "lines": "3"}));
    let chatter = world.provisioner("chatter", with).await;
    let (operation, lines) = shown("op");
    chatter.provision(&operation, &app()).await.unwrap();
    assert_eq!(lines.text(), "line 0\nline 1\nline 2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_keys_outlive_the_call_and_are_the_provisioners_own() {
    let world = World::new();
    let state = world.provisioner("state", plain()).await;
    let ask = async |command: &str, question: &str| {
        let (stdout, stderr) = (Kept::default(), Kept::default());
        let args = [question.to_owned()];
        state
            .execute(&operation("op"), &app(), command, &args, stdout.writer(), stderr.writer())
            .await
            .map(|_| stdout.text())
    };
    assert_eq!(ask("get", r#"{"key": "a"}"#).await.unwrap(), r#"{"entry":null}"#);
    ask("put-if", r#"{"key": "a", "value": "1", "expected": null}"#).await.unwrap();
    let entry = ask("get", r#"{"key": "a"}"#).await.unwrap();
    assert!(entry.contains(r#""value":"1""#), "{entry}");
    let error = ask("put-if", r#"{"key": "a", "value": "2", "expected": null}"#).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Plugin(Error::Conflict(_))), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_of_somebody_else_is_out_of_reach() {
    let world = World::new();
    use gantry_engine::Containers as _;
    let spec = gantry_core::container::ContainerSpec { image: IMAGE.into(), ..Default::default() };
    world.memory.create("theirs", &spec).await.unwrap();
    for attempt in ["inspect", "stop", "remove", "exec", "batch-remove"] {
        let config = serde_json::json!({"attempt": attempt, "target": "theirs"});
        let error = world.failure("foreign", plain().config(config)).await;
        let Cause::Plugin(Error::Denied(text)) = &error.cause else {
            panic!("{attempt}: {error:?}");
        };
        assert!(text.contains("containers:foreign"), "{attempt}: {text}");
    }
    let config = key("attempt", "privileged");
    let error = world.failure("foreign", plain().config(config)).await;
    assert!(error.to_string().contains("containers:privileged"), "{error}");
    let config = key("attempt", "unknown-field");
    let error = world.failure("foreign", plain().config(config)).await;
    assert!(error.to_string().contains("Devices"), "{error}");
    assert_eq!(world.names().await, ["theirs"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_end_in_the_order_they_end_and_more_may_follow() {
    let world = World::new();
    let plugin = world.provisioner("side_by_side", plain()).await;
    let (operation, lines) = shown("op");
    plugin.provision(&operation, &app()).await.unwrap();
    assert_eq!(lines.text(), "2 3 1 0 ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_batch_begins_no_further_step() {
    let world = World::new();
    let plugin = world.provisioner("side_by_side", plain()).await;
    plugin.destroy(&operation("op"), &app()).await.unwrap();
    assert_eq!(world.names().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_step_that_fails_ends_its_sequence() {
    let world = World::new();
    let plugin = world.provisioner("side_by_side", plain()).await;
    let (operation, lines) = shown("op");
    plugin.restart(&operation, &app(), "").await.unwrap();
    assert_eq!(lines.text(), "1 replies, failed: true");
}

/// An engine that takes its time for a create, and whose downloads never end.
#[derive(Default)]
struct Patient {
    asked: AtomicBool,
}

#[async_trait::async_trait]
impl Layer for Patient {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, gantry_engine::Error> {
        match request.call.name() {
            "containers.create" => {
                self.asked.store(true, Ordering::Release);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            "containers.download" => {
                self.asked.store(true, Ordering::Release);
                let (reader, writer) = tokio::io::duplex(1);
                std::mem::forget(writer);
                let stream = Some(Stream::Reader(Box::pin(reader)));
                return Ok(Response { reply: Reply::Done, stream });
            }
            _ => {}
        }
        next.send(scope, request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_cancelled_begins_no_further_step() {
    let mut world = World::new();
    let patient = Arc::new(Patient::default());
    world.chain = Chain::with(world.chain.backends().clone(), vec![Arc::clone(&patient) as _]);
    // One step at a time: the other sequence waits for its turn.
    let with = With::bounds([("host-calls-in-flight", "2")]);
    let plugin = world.provisioner("side_by_side", with).await;
    let (operation, lines) = shown("op");
    let cancel = operation.cancel.clone();
    let call = tokio::spawn(async move { plugin.stop(&operation, &app(), "").await });
    eventually("the create", async || patient.asked.load(Ordering::Acquire)).await;
    cancel.cancel();
    call.await.unwrap().unwrap();
    let text = lines.text();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("Cancelled"), "{text}");
    assert_eq!(world.names().await.len(), 1, "only what was under way ended: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_in_a_batch_returns_when_the_call_is_cancelled() {
    let mut world = World::new();
    let patient = Arc::new(Patient::default());
    world.chain = Chain::with(world.chain.backends().clone(), vec![Arc::clone(&patient) as _]);
    let plugin = world.provisioner("side_by_side", plain()).await;
    plugin.register_unit(&operation("first"), &app(), "1", None).await.unwrap();
    patient.asked.store(false, Ordering::Release);
    let (operation, lines) = shown("op");
    let cancel = operation.cancel.clone();
    let call = tokio::spawn(async move { plugin.add_units(&operation, &app(), 1, "").await });
    eventually("the download", async || patient.asked.load(Ordering::Acquire)).await;
    cancel.cancel();
    call.await.unwrap().unwrap();
    assert!(lines.text().contains("Cancelled"), "{}", lines.text());
}
