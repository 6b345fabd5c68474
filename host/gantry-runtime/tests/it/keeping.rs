//! What a call keeps from others: places of the limiter and locks on apps. Both are free again however the call ends.

use std::io::Write as _;
use std::time::Duration;

use gantry_core::Error;
use gantry_engine::Operation;
use gantry_runtime::{CallError, Cause, LoadError, Provisioner, RuntimeSettings};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::calls::Kept;
use crate::world::{
    Lines, NAME, With, World, app, eventually, operation, plain, question, settings, shown,
};

const SLOT: [&str; 2] = ["slot", "node-1"];
const LOCK: [&str; 2] = ["lock", "web"];

/// A limit on how many calls have a place of an action.
fn limited(places: u64) -> With {
    // Whoever waits for others here may do so for as long as a test takes.
    With::bounds([("idle-time", "10m")])
        .config(json!({"docker": {"limit": {"actions-per-host": places}}}))
}

async fn command(
    plugin: &Provisioner,
    operation: &Operation,
    command: &str,
    args: &[&str],
) -> Result<String, CallError> {
    let (stdout, stderr) = (Kept::default(), Kept::default());
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let (out, err) = (stdout.writer(), stderr.writer());
    plugin.execute_once(operation, &app(), command, &args, out, err).await?;
    Ok(stdout.text())
}

/// How many places of an action are taken.
async fn len(plugin: &Provisioner, action: &str) -> u64 {
    command(plugin, &question(), "len", &["slot", action]).await.unwrap().parse().unwrap()
}

/// A call of the keeper under way.
struct Keeping {
    call: JoinHandle<Result<String, CallError>>,
    cancel: CancellationToken,
    lines: Lines,
}

impl Keeping {
    fn of(plugin: &Provisioner, id: &str, what: &str, args: &[&str]) -> Self {
        let (operation, lines) = shown(id);
        let cancel = operation.cancel.clone();
        let (plugin, what) = (plugin.clone(), what.to_owned());
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let call = tokio::spawn(async move {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            command(&plugin, &operation, &what, &args).await
        });
        Self { call, cancel, lines }
    }

    fn says(&self, line: &str) -> bool {
        self.lines.text().lines().any(|said| said == line)
    }

    async fn until(&self, line: &str) {
        eventually(line, async || self.says(line) || self.call.is_finished()).await;
        assert!(self.says(line), "it ended without `{line}`: {}", self.lines.text());
    }

    /// Has it.
    async fn having(self) -> Self {
        self.until("has it").await;
        self
    }

    /// Asked for it, and does not have it.
    async fn waiting(self) -> Self {
        self.until("asks").await;
        assert!(!self.says("has it"));
        self
    }

    /// Is cancelled and ends.
    async fn end(self) -> Result<String, CallError> {
        self.cancel.cancel();
        self.call.await.unwrap()
    }
}

/// Lets those go on who wait for it.
async fn go(world: &World) {
    world.chain.backends().state.put_if(NAME, "go", b"", None).await.unwrap();
}

/// A call that has something ends in some way. Whoever waited for it has it then.
async fn lets_go(
    args: [&str; 2],
    what: &str,
    with: With,
    end: impl AsyncFnOnce(Keeping),
) -> (World, Provisioner) {
    let grace = Duration::from_millis(100);
    let world = World::with(RuntimeSettings { calls: 16, grace, ..settings() });
    let faulty = world.load("keeper", with).await.unwrap();
    // Under the same name, and with the bounds of everybody.
    let plugin = world.provisioner("keeper", limited(1)).await;
    let faulty = Keeping::of(&Provisioner::new(NAME, faulty), "first", what, &args).having().await;
    let waiting = Keeping::of(&plugin, "second", "hold", &args).waiting().await;
    go(&world).await;
    end(faulty).await;
    waiting.having().await.end().await.unwrap();
    world.serves_on().await;
    (world, plugin)
}

/// The same for a place and for a lock; nobody has either afterwards.
async fn lets_go_of_both(
    what: &str,
    bounds: Option<(&'static str, &'static str)>,
    end: impl AsyncFn(Keeping),
) {
    for args in [SLOT, LOCK] {
        let mut with = limited(1);
        with.bounds.extend(bounds);
        let (_world, plugin) = lets_go(args, what, with, &end).await;
        assert_eq!(len(&plugin, "node-1").await, 0, "{what} {args:?}");
        Keeping::of(&plugin, "third", "hold", &args).having().await.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_free_when_its_call_gives_it_back_or_returns() {
    lets_go_of_both("return", None, async |call: Keeping| {
        call.call.await.unwrap().unwrap();
    })
    .await;
    lets_go_of_both("forget", None, async |call: Keeping| {
        call.call.await.unwrap().unwrap();
    })
    .await;
    let world = World::new();
    let plugin = world.provisioner("keeper", limited(1)).await;
    for args in [SLOT, LOCK] {
        let dropped = Keeping::of(&plugin, "first", "drop", &args).having().await;
        let other = Keeping::of(&plugin, "second", "hold", &args).having().await;
        assert!(!dropped.call.is_finished(), "it gave it back and is still there");
        dropped.end().await.unwrap();
        other.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_free_when_its_call_traps() {
    lets_go_of_both("trap", None, async |call: Keeping| {
        let error = call.call.await.unwrap().unwrap_err();
        assert!(matches!(error.cause, Cause::Trapped(_)), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_stays_locked_until_what_a_dead_call_made_of_it_is_gone() {
    let world = World::with(settings());
    let plugin = world.provisioner("keeper", limited(1)).await;
    for round in 0..20 {
        let faulty = Keeping::of(&plugin, &format!("faulty-{round}"), "leave", &LOCK);
        let faulty = faulty.having().await;
        let waiting = Keeping::of(&plugin, &format!("next-{round}"), "hold", &LOCK);
        let waiting = waiting.waiting().await;
        go(&world).await;
        let waiting = waiting.having().await;
        assert_eq!(world.names().await, Vec::<String>::new(), "round {round}");
        let error = faulty.call.await.unwrap().unwrap_err();
        assert_eq!(error.clean_up.removed.len(), 1, "{error:?}");
        waiting.end().await.unwrap();
        let gone = world.chain.backends().state.get(NAME, "go").await.unwrap().unwrap();
        world.chain.backends().state.delete_if(NAME, "go", gone.version).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_free_when_its_call_computes_for_ever() {
    lets_go_of_both("spin", Some(("cpu", "300ms")), async |call: Keeping| {
        let error = call.call.await.unwrap().unwrap_err();
        assert!(matches!(error.cause, Cause::OverLimit(_)), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_free_when_its_call_is_over_its_time() {
    lets_go_of_both("sleep", Some(("operation-time", "5s")), async |call: Keeping| {
        let error = call.call.await.unwrap().unwrap_err();
        assert!(matches!(error.cause, Cause::TimedOut(_)), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_free_when_its_call_is_cut_off() {
    lets_go_of_both("sleep", None, async |call: Keeping| {
        call.until("goes").await;
        let error = call.end().await.unwrap_err();
        assert!(matches!(error.cause, Cause::CutOff { .. }), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_free_when_its_caller_goes_away() {
    lets_go_of_both("sleep", None, async |call: Keeping| {
        call.until("goes").await;
        call.call.abort();
        assert!(call.call.await.unwrap_err().is_cancelled());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_is_told_when_it_is_cancelled_and_leaves_the_queue() {
    let world = World::new();
    let plugin = world.provisioner("keeper", limited(1)).await;
    for args in [SLOT, LOCK] {
        let first = Keeping::of(&plugin, "first", "hold", &args).having().await;
        let second = Keeping::of(&plugin, "second", "hold", &args).waiting().await;
        let third = Keeping::of(&plugin, "third", "hold", &args).waiting().await;
        let error = second.end().await.unwrap_err();
        assert_eq!(error.cause, Cause::Plugin(Error::Cancelled));
        assert!(!third.says("has it"));
        first.end().await.unwrap();
        third.having().await.end().await.unwrap();
    }
    assert_eq!(len(&plugin, "node-1").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_others_is_not_idle() {
    let world = World::new();
    let plugin = world.provisioner("keeper", limited(1)).await;
    let mut with = limited(1);
    with.bounds = vec![("idle-time", "300ms")];
    let hasty = world.provisioner("keeper", with).await;
    go(&world).await;
    for args in [SLOT, LOCK] {
        let first = Keeping::of(&plugin, "first", "hold", &args).having().await;
        let waiting = Keeping::of(&hasty, "second", "return", &args).waiting().await;
        // One that began later and waits for nobody is over its time first.
        let idle = Keeping::of(&hasty, "idle", "hold", &["slot", "another"]).having().await;
        let error = idle.call.await.unwrap().unwrap_err();
        assert!(matches!(error.cause, Cause::TimedOut(_)), "{error:?}");
        assert!(!waiting.call.is_finished());
        first.end().await.unwrap();
        waiting.call.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_keeps_the_places_that_are_taken() {
    let world = World::new();
    let plugin = world.provisioner("keeper", limited(1)).await;
    let old = Keeping::of(&plugin, "first", "hold", &SLOT).having().await;
    drop(plugin.swap(world.load("keeper", limited(1)).await.unwrap()));
    assert_eq!(len(&plugin, "node-1").await, 1);
    let new = Keeping::of(&plugin, "second", "hold", &SLOT).waiting().await;
    old.end().await.unwrap();
    new.having().await.end().await.unwrap();
    assert_eq!(len(&plugin, "node-1").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_limit_everybody_has_a_place() {
    let world = World::new();
    for with in [plain(), limited(0)] {
        let plugin = world.provisioner("keeper", with).await;
        let first = Keeping::of(&plugin, "first", "hold", &SLOT).having().await;
        let second = Keeping::of(&plugin, "second", "hold", &SLOT).having().await;
        assert_eq!(len(&plugin, "node-1").await, 0);
        first.end().await.unwrap();
        second.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_without_end_is_refused() {
    let world = World::new();
    let plugin = world.provisioner("keeper", limited(1)).await;
    let longest = "x".repeat(512);
    let slot = Keeping::of(&plugin, "op", "hold", &["slot", &longest]).having().await;
    slot.end().await.unwrap();
    let action = format!("{longest}x");
    let error = command(&plugin, &operation("op"), "hold", &["slot", &action]).await.unwrap_err();
    let told = "an action of the limiter has at most 512 bytes".to_owned();
    assert_eq!(error.cause, Cause::Plugin(Error::InvalidArgument(told)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_over_several_hosts_is_refused_until_there_is_one() {
    let world = World::new();
    let config = json!({"docker": {"limit": {"mode": "global", "actions-per-host": 1}}});
    let error = world.load("noop", plain().config(config)).await.unwrap_err();
    assert!(matches!(error, LoadError::Limiter(_)), "{error:?}");
    assert!(error.to_string().starts_with("`docker:limit:mode` is `global`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_lent_what_it_has_locked_and_others_wait_for_the_last_of_it() {
    let world = World::new();
    let plugin = world.provisioner("keeper", plain()).await;
    // In one call, and in two calls of one operation.
    let twice = Keeping::of(&plugin, "one", "twice", &LOCK).having().await;
    twice.until("has one").await;
    let again = Keeping::of(&plugin, "one", "hold", &LOCK).having().await;
    let other = Keeping::of(&plugin, "other", "hold", &LOCK).waiting().await;
    twice.end().await.unwrap();
    // It is still the first operation's: whoever asks now does not get it either.
    let third = Keeping::of(&plugin, "third", "hold", &LOCK).waiting().await;
    assert!(!other.says("has it"));
    again.end().await.unwrap();
    eventually("one of the others", async || other.says("has it") || third.says("has it")).await;
    let (has, waits) = if other.says("has it") { (other, third) } else { (third, other) };
    assert!(!waits.says("has it"), "two operations have one app");
    has.end().await.unwrap();
    waits.having().await.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_locks_no_app_and_nobody_locks_what_is_not_there() {
    let world = World::new();
    let plugin = world.provisioner("keeper", plain()).await;
    let error = command(&plugin, &question(), "hold", &LOCK).await.unwrap_err();
    let told = "a question changes nothing, so it locks no app".to_owned();
    assert_eq!(error.cause, Cause::Plugin(Error::InvalidArgument(told)));
    let nobody = ["lock", "nobody"];
    let error = command(&plugin, &operation("op"), "hold", &nobody).await.unwrap_err();
    assert_eq!(error.cause, Cause::Plugin(Error::NotFound("no app `nobody`".to_owned())));
}

/// Plays the steps of a case, each caller a call of the plugin.
async fn play(case: &Value) {
    let name = case["name"].as_str().unwrap();
    let world = World::with(RuntimeSettings { calls: 160, ..settings() });
    let plugin = world.provisioner("keeper", limited(case["limit"].as_u64().unwrap())).await;
    let mut callers: Vec<(String, String, Keeping)> = Vec::new();
    let mut blocked: Vec<String> = Vec::new();
    let text = |step: &Value, key: &str| step[key].as_str().map(str::to_owned);
    let start = |action: &str| Keeping::of(&plugin, "op", "hold", &["slot", action]);
    for (number, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        let about = format!("{name}, step {number}: {step}");
        let stuck = |callers: &[(String, String, Keeping)], blocked: &[String]| {
            let said = callers.iter().filter(|(name, ..)| blocked.contains(name));
            said.for_each(|(_, _, call)| assert!(!call.says("has it"), "{about}"));
        };
        if let Some(action) = text(step, "start") {
            let caller = text(step, "as").unwrap();
            let call = start(&action);
            let call = if step["blocks"] == true {
                blocked.push(caller.clone());
                call.waiting().await
            } else {
                call.having().await
            };
            callers.push((caller, action, call));
        } else if let Some(action) = text(step, "len") {
            assert_eq!(len(&plugin, &action).await, step["is"].as_u64().unwrap(), "{about}");
            stuck(&callers, &blocked);
        } else if let Some(caller) = text(step, "done") {
            stuck(&callers, &blocked);
            let at = callers.iter().position(|(name, ..)| *name == caller).unwrap();
            callers.remove(at).2.end().await.unwrap();
            let freed = text(step, "unblocks");
            blocked.retain(|name| Some(name) != freed.as_ref());
            let freed = callers.iter().find(|(name, ..)| Some(name) == freed.as_ref());
            freed.unwrap_or_else(|| panic!("{about}")).2.until("has it").await;
        } else if let Some(count) = step["parallel_starts"].as_u64() {
            let action = text(step, "action").unwrap();
            let started: Vec<_> = (0..count).map(|_| start(&action)).collect();
            for call in started {
                callers.push((String::new(), action.clone(), call.having().await));
            }
        } else if let Some(action) = text(step, "parallel_done_all") {
            let (done, others) = callers.into_iter().partition(|(_, of, _)| *of == action);
            callers = others;
            let done: Vec<_> = done;
            done.iter().for_each(|(_, _, call)| call.cancel.cancel());
            for (_, _, call) in done {
                call.end().await.unwrap();
            }
        } else {
            panic!("{about}: nobody knows such a step");
        }
    }
    for (_, _, call) in callers {
        call.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vectors_of_the_limiter_run_through_the_import() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/limiter.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    let (mut ran, mut excused) = (0, 0);
    for case in cases {
        match case["implementation"].as_str() {
            None => {
                play(case).await;
                ran += 1;
            }
            Some("mongodb") => excused += 1,
            Some(other) => panic!("nobody knows the implementation `{other}`"),
        }
    }
    assert!(ran > 0 && ran + excused == cases.len());
    // Written past the test harness, which keeps what a passing test prints.
    let mut out = std::io::stdout();
    let total = cases.len();
    writeln!(
        out,
        "limiter.json: ran {ran} of {total} cases, {excused} excused (implementation `mongodb`: {excused})"
    )
    .unwrap();
}
