//! What a plugin is held to. Each test names the bound, its value and how to raise it, and sees the host serve on.

use std::sync::Arc;
use std::time::Duration;

use gantry_engine::{Chain, Layer, Next, Request, Response, Scope};
use gantry_runtime::{Cause, RuntimeSettings};

use crate::world::{IMAGE, With, World, app, eventually, key, operation, plain, settings, shown};

/// An engine that takes its time for one kind of call.
struct Slow {
    call: &'static str,
    time: Duration,
}

#[async_trait::async_trait]
impl Layer for Slow {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, gantry_engine::Error> {
        if request.call.name() == self.call {
            tokio::time::sleep(self.time).await;
        }
        next.send(scope, request).await
    }
}

/// The error of a bound.
fn limit(bound: &str, value: &str) -> String {
    format!(
        "over the limit `{bound}` of {value}: raise `limits.{bound}` of the provisioner in the configuration"
    )
}

async fn over(guest: &str, with: With) -> String {
    let world = World::new();
    let message = world.over(guest, with).await;
    world.serves_on().await;
    message
}

async fn trapped(guest: &str) -> String {
    let world = World::new();
    let error = world.failure(guest, plain()).await;
    assert!(error.is_death());
    world.serves_on().await;
    match error.cause {
        Cause::Trapped(what) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_traps_is_told_apart_from_one_that_fails() {
    assert_eq!(trapped("trap").await, "wasm trap: wasm `unreachable` instruction executed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_told_with_its_last_words() {
    let what = trapped("panic").await;
    assert!(what.contains("the guest panics on purpose"), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_loops_for_ever_is_over_its_time() {
    let with = With::bounds([("cpu", "200ms")]);
    assert_eq!(over("spin", with).await, limit("cpu", "200 ms"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_calls_are_answered_while_a_plugin_loops() {
    let world = World::new();
    let spin = world.provisioner("spin", With::bounds([("cpu", "1s")])).await;
    let blue = world.provisioner("hello_blue", plain()).await;
    let looping = tokio::spawn(async move { spin.provision(&operation("op"), &app()).await });
    for _ in 0..20 {
        blue.routable_addresses(&operation(""), &app()).await.unwrap();
    }
    assert!(!looping.is_finished(), "the other calls waited for the one that loops");
    assert!(matches!(looping.await.unwrap().unwrap_err().cause, Cause::OverLimit(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_in_a_host_call_is_not_guest_time() {
    let world = World::new();
    let config = key("pause", "400");
    let with = With::bounds([("cpu", "200ms")]).config(config);
    let blue = world.provisioner("hello_blue", with).await;
    blue.add_units(&operation("op"), &app(), 1, "web").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_eats_memory_is_over_its_memory() {
    assert_eq!(over("memory", plain()).await, limit("memory", "256 MiB"));
    let with = With::bounds([("memory", "32MiB")]);
    assert_eq!(over("memory", with).await, limit("memory", "32 MiB"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_calls_itself_without_end_is_over_the_stack() {
    assert_eq!(
        over("recurse", plain()).await,
        "over the limit `stack` of 512 KiB, the same for every plugin: raise `runtime.stack` in the configuration"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_floods_the_host_is_over_the_calls_or_their_rate() {
    for call in ["config", "labels", "state", "nodes", "denied", "batch"] {
        let with = With::bounds([("host-calls", "500")]).config(key("call", call));
        assert_eq!(over("flood", with).await, limit("host-calls", "500"), "{call}");
        let with = With::bounds([("host-call-rate", "100/s")]).config(key("call", call));
        assert_eq!(over("flood", with).await, limit("host-call-rate", "100 a second"), "{call}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_leaks_handles_is_over_the_handles() {
    for handle in ["label-set", "reader", "writer", "client", "batch"] {
        let config = key("handle", handle);
        assert_eq!(over("handles", plain().config(config)).await, limit("handles", "1024"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_logs_without_end_is_over_the_log_rate() {
    for through in ["log", "stderr", "stdout"] {
        let with = plain().config(key("through", through));
        assert_eq!(over("chatter", with).await, limit("log-rate", "100 a second"), "{through}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_talks_without_end_is_over_the_rate_of_host_calls() {
    for through in ["progress", "output"] {
        let with = plain().config(key("through", through));
        assert_eq!(
            over("chatter", with).await,
            limit("host-call-rate", "10000 a second"),
            "{through}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_lines_beyond_the_log_rate_do_no_harm() {
    let world = World::new();
    let config = serde_json::json!({"through": "log", "lines": "300"});
    let chatter = world.provisioner("chatter", plain().config(config)).await;
    chatter.provision(&operation("op"), &app()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_host_call_is_over_its_bytes() {
    for through in ["state", "progress", "log", "reader", "writer", "labels", "create"] {
        let with = plain().config(key("through", through));
        assert_eq!(over("huge_call", with).await, limit("host-call-bytes", "8 MiB"), "{through}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_host_keeps_for_a_plugin_is_bounded_too() {
    for through in ["reader", "labels", "changed-labels", "batch"] {
        let with = plain().config(key("through", through));
        assert_eq!(over("hoard", with).await, limit("host-call-bytes", "8 MiB"), "{through}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_in_a_batch_is_kept_within_the_bound_too() {
    let with = With::bounds([("host-call-bytes", "1MiB")]).config(key("through", "failures"));
    assert_eq!(over("hoard", with).await, limit("host-call-bytes", "1 MiB"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pages_of_units_together_are_bounded() {
    let world = World::new();
    for (pages, fits) in [("16", true), ("64", false)] {
        let plugin = world.provisioner("big_result", plain().config(key("pages", pages))).await;
        match plugin.units(&operation(""), &[app()]).await {
            Ok(units) => assert!(fits && units.len() == 16 << 10, "{pages}"),
            Err(error) => {
                assert!(!fits, "{pages}: {error}");
                assert_eq!(error.to_string(), limit("host-call-bytes", "8 MiB"));
            }
        }
    }
    world.serves_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_with_too_many_host_calls_at_once_is_over_them() {
    let mut world = World::new();
    let slow = Slow { call: "containers.create", time: Duration::from_millis(300) };
    world.chain = Chain::with(world.chain.backends().clone(), vec![Arc::new(slow)]);
    for (letters, fits) in [("ab", true), ("abcd", false)] {
        let with = With::bounds([("host-calls-in-flight", "2")]);
        let plugin = world.provisioner("side_by_side", with).await;
        match plugin.register_unit(&operation("op"), &app(), letters, None).await {
            Ok(()) => assert!(fits, "{letters}"),
            Err(error) => {
                assert!(!fits, "{letters}: {error}");
                let told = limit("host-calls-in-flight", "2");
                assert!(error.to_string().starts_with(&told), "{error}");
            }
        }
    }
    world.serves_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_result_is_over_the_bytes_of_a_host_call() {
    let world = World::new();
    let provisioner = world.provisioner("big_result", plain()).await;
    let error = provisioner.units(&operation(""), &[app()]).await.unwrap_err();
    assert_eq!(error.to_string(), limit("host-call-bytes", "8 MiB"));
    let error = provisioner.routable_addresses(&operation(""), &app()).await.unwrap_err();
    assert_eq!(error.to_string(), limit("host-call-bytes", "8 MiB"));
    world.serves_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_sleeps_is_over_the_idle_time() {
    let with = With::bounds([("idle-time", "300ms")]);
    assert_eq!(over("sleeper", with).await, format!("timed out: {}", limit("idle-time", "300 ms")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_engine_is_at_work_is_not_idle() {
    let mut world = World::new();
    let slow = Slow { call: "containers.create", time: Duration::from_millis(600) };
    world.chain = Chain::with(world.chain.backends().clone(), vec![Arc::new(slow)]);
    let with = With::bounds([("idle-time", "200ms"), ("cpu", "10s")]);
    let deployer = world.provisioner("deployer", with).await;
    deployer.deploy(&operation("op"), &app(), IMAGE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_the_time_that_the_plugin_gives_it() {
    let mut world = World::new();
    let slow = Slow { call: "containers.list", time: Duration::from_secs(3_600) };
    let inspect = Slow { call: "containers.inspect", time: Duration::from_secs(3_600) };
    let layers: Vec<Arc<dyn Layer>> = vec![Arc::new(slow), Arc::new(inspect)];
    world.chain = Chain::with(world.chain.backends().clone(), layers);
    let plugin = world.provisioner("side_by_side", plain()).await;
    let error = plugin.start(&operation("op"), &app(), "").await.unwrap_err();
    let Cause::Plugin(gantry_core::Error::TimedOut(text)) = &error.cause else {
        panic!("{error:?}");
    };
    assert_eq!(text, "`containers.inspect` took longer than 100ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_over_its_time_and_a_question_over_its_own() {
    let with = || With::bounds([("operation-time", "300ms"), ("question-time", "200ms")]);
    assert_eq!(
        over("sleeper", with()).await,
        format!("timed out: {}", limit("operation-time", "300 ms"))
    );
    let world = World::new();
    let sleeper = world.provisioner("sleeper", with()).await;
    let error = sleeper.units(&operation(""), &[app()]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("timed out: {}", limit("question-time", "200 ms")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_of_the_whole_operation_ends_a_call() {
    let world = World::new();
    let sleeper = world.provisioner("sleeper", plain()).await;
    let operation = gantry_engine::Operation::new("op", Duration::from_millis(200));
    let error = sleeper.provision(&operation, &app()).await.unwrap_err();
    assert_eq!(error.cause, Cause::Deadline);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_that_does_not_end_is_cut_off_after_the_grace_period() {
    let grace = Duration::from_millis(200);
    let world = World::with(RuntimeSettings { grace, ..settings() });
    let sleeper = world.provisioner("sleeper", plain()).await;
    let (operation, lines) = shown("op");
    let cancel = operation.cancel.clone();
    let call = tokio::spawn(async move { sleeper.provision(&operation, &app()).await });
    eventually("the call", async || lines.text() == "asleep\n").await;
    cancel.cancel();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error.cause, Cause::CutOff { .. }), "{error:?}");
    world.serves_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_beyond_the_slots_wait_and_are_answered() {
    let world = World::with(RuntimeSettings { calls: 2, ..settings() });
    let with = plain().config(key("pause", "20"));
    let blue = world.provisioner("hello_blue", with).await;
    let calls = (0..8).map(|number| {
        let blue = blue.clone();
        async move { blue.add_units(&operation(&format!("op-{number}")), &app(), 1, "").await }
    });
    for ended in futures_util::future::join_all(calls).await {
        ended.unwrap();
    }
}
