//! An app on a cluster in memory, whose controllers, nodes and containers are played, and what stands in the way of its calls.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use gantry_core::{App, Status, Unit};
use gantry_engine::call::cluster::{ClusterCall, Kind, PodExecOptions, PodLogOptions};
use gantry_engine::layer::Next;
use gantry_engine::memory::objects::Pods;
use gantry_engine::memory::{Ended, Objects, Platform};
use gantry_engine::operation::Progress;
use gantry_engine::stream::{Chunk, Source};
use gantry_engine::{
    Call, Cluster as _, EngineError, Images as _, Layer, Operation, Request, Response, Scope,
};
use gantry_runtime::{CallError, Provisioner, Runtime};
use gantry_tests::artifacts;
use gantry_tests::kubernetes::{
    POOL, Serving, Setting, Wrong, ended, kind, play_controllers, play_nodes, provisioner, running,
    text, wrong,
};
use gantry_tests::screen::Screen;
use serde_json::{Value, json};
use tokio::task::JoinSet;

pub(super) const SOON: Duration = Duration::from_secs(60);

/// The containers of pods. An image is `shop:N`; what is in it, and what of it ever answers, is said by its tag.
#[derive(Default)]
pub(super) struct Played {
    pub(super) cluster: OnceLock<Objects>,
    pub(super) commands: Mutex<Vec<Vec<String>>>,
}

/// The processes of an image. Every second one has another process beside `web`.
pub(super) fn processes(image: &str) -> &'static [&'static str] {
    let number: Option<u32> = image.rsplit(':').next().and_then(|number| number.parse().ok());
    if number.is_some_and(|number| number.is_multiple_of(2)) {
        &["cron", "web"]
    } else {
        &["web", "worker"]
    }
}

pub(super) fn image_of(pod: &Value) -> &str {
    text(pod, "/spec/containers/0/image")
}

pub(super) fn chunk(text: impl Into<String>) -> Chunk {
    Chunk { source: Source::Stdout, bytes: text.into().into() }
}

impl Pods for Played {
    fn logs(&self, pod: &Value, _options: &PodLogOptions) -> Option<Vec<Chunk>> {
        let is_look = pod["metadata"]["labels"]["tsuru.io/is-build"] == "true";
        if !is_look {
            return Some(vec![chunk("serving\n")]);
        }
        let lines =
            processes(image_of(pod)).iter().map(|process| chunk(format!("{process}: run\n")));
        Some(std::iter::once(chunk("---- gantry file procfile\n")).chain(lines).collect())
    }

    fn exec(&self, _pod: &Value, options: &PodExecOptions) -> Option<Ended> {
        self.commands.lock().unwrap().push(options.command.clone());
        let exit_code = options.command.get(2)?.parse().unwrap_or(0);
        Some(Ended { output: vec![chunk("ran\n")], exit_code })
    }

    /// The command of an isolated run begins when somebody attaches, and ends with the number that it is.
    fn attach(&self, pod: &Value, _options: &PodExecOptions) -> Option<Vec<Chunk>> {
        let line = text(pod, "/spec/containers/0/command/2");
        let code = line.rsplit(' ').next()?.parse().ok()?;
        let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        let end = |pod: &mut Value| pod["status"] = ended(pod, code);
        self.cluster.get()?.edit(&kind("Pod"), namespace, name, "kubelet", end).ok()?;
        Some(vec![chunk("isolated\n")])
    }
}

/// What the nodes make of a pod.
pub(super) fn fate(pod: &Value) -> Option<Value> {
    if ["Succeeded", "Failed"].contains(&text(pod, "/status/phase")) {
        return None;
    }
    let labels = &pod["metadata"]["labels"];
    if labels["tsuru.io/is-build"] == "true" {
        return Some(ended(pod, 0));
    }
    let answers = match image_of(pod) {
        "shop:broken" => false,
        "shop:half" => labels["tsuru.io/app-process"] != "worker",
        _ => true,
    };
    Some(running(pod, answers))
}

/// What stands in the way of calls, just above the cluster and the platform; and which there were.
#[derive(Default)]
pub(super) struct Gate {
    pub(super) calls: Mutex<Vec<String>>,
    /// The number of the call at which everything stops, from 0 on, and whether it is done before.
    pub(super) stop: Mutex<Option<(usize, bool)>>,
    pub(super) stopped: tokio::sync::watch::Sender<bool>,
}

impl Gate {
    pub(super) fn begin(&self, stop: Option<(usize, bool)>) {
        self.calls.lock().unwrap().clear();
        *self.stop.lock().unwrap() = stop;
        self.stopped.send_replace(false);
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Waits until everything goes on.
    pub(super) async fn halt(&self) {
        let mut stopped = self.stopped.subscribe();
        self.stopped.send_replace(true);
        // The gate outlives its calls.
        let _ = stopped.wait_for(|stopped| !stopped).await;
    }
}

/// What a call is, and to what.
pub(super) fn shown(call: &Call) -> String {
    let Call::Cluster { call: of, .. } = call else { return call.name().to_owned() };
    let kind = match &**of {
        ClusterCall::Create { object, .. } | ClusterCall::Apply { object, .. } => {
            Kind::of(object).kind
        }
        ClusterCall::Get { kind, .. }
        | ClusterCall::Patch { kind, .. }
        | ClusterCall::Delete { kind, .. }
        | ClusterCall::List { kind, .. }
        | ClusterCall::Watch { kind, .. } => kind.kind.clone(),
        _ => "Pod".to_owned(),
    };
    format!("{} {kind}", call.name())
}

#[async_trait]
impl Layer for Gate {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, gantry_engine::Error> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(shown(&request.call));
            calls.len() - 1
        };
        let stop = *self.stop.lock().unwrap();
        if stop.is_some_and(|(at, done)| number > at || number == at && !done) {
            self.halt().await;
            let broke = "the connection broke".to_owned();
            return Err(match request.call {
                Call::Cluster { .. } => EngineError::Unreachable(broke).into(),
                _ => gantry_core::Error::Unavailable(broke).into(),
            });
        }
        let answer = next.send(scope, request).await;
        if stop == Some((number, true)) {
            self.halt().await;
        }
        answer
    }
}

/// An app on a cluster in memory.
pub(super) struct Stage {
    pub(super) runtime: Runtime,
    pub(super) gate: Arc<Gate>,
    pub(super) cluster: Objects,
    pub(super) played: Arc<Played>,
    pub(super) platform: Platform,
    pub(super) provisioner: Provisioner,
    pub(super) app: App,
    pub(super) operations: u32,
    /// The controllers and the nodes.
    pub(super) background: JoinSet<Result<()>>,
}

impl Stage {
    pub(super) async fn new() -> Result<Self> {
        Self::with(json!({}), None).await
    }

    pub(super) async fn with(config: Value, granted: Option<BTreeSet<String>>) -> Result<Self> {
        let played = Arc::new(Played::default());
        let cluster = Objects::playing(Arc::clone(&played) as Arc<dyn Pods>);
        played.cluster.set(cluster.clone()).ok().context("once")?;
        cluster.put(&json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "labels": {"tsuru.io/pool": POOL}},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
        }))?;
        let mut background = JoinSet::new();
        background.spawn(play_controllers(cluster.clone()));
        background.spawn(play_nodes(Arc::new(cluster.clone()), fate));
        let app = App { name: "shop".to_owned(), pool: POOL.to_owned(), ..App::default() };
        let platform = Platform::new().app(app.clone()).quota("shop", 60);
        let runtime = artifacts::runtime()?;
        let gate = Arc::new(Gate::default());
        let setting = Setting {
            cluster: Arc::new(cluster.clone()),
            namespace: "default".to_owned(),
            beside: Some("beside".to_owned()),
            platform: platform.clone(),
            config,
            layers: vec![Arc::clone(&gate) as Arc<dyn Layer>],
            granted,
        };
        let provisioner = provisioner(&runtime, setting).await?;
        Ok(Self {
            runtime,
            gate,
            cluster,
            played,
            platform,
            provisioner,
            app,
            operations: 0,
            background,
        })
    }

    /// An operation and the screen that shows it.
    pub(super) fn operation(&mut self) -> (Operation, Arc<Screen>) {
        self.operations += 1;
        let screen = Arc::new(Screen::default());
        let operation = Operation::new(format!("op-{}", self.operations), SOON)
            .shown_to(Arc::clone(&screen) as Arc<dyn Progress>);
        (operation, screen)
    }

    pub(super) async fn deploy(&mut self, image: &str) -> Result<String, CallError> {
        self.deploy_shown(image).await.0
    }

    pub(super) async fn deploy_shown(
        &mut self,
        image: &str,
    ) -> (Result<String, CallError>, String) {
        let (operation, screen) = self.operation();
        let deployed = self.provisioner.deploy(&operation, &self.app, image).await;
        self.app.deploys += u32::from(deployed.is_ok());
        self.platform.put_app(self.app.clone());
        (deployed, screen.text())
    }

    pub(super) async fn units(&self) -> Result<Vec<Unit>> {
        let question = Operation::new("", SOON);
        Ok(self.provisioner.units(&question, std::slice::from_ref(&self.app)).await?)
    }

    /// The processes of the units with their statuses, sorted.
    pub(super) async fn statuses(&self) -> Result<Vec<(String, Option<Status>)>> {
        let units = self.units().await?;
        let mut all: Vec<_> =
            units.into_iter().map(|unit| (unit.process_name, unit.status)).collect();
        all.sort();
        Ok(all)
    }

    pub(super) async fn addresses(&self) -> Result<Vec<String>> {
        let question = Operation::new("", SOON);
        Ok(self.provisioner.routable_addresses(&question, &self.app).await?)
    }

    pub(super) async fn current(&self) -> String {
        self.platform.current("shop").await.unwrap_or_default()
    }

    pub(super) fn in_use(&self) -> Result<u32> {
        Ok(self.platform.record("shop").context("the app is there")?.in_use)
    }

    pub(super) fn object(&self, name: &str) -> (String, String) {
        let (kind, name) = name.split_once(' ').unwrap_or_default();
        (kind.to_owned(), name.to_owned())
    }

    pub(super) async fn get(&self, what: &str) -> Result<Value> {
        let (of, name) = self.object(what);
        Ok(self.cluster.get(&kind(&of), "default", &name).await?)
    }

    /// Waits until this image serves with so many units a process, and nothing else is there; an empty one is none.
    pub(super) async fn serves(&mut self, image: &str, units: usize) -> Result<()> {
        let serving = Serving { image, processes: processes(image), units };
        let serving = (!image.is_empty()).then_some(&serving);
        let settled = async {
            loop {
                let wrong = wrong(&self.cluster, "default", "shop", serving).await?;
                if wrong == Wrong::default() {
                    return anyhow::Ok(());
                }
                // The controllers are on their way, or the time-out tells.
                tokio::time::sleep(Duration::from_millis(5)).await;
                ensure!(self.background.try_join_next().is_none(), "the controllers broke");
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), settled).await {
            Ok(settled) => settled?,
            Err(_) => {
                let wrong = wrong(&self.cluster, "default", "shop", serving).await?;
                anyhow::bail!("{image} should serve: {wrong:?}");
            }
        }
        let current = self.current().await;
        ensure!(image.is_empty() || current == image, "{current} is current, and {image} serves");
        Ok(())
    }

    /// A platform that goes away in a deploy, at this call, and comes again. Gives the call.
    pub(super) async fn die_in_a_deploy(
        &mut self,
        image: &str,
        at: usize,
        done: bool,
    ) -> Result<String> {
        self.gate.begin(Some((at, done)));
        let mut stopped = self.gate.stopped.subscribe();
        let (operation, _) = self.operation();
        let (provisioner, app) = (self.provisioner.clone(), self.app.clone());
        let image = image.to_owned();
        let mut deploy =
            tokio::spawn(async move { provisioner.deploy(&operation, &app, &image).await });
        let ended = tokio::select! {
            stopped = stopped.wait_for(|stopped| *stopped) => {
                drop(stopped?);
                None
            }
            ended = &mut deploy => Some(ended?),
        };
        let call = match ended {
            None => {
                deploy.abort();
                ensure!(deploy.await.is_err_and(|error| error.is_cancelled()), "it went on");
                self.gate.calls().into_iter().nth(at).context("it stopped at a call")?
            }
            // The controllers were faster, and the call was not needed.
            Some(deployed) => {
                deployed?;
                self.app.deploys += 1;
                "none".to_owned()
            }
        };
        // What is under way ends, as it would at a cluster.
        self.gate.begin(None);
        self.runtime.settled().await;
        Ok(call)
    }
}
