//! The vectors `docker_flows`: apps driven through the compiled Docker plugin, the runtime and the layer chain, down to a peer that writes every Docker request down.
//!
//! What is compared: errors, what people read, every request that changes something, then the containers, the routes and the images. Requests that only read are not: an implementation
//! that asks less is no other implementation. Differences are excused by a rule over what the vectors say of the step, never by its name; how often is printed.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gantry_core::record::UnitRecord;
use gantry_core::{App, AppRouter, Status};
use gantry_engine::docker::Endpoint;
use gantry_engine::memory::Platform;
use gantry_engine::operation::Progress;
use gantry_engine::{Chain, Config, Docker, Images, Operation, State};
use gantry_runtime::{Bounds, LoadSettings, Provisioner, Runtime, RuntimeSettings};
use gantry_tests::artifacts;
use gantry_tests::peer::{Failure, Peer, Recorded};
use gantry_tests::screen::Screen;
use serde_json::{Value, json};

/// An app of the vectors with everything below it.
struct Stage {
    peer: Peer,
    platform: Platform,
    provisioner: Provisioner,
    app: App,
    /// Ids as the vectors number them: in the order in which they appear, here for each kind of thing on its own.
    operations: u32,
}

/// The router of every app.
const ROUTER: &str = "fake";

/// A request that changes something, without what differs from run to run.
type Change = (String, String, Value);

/// Why a step may differ from the reference, for all that is compared of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Excuse {
    /// The reference pulls an image before every create; ours has it on the host (design 10.14).
    IsNotPulled,
    /// The reference rebuilds routes some time after a change that may have moved ports, so that the vectors have no number of them. Ours are those of the units.
    RebuiltLater,
}

impl Excuse {
    const ALL: [Self; 2] = [Self::IsNotPulled, Self::RebuiltLater];

    fn counts_for(self, step: &Value) -> bool {
        match self {
            Self::IsNotPulled => requests_of(step).iter().any(is_pull),
            Self::RebuiltLater => step["state"]["route_count"].is_null(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::IsNotPulled => "design §10.14",
            Self::RebuiltLater => "no number of routes in the vectors",
        }
    }
}

impl Stage {
    async fn new(runtime: &Runtime, app: &Value) -> Result<Self> {
        let name = app["name"].as_str().context("an app has a name")?.to_owned();
        let app = App {
            name: name.clone(),
            platform: app["platform"].as_str().unwrap_or_default().to_owned(),
            pool: app["pool"].as_str().unwrap_or_default().to_owned(),
            // What the vectors' app has: the create bodies show it.
            memory: 1024,
            swap: 1024,
            cpu_share: 100,
            ..App::default()
        };
        let peer = Peer::start().await?;
        let platform = Platform::new()
            .app(app.clone())
            .router(&name, AppRouter { name: ROUTER.to_owned(), ..AppRouter::default() });
        let docker = Docker::new(Endpoint::parse(&peer.address())?)?;
        let backends = platform.backends("docker", [(peer.address(), docker)]);
        // The configuration of the run that gave the vectors, in its own keys.
        let config = json!({
            "routers": {ROUTER: {"type": "fake"}},
            "docker": {
                "user": "root",
                "log-driver": "bs",
                "healthcheck": {"max-time": 1},
                "run-cmd": {"bin": "/usr/local/bin/circusd /etc/circus/circus.ini", "port": 8888},
            },
        });
        let generation = runtime
            .load(
                "docker",
                &std::fs::read(artifacts::docker_plugin()?)?,
                LoadSettings {
                    granted: ["images:commit", "images:tag", "images:remove"]
                        .map(str::to_owned)
                        .into(),
                    bounds: Bounds::default(),
                    config: Arc::new(Config::new(config)),
                    instance: "flows".into(),
                    chain: Chain::new(backends),
                },
            )
            .await?;
        let provisioner = Provisioner::new("docker", generation);
        Ok(Self { peer, platform, provisioner, app, operations: 0 })
    }

    /// Runs a step; gives what it said and the error, if any.
    async fn run(&mut self, step: &Value) -> Result<(String, Option<String>)> {
        self.operations += 1;
        let screen = Arc::new(Screen::default());
        let operation =
            Operation::new(format!("flow-{}", self.operations), Duration::from_secs(60))
                .shown_to(Arc::clone(&screen) as Arc<dyn Progress>);
        let input = &step["in"];
        let text = |key: &str| input[key].as_str().unwrap_or_default().to_owned();
        let count = u32::try_from(input["n"].as_i64().unwrap_or_default())?;
        let (docker, app) = (&self.provisioner, &self.app);
        let outcome = match step["op"].as_str().unwrap_or_default() {
            "Deploy" => {
                let image = text("image");
                let result = image.strip_suffix("-builder").unwrap_or(&image).to_owned();
                self.platform
                    .save_metadata(&result, &input["metadata_of_result"].to_string())
                    .await?;
                self.peer.add_image(&image, json!({}));
                if input["engine_failure"] == "every start call fails" {
                    self.peer.fail(vec![Failure {
                        method: "POST",
                        path_end: "/start",
                        status: 400,
                        message: "f1\n",
                    }]);
                }
                let outcome = docker.deploy(&operation, app, &image).await.map(drop);
                self.peer.fail(Vec::new());
                outcome
            }
            "AddUnits" => docker.add_units(&operation, app, count, &text("process")).await,
            "RemoveUnits" => docker.remove_units(&operation, app, count, &text("process")).await,
            "Restart" => docker.restart(&operation, app, &text("process")).await,
            "Start" => docker.start(&operation, app, &text("process")).await,
            "Stop" => docker.stop(&operation, app, &text("process")).await,
            "Sleep" => docker.sleep(&operation, app, &text("process")).await,
            "ExecuteCommandOnce" => {
                let arguments: Vec<String> = serde_json::from_value(input["args"].clone())?;
                let (stdout, stderr) = (Box::pin(tokio::io::sink()), Box::pin(tokio::io::sink()));
                docker
                    .execute_once(&operation, app, &text("cmd"), &arguments, stdout, stderr)
                    .await
                    .map(drop)
            }
            other => bail!("the vectors have a step that this test does not know: {other}"),
        };
        self.app.deploys += u32::from(step["op"] == "Deploy" && outcome.is_ok());
        self.platform.put_app(self.app.clone());
        let said = screen.text();
        Ok((said, outcome.err().map(|error| error.to_string())))
    }

    /// Runs a step and compares it with the reference.
    async fn compare(&mut self, step: &Value) -> Result<()> {
        self.peer.take_requests();
        let (log, error) = self.run(step).await?;
        let (requests, peer, app) = (self.peer.take_requests(), self.peer.address(), &self.app);
        for text in error.iter().chain([&log]) {
            ensure!(names_the_machine_once(text, &peer), "once is enough: {text}");
        }
        let wanted = step["error"].as_str().map(|text| said(text, &peer));
        same("the error", &error.map(|text| said(&text, &peer)), &wanted)?;
        let wanted = said(step["log"].as_str().unwrap_or_default(), &peer);
        same("what people read", &said(&log, &peer), &wanted)?;
        let mut wanted = requests_of(step);
        if Excuse::IsNotPulled.counts_for(step) {
            wanted.retain(|request| !is_pull(request));
        }
        let what = "the requests that change something";
        same(what, &changes(&requests, &app.name), &changes(&wanted, &app.name))?;
        self.compare_state(step).await
    }

    /// Compares what there is after a step.
    async fn compare_state(&self, step: &Value) -> Result<()> {
        let (state, app) = (&step["state"], &self.app.name);
        let records = self.records().await?;
        let running = self.peer.containers();
        let ids: Vec<&String> = running.keys().collect();
        same("the containers that are units", &sorted(records.iter().map(|unit| &unit.id)), &ids)?;
        let is = |unit: &UnitRecord| container(unit, running.get(&unit.id) == Some(&true));
        let wanted = state["containers"].as_array().into_iter().flatten().map(fields);
        same("the containers", &sorted(records.iter().map(is)), &sorted(wanted))?;
        let operation = Operation::new("", Duration::from_secs(10));
        let units = self.provisioner.units(&operation, std::slice::from_ref(&self.app)).await?;
        let listed = units.iter().map(|unit| (&unit.id, &unit.process_name, unit.status));
        let written = records.iter().map(|unit| (&unit.id, &unit.process_name, unit.status));
        same("the units that people see", &sorted(listed), &sorted(written))?;

        let record = self.platform.record(app).context("the app")?;
        let routes = record.routes.get(ROUTER).cloned().unwrap_or_default();
        let looks_at = routes.healthcheck.map_or_else(
            || json!({"Path": "", "Status": 0, "Body": ""}),
            |check| json!({"Path": check.path, "Status": check.status, "Body": check.body}),
        );
        same("what the router looks at", &looks_at, &state["router_hc"])?;
        if !Excuse::RebuiltLater.counts_for(step) {
            same("the routes", &json!(routes.addresses.len()), &state["route_count"])?;
        }
        let addresses = sorted(records.iter().filter_map(UnitRecord::address));
        same("the routes to units", &sorted(routes.addresses), &addresses)?;

        let images = self.platform.history(app).await?;
        let wanted: Vec<String> =
            serde_json::from_value(state["images"].clone()).unwrap_or_default();
        same("the images", &images, &wanted)?;
        let current = self.platform.current(app).await?;
        same("the current image", &json!(current), &state["current_image"])
    }

    /// What the plugin has written down of its units.
    async fn records(&self) -> Result<Vec<UnitRecord>> {
        let page = State::list(&self.platform, "docker", "units/", None, 0).await?;
        let read = page.entries.iter().map(|entry| serde_json::from_slice(&entry.value));
        Ok(read.collect::<Result<_, _>>()?)
    }
}

/// A container of the vectors, without its id.
fn fields(container: &Value) -> BTreeMap<String, String> {
    let fields = container.as_object().into_iter().flatten().filter(|(field, _)| *field != "id");
    fields.map(|(field, value)| (field.clone(), value.to_string())).collect()
}

/// A unit as the vectors have it.
fn container(unit: &UnitRecord, runs: bool) -> BTreeMap<String, String> {
    let text = |status: Option<Status>| status.map(|status| status.to_string());
    fields(&json!({
        "engine_running": runs.to_string(),
        "exposed_port": unit.exposed_port,
        "has_hostport": !unit.host_port.is_empty(),
        "host_addr": unit.host_addr,
        "image": unit.image,
        "process": unit.process_name,
        "status": text(unit.status),
        "status_before_error": text(unit.status_before_error),
        "type": unit.kind,
    }))
}

fn sorted<T: Ord>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort_unstable();
    all
}

fn same<T: PartialEq + Debug>(what: &str, got: &T, wanted: &T) -> Result<()> {
    ensure!(got == wanted, "{what}:\n{got:#?}\ninstead of\n{wanted:#?}");
    Ok(())
}

fn is_pull(request: &Recorded) -> bool {
    (request.method.as_str(), request.path.as_str()) == ("POST", "/images/create")
}

/// The requests that change something, by container: what happens to one container has an order, what happens to two has none.
fn changes(requests: &[Recorded], app: &str) -> Vec<Vec<Change>> {
    let mut order: Vec<(String, Vec<Change>)> = Vec::new();
    let mut execs: BTreeMap<String, String> = BTreeMap::new();
    for request in
        requests.iter().filter(|request| request.method == "POST" || request.method == "DELETE")
    {
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let subject = match parts.as_slice() {
            ["containers", "create"] => request.query.get("name").cloned().unwrap_or_default(),
            ["containers", id, ..] => (*id).to_owned(),
            ["exec", id, ..] => execs.get(*id).cloned().unwrap_or_else(|| (*id).to_owned()),
            ["commit"] => request.query.get("container").cloned().unwrap_or_default(),
            _ => String::new(),
        };
        if let ["exec", id, ..] = parts.as_slice() {
            execs.entry((*id).to_owned()).or_insert_with(|| subject.clone());
        }
        let path = match parts.as_slice() {
            ["containers", "create"] => "containers/create".to_owned(),
            ["containers", _, rest @ ..] => format!("containers/<id>/{}", rest.join("/")),
            ["exec", _, rest @ ..] => format!("exec/<id>/{}", rest.join("/")),
            other => other.join("/"),
        };
        let change = (request.method.clone(), path, body_of(request, app));
        match order.iter_mut().find(|(known, _)| *known == subject) {
            Some((_, changes)) => changes.push(change),
            None => order.push((subject.clone(), vec![change])),
        }
    }
    let mut changes: Vec<Vec<Change>> = order.into_iter().map(|(_, changes)| changes).collect();
    changes.sort_by_key(|changes| format!("{changes:?}"));
    changes
}

/// What a request says, in the vectors' form: zero values left out, and what only older or newer clients send.
fn body_of(request: &Recorded, app: &str) -> Value {
    let mut query: serde_json::Map<String, Value> = request
        .query
        .iter()
        // Docker's own defaults, and the flags whose place has moved: `force` of a tag is always on since API 1.24; anonymous volumes go with their container.
        .filter(|(key, _)| {
            ["repo", "tag", "t", "logs", "stdout", "stderr", "stream"].contains(&key.as_str())
        })
        .map(|(key, value)| (key.clone(), json!(if value == "true" { "1" } else { value })))
        .collect();
    if let Some(name) = request.query.get("name") {
        // `<app>-<20 hex characters>`
        let random = name.strip_prefix(&format!("{app}-")).unwrap_or_default();
        query.insert(
            "name-is-well-formed".to_owned(),
            json!(random.len() == 20 || random.starts_with("<id")),
        );
    }
    let mut body = request.body.clone().unwrap_or_default();
    if let Some(body) = body.as_object_mut() {
        // The place of these before API 1.18; today's is `HostConfig`, which has them too.
        for legacy in ["Memory", "MemorySwap", "CpuShares", "Container"] {
            body.remove(legacy);
        }
        if let Some(labels) = body.get_mut("Labels").and_then(Value::as_object_mut) {
            // The vectors compare above the layer that adds these.
            labels.retain(|key, _| !key.starts_with("gantry."));
        }
    }
    let body = Some(pruned(&body)).filter(|body| !is_zero(body));
    json!({"query": query, "body": body})
}

/// Without zero values, as the vectors are.
fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .iter()
                .map(|(key, value)| (key.clone(), pruned(value)))
                .filter(|(key, value)| {
                    key == "Entrypoint" || key.ends_with("/tcp") || !is_zero(value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(pruned).collect()),
        other => other.clone(),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

/// The requests that the reference made in a step.
fn requests_of(step: &Value) -> Vec<Recorded> {
    let empty = Vec::new();
    step["engine_calls"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .map(|call| Recorded {
            method: call["method"].as_str().unwrap_or_default().to_owned(),
            path: call["path"].as_str().unwrap_or_default().to_owned(),
            query: call["query"]
                .as_str()
                .unwrap_or_default()
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.replace("%2F", "/").replace("%3A", ":")))
                .collect(),
            body: call.get("body").cloned(),
        })
        .collect()
}

/// What people read, with what differs from run to run replaced.
fn said(text: &str, peer: &str) -> String {
    // How a client words an engine's answer is the client's own, and so is whether it keeps the line feed at its end; what the engine said (`f1`) is not.
    let text = text.replace("API error (400): f1\n", "f1");
    let mut pieces = text.split("cannot start the container `");
    let first = pieces.next().unwrap_or_default().to_owned();
    let text = pieces
        .fold(first, |text, piece| text + piece.split_once("`: ").map_or(piece, |(_, said)| said));
    let mut lines = Vec::new();
    for line in text.lines() {
        // The size of an image is not in the vectors.
        let line = line.split(" (0.00MB)").next().unwrap_or_default().trim_end();
        let engine = peer.trim_start_matches("tcp://");
        let host = engine.split(':').next().unwrap_or_default();
        let words: Vec<String> =
            line.replace(&format!("http://{engine}/"), "http://<engine>/")
                .replace(&format!("tcp://{engine}"), "http://<engine>/")
                .split(' ')
                .map(|word| {
                    let bare = word.trim_matches(|c: char| !c.is_ascii_hexdigit());
                    let port = word.split(&format!("{host}:")).nth(1).map(|rest| {
                        rest.chars().take_while(char::is_ascii_digit).collect::<String>()
                    });
                    match port {
                        Some(port) if !port.is_empty() => {
                            word.replace(&format!("{host}:{port}"), "<engine>")
                        }
                        _ if bare.len() == 10
                            && bare.chars().all(|c| c.is_ascii_hexdigit())
                            && bare.chars().any(|c| c.is_ascii_digit()) =>
                        {
                            word.replace(bare, "<short>")
                        }
                        _ if bare.len() == 64 && bare.chars().all(|c| c.is_ascii_hexdigit()) => {
                            word.replace(bare, "<id>")
                        }
                        _ => shortened(word),
                    }
                })
                .collect();
        let line = words.join(" ");
        // So is how it words that nobody listens.
        lines.push(match (line.find("/hc"), line.find("connection refused")) {
            (Some(url), Some(reason)) => format!("{}: {}", &line[..url + 3], &line[reason..]),
            _ => line,
        });
    }
    lines.join("\n").trim_end().to_owned()
}

/// Whether each line, and each of several errors in a line, names the engine's machine at most once, as its address or in a URL.
fn names_the_machine_once(text: &str, peer: &str) -> bool {
    let engine = peer.trim_start_matches("tcp://");
    let host = engine.split(':').next().unwrap_or_default();
    let mut errors = text.lines().flat_map(|line| line.split("error in docker node"));
    errors.all(|error| error.matches(host).count() <= 1)
}

/// A word with `(abcdef0123)` as `(<short>)`.
fn shortened(word: &str) -> String {
    let Some((before, rest)) = word.split_once('(') else { return word.to_owned() };
    let Some((inside, after)) = rest.split_once(')') else { return word.to_owned() };
    if inside.len() == 10 && inside.chars().all(|c| c.is_ascii_hexdigit()) {
        format!("{before}(<short>){after}")
    } else {
        word.to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_flows_of_the_reference_run_through_the_compiled_plugin() -> Result<()> {
    let path = artifacts::top().join("tests/vectors/docker_flows.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let runtime = Runtime::new(RuntimeSettings::default())?;
    let cases = vectors["cases"].as_array().context("the vectors have cases")?;
    let (mut ran, mut total, mut excused) = (0, 0, 0);
    let mut excuses: BTreeMap<Excuse, usize> = BTreeMap::new();
    let mut failed = Vec::new();
    for case in cases {
        let steps = case["steps"].as_array().context("a case has steps")?;
        total += steps.len();
        let mut stage = Stage::new(&runtime, &case["app"]).await?;
        for (number, step) in steps.iter().enumerate() {
            if let Err(why) = stage.compare(step).await {
                failed.push(format!("{}, step {number} ({}): {why:#}", case["name"], step["op"]));
                // What comes after it is about another state.
                break;
            }
            ran += 1;
            excused += usize::from(Excuse::ALL.iter().any(|excuse| excuse.counts_for(step)));
            for excuse in Excuse::ALL.into_iter().filter(|excuse| excuse.counts_for(step)) {
                *excuses.entry(excuse).or_default() += 1;
            }
        }
    }
    let words: Vec<String> =
        excuses.iter().map(|(excuse, count)| format!("{}: {count}", excuse.words())).collect();
    println!(
        "docker_flows.json: ran {ran} of {total} steps of {} cases, {excused} excused ({})",
        cases.len(),
        words.join(", ")
    );
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    ensure!(ran > 0 && ran == total, "{ran} of {total} steps ran");
    Ok(())
}
