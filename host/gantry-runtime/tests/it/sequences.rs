//! Sequences with a time of their own, with places of the limiter, and over several hosts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_core::App;
use gantry_engine::memory::{Memory, Platform};
use gantry_engine::{Call, Chain, Containers as _, Layer, Next, Request, Response, Scope};
use gantry_runtime::Provisioner;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::calls::Kept;
use crate::world::{IMAGE, Lines, NAME, With, World, app, eventually, image, plain, shown};

/// Some containers to make.
const UNITS: [&str; 6] = ["unit-a", "unit-b", "unit-c", "unit-d", "unit-e", "unit-f"];

/// Holds calls to engines back until it is told to let so many through.
struct Gate {
    /// Of which host.
    node: &'static str,
    /// Which calls.
    calls: &'static [&'static str],
    open: Semaphore,
    /// How many are there now, and how many were at most.
    there: AtomicUsize,
    most: AtomicUsize,
}

/// A call that is there.
struct There<'a>(&'a Gate);

impl Drop for There<'_> {
    fn drop(&mut self) {
        self.0.there.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    fn new(node: &'static str, calls: &'static [&'static str]) -> Arc<Self> {
        Arc::new(Self {
            node,
            calls,
            open: Semaphore::new(0),
            there: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    fn there(&self) -> usize {
        self.there.load(Ordering::Acquire)
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Acquire)
    }
}

#[async_trait::async_trait]
impl Layer for Gate {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, gantry_engine::Error> {
        let held = match &request.call {
            Call::Containers { node, call } => {
                *node == self.node && self.calls.contains(&call.name())
            }
            _ => false,
        };
        if !held {
            return next.send(scope, request).await;
        }
        let there = self.there.fetch_add(1, Ordering::AcqRel) + 1;
        let _there = There(self);
        self.most.fetch_max(there, Ordering::AcqRel);
        self.open.acquire().await.unwrap().forget();
        next.send(scope, request).await
    }
}

/// A world of two hosts, and what is in front of them.
fn world(gates: &[Arc<Gate>]) -> (World, Memory) {
    let mut world = World::new();
    let other = Memory::new().with_image(IMAGE, image(), []);
    let platform = Platform::new().app(app()).app(App { name: "api".into(), ..app() });
    let engines = [("node-1", world.memory.clone()), ("node-2", other.clone())];
    let layers = gates.iter().map(|gate| Arc::clone(gate) as Arc<dyn Layer>).collect();
    world.chain = Chain::with(platform.backends(NAME, engines), layers);
    (world, other)
}

/// Sequences under way, and what is shown of them.
struct Running {
    call: JoinHandle<()>,
    cancel: CancellationToken,
    lines: Lines,
}

impl Running {
    fn of(plugin: &Provisioner, id: &str, how: &'static str, sequences: &Value) -> Self {
        let (operation, lines) = shown(id);
        let cancel = operation.cancel.clone();
        let (plugin, args) = (plugin.clone(), [sequences.to_string()]);
        let call = tokio::spawn(async move {
            let (out, err) = (Kept::default().writer(), Kept::default().writer());
            plugin.execute_once(&operation, &app(), how, &args, out, err).await.unwrap();
        });
        Self { call, cancel, lines }
    }

    fn ended(&self) -> Vec<String> {
        self.lines.text().lines().map(str::to_owned).collect()
    }

    async fn until(&self, ended: &str) {
        eventually(ended, async || self.ended().iter().any(|line| line == ended)).await;
    }

    async fn end(self) -> Vec<String> {
        self.call.await.unwrap();
        let mut ended: Vec<_> = self.lines.text().lines().map(str::to_owned).collect();
        ended.sort();
        ended
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_answer_ends_its_own_sequence_and_no_other() {
    let silent = Gate::new("node-2", &["containers.inspect", "containers.create"]);
    let slow = Gate::new("node-1", &["containers.inspect", "containers.stop"]);
    let (world, _other) = world(&[Arc::clone(&silent), Arc::clone(&slow)]);
    let plugin = world.provisioner("sequences", plain()).await;
    let make = json!([{"node": "node-1", "steps": [["create", "unit-a"], ["start", "unit-a"]]}]);
    assert_eq!(Running::of(&plugin, "make", "run", &make).end().await, ["0 id done ok"]);
    let running = Running::of(
        &plugin,
        "ask",
        "run",
        &json!([
            {"node": "node-2", "timeout": 300, "steps": [["list", ""], ["inspect", "unit-a"]]},
            {"node": "node-1", "steps": [["inspect", "unit-a"]]},
            {"node": "node-1", "timeout": 600_000, "steps": [["inspect", "unit-a"], ["list", ""]]},
            // What waits for a process to end has no such time.
            {"node": "node-1", "timeout": 1, "steps": [["stop", "unit-a"], ["pause", "20"]]},
            {"node": "node-2", "timeout": 300, "steps": [["create", "unit-b"]]},
        ]),
    );
    running.until("0 [] timed-out").await;
    running.until("4  timed-out").await;
    assert_eq!(running.ended().len(), 2, "{:?}", running.ended());
    eventually("the others at their host", async || slow.there() == 3).await;
    slow.open.add_permits(3);
    running.until("3 done done ok").await;
    assert_eq!(silent.there(), 1, "nobody asks any more, and what was to be made may be");
    silent.open.add_permits(1);
    let ended = running.end().await;
    let expected = [
        "0 [] timed-out",
        "1 document ok",
        "2 document [\"unit-a\"] ok",
        "3 done done ok",
        "4  timed-out",
    ];
    assert_eq!(ended, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_hosts_tell_at_once_what_they_have_of_the_plugin() {
    let (world, other) = world(&[]);
    let spec = gantry_core::container::ContainerSpec { image: IMAGE.into(), ..Default::default() };
    other.create("theirs", &spec).await.unwrap();
    let plugin = world.provisioner("sequences", plain()).await;
    let make = json!([
        {"node": "node-1", "steps": [["create", "unit-a"]]},
        {"node": "node-2", "steps": [["create", "unit-b"], ["create", "unit-c"]]},
    ]);
    assert_eq!(Running::of(&plugin, "make", "run", &make).end().await, ["0 id ok", "1 id id ok"]);
    let list = json!([
        {"node": "node-1", "steps": [["list", ""]]},
        {"node": "node-2", "steps": [["list", ""]]},
        {"node": "node-3", "steps": [["list", ""]]},
    ]);
    let expected = ["0 [\"unit-a\"] ok", "1 [\"unit-b\", \"unit-c\"] ok", "2  not-found"];
    assert_eq!(Running::of(&plugin, "", "run", &list).end().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_tells_the_labels_that_the_guest_asks_for() {
    let (world, _other) = world(&[]);
    let plugin = world.provisioner("sequences", plain()).await;
    let make = json!([{"node": "node-1", "steps": [["create", "unit-a"]]}]);
    assert_eq!(Running::of(&plugin, "make", "run", &make).end().await, ["0 id ok"]);
    let list = |keys: &str| json!({"node": "node-1", "steps": [["list", keys]]});
    let lists = json!(["", "app-pool", "is-deploy app-name", "*"].map(list));
    let expected = [
        r#"0 ["unit-a"] ok"#,
        r#"1 ["unit-a app-pool=blue"] ok"#,
        r#"2 ["unit-a app-name=web"] ok"#,
        r#"3 ["unit-a app-name=web app-pool=blue"] ok"#,
    ];
    assert_eq!(Running::of(&plugin, "", "run", &lists).end().await, expected);
}

fn limited(places: u32, action: &str, bounds: &[(&'static str, &'static str)]) -> (With, Value) {
    let config = json!({"docker": {"limit": {"actions-per-host": places}}});
    let mut with = plain().config(config);
    with.bounds = bounds.to_vec();
    let of = |name: &str| json!({"node": "node-1", "action": action, "steps": [["create", name]]});
    (with, json!(UNITS.map(of)))
}

/// Lets calls through one by one, each as soon as as many are there as may be.
async fn through(gate: &Gate, calls: usize, places: usize) {
    for left in (1..=calls).rev() {
        eventually("the calls that may be there", async || gate.there() == left.min(places)).await;
        gate.open.add_permits(1);
        eventually("one fewer", async || gate.open.available_permits() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_steps_of_an_action_are_at_an_engine_at_once_than_may_be() {
    let gate = Gate::new("node-1", &["containers.create"]);
    let (world, _other) = world(&[Arc::clone(&gate)]);
    // As many steps at the same time as there are places: whoever waits for one must not take them from the others.
    let (with, mut sequences) = limited(2, "one", &[("host-calls-in-flight", "4")]);
    let others = [
        json!({"node": "node-2", "action": "two", "steps": [["create", "unit-x"], ["start", "unit-x"]]}),
        json!({"node": "node-2", "steps": [["create", "unit-y"], ["inspect", "unit-y"]]}),
        json!({"node": "node-1", "action": "one", "steps": [["list", ""], ["pause", "1"]]}),
    ];
    sequences.as_array_mut().unwrap().extend(others);
    let plugin = world.provisioner("sequences", with).await;
    let running = Running::of(&plugin, "op", "run", &sequences);
    eventually("as many as may be", async || gate.there() == 2).await;
    for other in ["6 id done ok", "7 id document ok", "8 [] done ok"] {
        running.until(other).await;
    }
    assert_eq!(running.ended().len(), 3, "the others are not held up, and the six are");
    assert_eq!(gate.most(), 2);
    through(&gate, 6, 2).await;
    assert_eq!(running.end().await.len(), 9);
    assert_eq!(gate.most(), 2, "never were there more");
    assert_eq!(world.names().await, UNITS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_changes_what_runs_takes_a_place_over_all_calls_of_the_provisioner() {
    const CHANGES: &[&str] =
        &["containers.create", "containers.start", "containers.stop", "containers.remove"];
    let gate = Gate::new("node-1", CHANGES);
    let (world, _other) = world(&[Arc::clone(&gate)]);
    let (with, _) = limited(1, "one", &[]);
    let plugin = world.provisioner("sequences", with).await;
    let life = |name: &str| {
        let steps: Vec<_> =
            ["create", "start", "stop", "remove"].iter().map(|step| [*step, name]).collect();
        json!([{"node": "node-1", "action": "one", "steps": steps}])
    };
    let one = Running::of(&plugin, "one", "run", &life("unit-a"));
    let two = Running::of(&plugin, "two", "run", &life("unit-b"));
    through(&gate, 8, 1).await;
    assert_eq!(one.end().await, ["0 id done done done ok"]);
    assert_eq!(two.end().await, ["0 id done done done ok"]);
    assert_eq!(gate.most(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_limit_or_an_action_no_step_waits_for_a_place() {
    for (places, action) in [(0, json!("one")), (1, Value::Null)] {
        let gate = Gate::new("node-1", &["containers.create"]);
        let (world, _other) = world(&[Arc::clone(&gate)]);
        let (with, mut sequences) = limited(places, "one", &[]);
        for sequence in sequences.as_array_mut().unwrap() {
            sequence["action"] = action.clone();
        }
        let plugin = world.provisioner("sequences", with).await;
        let running = Running::of(&plugin, "op", "run", &sequences);
        eventually("all of them", async || gate.there() == 6).await;
        gate.open.add_permits(6);
        assert_eq!(running.end().await.len(), 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_a_place_ends_when_the_request_is_cancelled_or_the_batch_dropped() {
    let gate = Gate::new("node-1", &["containers.create"]);
    let (world, _other) = world(&[Arc::clone(&gate)]);
    let (with, mut sequences) = limited(1, "one", &[]);
    // Long enough for the others to have begun to wait.
    let pauses = json!({"node": "node-2", "steps": [["pause", "200"]]});
    sequences.as_array_mut().unwrap().push(pauses);
    let plugin = world.provisioner("sequences", with).await;
    let holds = json!([{"node": "node-1", "action": "one", "steps": [["create", "first"]]}]);
    let first = Running::of(&plugin, "first", "run", &holds);
    eventually("the first", async || gate.there() == 1).await;
    let cancelled = Running::of(&plugin, "cancelled", "run", &sequences);
    cancelled.until("6 done ok").await;
    assert_eq!(cancelled.ended().len(), 1, "the others wait");
    cancelled.cancel.cancel();
    let mut expected: Vec<_> = (0..6).map(|number| format!("{number}  cancelled")).collect();
    expected.push("6 done ok".to_owned());
    assert_eq!(cancelled.end().await, expected);
    // It ends while the only place is still taken.
    assert_eq!(Running::of(&plugin, "dropped", "drop", &sequences).end().await, ["6 done ok"]);
    assert_eq!(gate.there(), 1);
    gate.open.add_permits(1);
    assert_eq!(first.end().await, ["0 id ok"]);
    assert_eq!(world.names().await, ["first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_with_an_action_without_end_is_refused() {
    let (world, _other) = world(&[]);
    let plugin = world.provisioner("sequences", plain()).await;
    let (longest, longer) = ("x".repeat(512), "x".repeat(513));
    let of = |action: &str| json!({"node": "node-1", "action": action, "steps": [["list", ""]]});
    let running = Running::of(&plugin, "op", "run", &json!([of(&longest), of(&longer)]));
    assert_eq!(running.end().await, ["0 [] ok", "1  invalid"]);
}
