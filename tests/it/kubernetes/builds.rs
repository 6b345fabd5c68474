//! Builds inside a real cluster, by this project's own agent: the compiled plugin through the runtime, a registry with TLS and a password, nodes with containerd and no engine's socket.

use std::io::Cursor;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use gantry_core::App;
use gantry_engine::call::ImagesCall;
use gantry_engine::docker::{Auth, Docker, Endpoint, Timeouts};
use gantry_engine::layer::Next;
use gantry_engine::memory::Platform;
use gantry_engine::operation::Progress;
use gantry_engine::{
    Call, Containers as _, Kubernetes, Layer, Operation, Reply, Request, Response, Scope,
};
use gantry_runtime::{CallError, Provisioner};
use gantry_tests::artifacts;
use gantry_tests::clusters::Cluster;
use gantry_tests::daemon::{Daemon, docker, eventually, http_get};
use gantry_tests::kubernetes::{INSTANCE, POOL, Setting, provisioner};
use gantry_tests::registry::{Registry, Trust};
use gantry_tests::screen::Screen;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::SOON;

/// What the platform's own command does: nothing that the tests need but to say that it ran.
const DEPLOY: &str = "#!/bin/sh\necho \"the platform deploys an $1\"\n/bin/busybox rm -r /opt/old\n[ -f \"${2#file://}\" ]\n";

/// A cluster, and a registry with a platform's image and the agent's.
struct Yard {
    registry: Registry,
    cluster: Cluster,
    agent: String,
    _trust: [Trust; 2],
}

impl Yard {
    /// The one that all tests share which run at the same time.
    async fn shared() -> Result<Arc<Self>> {
        static YARD: tokio::sync::Mutex<Weak<Yard>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = YARD.lock().await;
        if let Some(yard) = shared.upgrade() {
            return Ok(yard);
        }
        let yard = Arc::new(Self::start().await?);
        *shared = Arc::downgrade(&yard);
        Ok(yard)
    }

    async fn start() -> Result<Self> {
        let registry = Registry::start()?;
        let cluster = Cluster::start(2)?;
        let pool = format!("tsuru.io/pool={POOL}");
        cluster.ask(&["label", "nodes", "--all", &pool])?;
        let trust = [registry.trusted_by_docker()?, registry.trusted_by_nodes(cluster.folder()?)?];
        let agent = registry.image("tools/agent:v1");
        let yard = Self { registry, cluster, agent, _trust: trust };
        yard.push_platform().await?;
        yard.push_agent().await?;
        Ok(yard)
    }

    async fn push_platform(&self) -> Result<()> {
        let image = self.registry.image("tsuru/static:latest");
        let lines = format!(
            "RUN [\"/bin/busybox\", \"mkdir\", \"-p\", \"/var/lib/tsuru\", \"/opt/old\"]\n\
             RUN printf '%b' '{}' >/var/lib/tsuru/deploy; /bin/busybox chmod 755 /var/lib/tsuru/deploy\n\
             RUN [\"/bin/busybox\", \"chown\", \"-R\", \"1000:1000\", \"/home/application\", \"/opt\"]",
            DEPLOY.replace('\n', "\\n")
        );
        artifacts::image(&image, "nothing is deployed", &lines)?;
        self.push(&image).await
    }

    async fn push_agent(&self) -> Result<()> {
        let context = tempfile::tempdir()?;
        let program = context.path().join("gantry-build-agent");
        std::fs::copy(artifacts::build_agent()?, program)?;
        let dockerfile = "FROM scratch\nCOPY gantry-build-agent /gantry-build-agent\n";
        std::fs::write(context.path().join("Dockerfile"), dockerfile)?;
        let context = context.path().to_string_lossy();
        let build = Command::new("docker")
            .env("DOCKER_BUILDKIT", "0")
            .args(["build", "-q", "-t", &self.agent, &context])
            .output()?;
        ensure!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
        self.push(&self.agent).await
    }

    /// Brings an image of this machine's engine to the registry, and leaves none here.
    async fn push(&self, image: &str) -> Result<()> {
        let registry = &self.registry;
        let auth = Auth::none().with(&registry.address, &registry.user, &registry.password);
        let engine = Docker::with(Endpoint::from_env()?, auth, Timeouts::default())?;
        let pushed = engine.push_image(image, Box::pin(tokio::io::sink())).await;
        docker(&["rmi", "-f", image])?;
        Ok(pushed?)
    }

    /// What the operator configures.
    fn config(&self) -> Result<Value> {
        let registry = &self.registry;
        Ok(json!({
            "docker": {
                "registry": registry.address,
                "registry-auth": {"username": registry.user, "password": registry.password},
                "registry-ca": std::fs::read_to_string(registry.ca())?,
            },
            "kubernetes": {"build-agent": self.agent},
        }))
    }

    /// An app of this name, and a platform that has it.
    async fn site(&self, app: &str, config: Value) -> Result<Site<'_>> {
        let app = App {
            name: app.to_owned(),
            platform: "static".to_owned(),
            pool: POOL.to_owned(),
            team_owner: "team".to_owned(),
            ..App::default()
        };
        let platform = Platform::new().app(app.clone()).quota(&app.name, 10);
        let platform = platform.env(&app.name, "GREETING", "good morning");
        let names = Named(self.registry.address.clone());
        // A client of this test's own: one ends with the runtime that it was made in.
        let endpoint =
            gantry_engine::kubernetes::Endpoint::kubeconfig(self.cluster.kubeconfig(), "");
        let setting = Setting {
            cluster: Arc::new(Kubernetes::new(&endpoint).await?),
            namespace: "default".to_owned(),
            beside: None,
            platform,
            config,
            layers: vec![Arc::new(names)],
            granted: None,
        };
        let runtime = artifacts::runtime()?;
        let provisioner = provisioner(&runtime, setting).await?;
        Ok(Site { yard: self, app, provisioner, _runtime: runtime })
    }

    /// Every pod that builds or looks into an image of an app.
    fn pods(&self, app: &str) -> Result<String> {
        let selector =
            format!("gantry.instance={INSTANCE},tsuru.io/app-name={app},tsuru.io/is-build=true");
        self.cluster.ask(&["get", "pods", "-A", "-l", &selector, "-o", "name"])
    }

    /// Lets a build go on that waits for a file.
    fn go_on(&self, app: &str) -> Result<()> {
        let pod = self.pods(app)?;
        let name = pod.trim().trim_start_matches("pod/");
        let touch = ["--", "/bin/busybox", "touch", "/home/application/go"];
        let exec = ["exec", name, "--container", name];
        self.cluster.ask(&[&exec[..], &touch].concat())?;
        Ok(())
    }
}

/// A daemon's apps have images of the configured registry; those in memory are of none.
struct Named(String);

#[async_trait]
impl Layer for Named {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, gantry_engine::Error> {
        let reserves = matches!(&request.call, Call::Images(ImagesCall::Reserve { .. }));
        let mut response = next.send(scope, request).await?;
        if let (true, Reply::Text(name)) = (reserves, &mut response.reply) {
            *name = format!("{}/{name}", self.0);
        }
        Ok(response)
    }
}

/// An app on the cluster.
struct Site<'a> {
    yard: &'a Yard,
    app: App,
    provisioner: Provisioner,
    _runtime: gantry_runtime::Runtime,
}

impl Site<'_> {
    fn operation(&self) -> (Operation, Arc<Screen>) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let screen = Arc::new(Screen::default());
        let operation = Operation::new(format!("build-{number}"), Duration::from_secs(600));
        (operation.shown_to(Arc::clone(&screen) as Arc<dyn Progress>), screen)
    }

    async fn build(&self, archive: Vec<u8>, tag: &str) -> (Result<String, CallError>, String) {
        let (operation, screen) = self.operation();
        let archive = Box::pin(Cursor::new(archive));
        let built = self.provisioner.build_pod(&operation, &self.app, archive, tag).await;
        (built, screen.text())
    }

    fn repository(&self) -> String {
        format!("team/app-{}", self.app.name)
    }

    fn tags(&self) -> Result<Vec<String>> {
        Ok(self.yard.registry.tags(&self.repository())?.into_iter().collect())
    }

    /// Fails as it should: says why, shows this, and leaves no pod and no image.
    async fn fails(&self, archive: Vec<u8>, why: &str, shown: &str) -> Result<()> {
        let (built, screen) = self.build(archive, "v1").await;
        let text = built.err().context("it fails")?.to_string();
        ensure!(text.contains(why), "{why:?} is not said: {text}\n{screen}");
        ensure!(screen.contains(shown), "{shown:?} is not shown: {screen}");
        let pods = self.yard.pods(&self.app.name)?;
        ensure!(pods.is_empty(), "left behind: {pods}");
        Ok(())
    }
}

/// The source of an app: a page, and what is done with it.
struct Source(TempDir);

impl Source {
    fn new(hooks: &[&str]) -> Result<Self> {
        let source = Self(tempfile::tempdir()?);
        let hooks: String = hooks.iter().map(|hook| format!("    - {hook}\n")).collect();
        source.put("tsuru.yaml", &format!("hooks:\n  build:\n{hooks}healthcheck:\n  path: /\n"))?;
        source.put("Procfile", "web: env WWW=/home/application/current serve\n")?;
        source.put("index.html", "from the source\n")?;
        Ok(source)
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.0.path().join(name), text)?)
    }

    fn archive(&self) -> Result<Vec<u8>> {
        let tar =
            Command::new("tar").args(["-czf", "-", "-C"]).arg(self.0.path()).arg(".").output()?;
        ensure!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        Ok(tar.stdout)
    }
}

/// What is in a layer, a line for each entry as `tar` lists it.
fn listed(layer: &[u8], folder: &Path) -> Result<String> {
    let file = folder.join("layer.tar.gz");
    std::fs::write(&file, layer)?;
    let tar = Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(&file).output()?;
    ensure!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    Ok(String::from_utf8(tar.stdout)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_becomes_an_image_of_the_registry_that_runs_on_the_cluster() -> Result<()> {
    let yard = Yard::shared().await?;
    let site = yard.site("good", yard.config()?).await?;
    let source = Source::new(&[
        "echo \"$GREETING\"; until [ -e /home/application/go ]; do sleep 1; done; echo gone on",
        "echo built by hook >>index.html; id -u; env",
    ])?;

    // What the build says is seen while it runs: it goes on when somebody who has seen it says so.
    let (operation, screen) = site.operation();
    let archive = Box::pin(Cursor::new(source.archive()?));
    let build = site.provisioner.build_pod(&operation, &site.app, archive, "");
    let watch = async {
        let seen = tokio::time::timeout(SOON, screen.until("\ngood morning\n")).await;
        seen.with_context(|| format!("nothing is seen of the build: {}", screen.text()))?;
        ensure!(!screen.text().contains("\ngone on\n"), "it waits");
        yard.go_on("good")?;
        anyhow::Ok(())
    };
    let build = async { build.await.with_context(|| screen.text()) };
    let (built, ()) = tokio::try_join!(build, watch)?;
    ensure!(built == yard.registry.image("team/app-good:v1-builder"), "{built}");
    let text = screen.text();
    for line in ["the platform deploys an archive\n", "\ngone on\n", "\n1000\n", " ---> Pushing "] {
        ensure!(text.contains(line), "{line:?} is not shown: {text}");
    }
    ensure!(!text.contains(&yard.registry.password), "no code of the app sees the password");
    ensure!(yard.pods("good")?.is_empty(), "the pod is gone");

    // The image: the platform's layers, and one more with what has changed, whose it is.
    let manifest = yard.registry.manifest("team/app-good", "v1-builder")?;
    let platform = yard.registry.manifest("tsuru/static", "latest")?;
    let layers = |manifest: &Value| {
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        layers.iter().map(|layer| layer["digest"].to_string()).collect::<Vec<_>>()
    };
    let (made, base) = (layers(&manifest), layers(&platform));
    ensure!(made.len() == base.len() + 1 && made.starts_with(&base), "{made:?} on {base:?}");
    let layer = made.last().context("a layer")?.trim_matches('"');
    let layer = yard.registry.blob("team/app-good", layer)?;
    let entries = listed(&layer, source.0.path())?;
    for name in ["Procfile", "index.html", "tsuru.yaml"] {
        let line = entries
            .lines()
            .find(|line| line.ends_with(&format!("home/application/current/{name}")));
        ensure!(line.is_some_and(|line| line.contains(" 1000/")), "{name}: {entries}");
    }
    ensure!(entries.contains(" opt/.wh.old\n"), "what was removed stays removed: {entries}");
    for odd in ["intercontainer", "/proc/", "etc/hosts", "serviceaccount", "www/"] {
        ensure!(!entries.contains(odd), "{odd}: {entries}");
    }

    // It runs: as the app's own image first, as a deploy makes it.
    let (operation, screen) = site.operation();
    let deployed = site.provisioner.deploy(&operation, &site.app, &built).await;
    let deployed = deployed.with_context(|| screen.text())?;
    ensure!(deployed == yard.registry.image("tsuru/app-good:v1"), "{deployed}");
    let tags = yard.registry.tags("tsuru/app-good")?;
    ensure!(tags == ["latest", "v1"].map(str::to_owned).into(), "{tags:?}");
    let question = Operation::new("", SOON);
    let addresses = site.provisioner.routable_addresses(&question, &site.app).await?;
    let address = addresses.first().context("it is reached")?;
    eventually(SOON, "the app answers", || {
        let answer = http_get(address).ok();
        Ok(answer.filter(|(_, body)| body == "from the source\nbuilt by hook\n").map(drop))
    })?;

    // And it is told what is in it.
    let (operation, screen) = site.operation();
    let named = yard.registry.image("team/seen:v7");
    let inspected =
        site.provisioner.tag_push_and_inspect(&operation, &site.app, &built, &named).await;
    let inspected = inspected.with_context(|| screen.text())?;
    ensure!(inspected.procfile.starts_with("web: env WWW="), "{}", inspected.procfile);
    let yaml: Value = serde_json::from_str(&inspected.tsuru_yaml)?;
    ensure!(yaml["healthcheck"]["path"] == "/", "{yaml}");
    let image: Value = serde_json::from_str(&inspected.image)?;
    ensure!(image["Config"]["Entrypoint"] == json!(["/bin/serve"]), "{image}");
    ensure!(yard.registry.tags("team/seen")?.contains("v7"));
    ensure!(yard.pods("good")?.is_empty(), "no pod is left");
    let (operation, _) = site.operation();
    site.provisioner.destroy(&operation, &site.app).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_fails_says_why_and_leaves_nothing() -> Result<()> {
    let yard = Yard::shared().await?;
    let site = yard.site("bad", yard.config()?).await?;
    let good = Source::new(&["echo never mind"])?.archive()?;

    let exits = Source::new(&["echo last words; exit 3", "echo not this one"])?;
    site.fails(exits.archive()?, "`echo last words; exit 3` ended with 3", "\nlast words\n")
        .await?;
    let cut = good.get(..good.len() / 2).context("a half")?.to_vec();
    site.fails(cut, "the archive is damaged: ", "").await?;
    site.fails(Vec::new(), "nothing was sent to be built", "").await?;

    let mut config = yard.config()?;
    let other = Registry::start()?;
    config["docker"]["registry-ca"] = std::fs::read_to_string(other.ca())?.into();
    let strange = yard.site("bad", config).await?;
    let why = format!("the registry `{}` does not answer: ", yard.registry.address);
    strange.fails(good.clone(), &why, "").await?;

    let mut missing = yard.site("bad", yard.config()?).await?;
    missing.app.platform = "nothing".to_owned();
    missing.fails(good.clone(), "tsuru/nothing:latest", "").await?;

    let mut config = yard.config()?;
    config["kubernetes"]["build-agent"] = yard.registry.image("tools/nothing:v1").into();
    let no_agent = yard.site("bad", config).await?;
    no_agent.fails(good.clone(), "tools/nothing:v1", "").await?;
    ensure!(site.tags()?.is_empty(), "no image has a name: {:?}", site.tags()?);

    // Nothing of that stands in the way of the next.
    let (built, screen) = site.build(good, "v1").await;
    built.with_context(|| screen)?;
    ensure!(site.tags()? == ["v1"], "{:?}", site.tags()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_somebody_cancels_leaves_no_pod_and_no_image() -> Result<()> {
    let yard = Yard::shared().await?;
    let site = yard.site("stopped", yard.config()?).await?;
    let source = Source::new(&["echo building; sleep 1000"])?;
    let (operation, screen) = site.operation();
    let archive = Box::pin(Cursor::new(source.archive()?));
    let build = site.provisioner.build_pod(&operation, &site.app, archive, "v1");
    let cancel = async {
        let seen = tokio::time::timeout(SOON, screen.until("\nbuilding\n")).await;
        seen.with_context(|| format!("nothing is seen of the build: {}", screen.text()))?;
        operation.cancel.cancel();
        anyhow::Ok(())
    };
    let (built, ()) = tokio::try_join!(async { anyhow::Ok(build.await) }, cancel)?;
    let text = built.err().context("it was cancelled")?.to_string();
    ensure!(text.contains("cancel"), "{text}");
    ensure!(yard.pods("stopped")?.is_empty(), "no pod stays");
    ensure!(site.tags()?.is_empty(), "{:?}", site.tags()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_goes_away_in_a_build_is_told_and_no_pod_stays() -> Result<()> {
    // One of its own, since it ends.
    let yard = Yard::start().await?;
    let site = yard.site("gone", yard.config()?).await?;
    let source =
        Source::new(&["echo building; until [ -e /home/application/go ]; do sleep 1; done"])?;
    let (operation, screen) = site.operation();
    let archive = Box::pin(Cursor::new(source.archive()?));
    let build = site.provisioner.build_pod(&operation, &site.app, archive, "v1");
    let end = async {
        let seen = tokio::time::timeout(SOON, screen.until("\nbuilding\n")).await;
        seen.with_context(|| format!("nothing is seen of the build: {}", screen.text()))?;
        yard.registry.stop()?;
        yard.go_on("gone")?;
        anyhow::Ok(())
    };
    let (built, ()) = tokio::try_join!(async { anyhow::Ok(build.await) }, end)?;
    let text = built.err().context("it fails")?.to_string();
    let why = format!("the registry `{}` does not answer: ", yard.registry.address);
    ensure!(text.contains(&why), "{text}");
    ensure!(yard.pods("gone")?.is_empty(), "no pod stays");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn app_deploy_of_a_directory_builds_in_the_cluster_and_a_build_that_fails_changes_nothing()
-> Result<()> {
    let yard = Yard::shared().await?;
    // Who asks the registry is in what the provisioner reads.
    let config = json!({"provisioners": {"kubernetes": {"config": yard.config()?}}});
    let daemon = Daemon::with_kubernetes_for(POOL, &yard.cluster, &toml::to_string(&config)?)?;
    // In a namespace of its own: what tells nodes the password is one object a registry, and another installation's apps are built beside this.
    yard.cluster.ask(&["create", "namespace", "typed"])?;
    daemon.cli(&["cluster", "update", "test", "--namespace", "typed"])?.success()?;
    let create = ["app", "create", "typed", "static", "--pool", POOL, "--team-owner", "team"];
    daemon.cli(&create)?.success()?;
    let answers = |text: &str| {
        eventually(SOON, text, || {
            let info = daemon.json(&["app", "info", "typed"])?;
            let Some(address) = info["addresses"][0].as_str() else { return Ok(None) };
            let answer = http_get(address).ok();
            Ok(answer.filter(|(_, body)| body == text).map(drop))
        })
    };

    let source = Source::new(&["echo built by hook >>index.html"])?;
    let folder = source.0.path().to_string_lossy();
    let deployed = daemon.cli(&["app", "deploy", "typed", &folder])?;
    ensure!(deployed.code == Some(0), "{deployed:?}");
    for line in ["the platform deploys an archive", "---> Pushing"] {
        ensure!(deployed.stderr.contains(line), "{line:?} is not shown: {}", deployed.stderr);
    }
    ensure!(!format!("{deployed:?}").contains(&yard.registry.password), "the password is shown");
    answers("from the source\nbuilt by hook\n")?;

    let worse = Source::new(&["echo last words; exit 3"])?;
    let folder = worse.0.path().to_string_lossy();
    let failed = daemon.cli(&["app", "deploy", "typed", &folder])?;
    ensure!(failed.code == Some(1), "{failed:?}");
    ensure!(failed.stderr.contains("`echo last words; exit 3` ended with 3"), "{failed:?}");
    ensure!(failed.stderr.contains("\nlast words\n"), "{failed:?}");
    answers("from the source\nbuilt by hook\n")?;
    let tags = |repository: &str| yard.registry.tags(repository);
    let found = tags("tsuru/app-typed")?;
    ensure!(found == ["latest", "v1"].map(str::to_owned).into(), "{found:?}");
    let found = tags("team/app-typed")?;
    ensure!(found.is_empty(), "what was built is in what was made of it: {found:?}");

    // One that builds and does not start leaves no image, and not the newest that it was for a moment.
    let third = Source::new(&["true"])?;
    third.put("Procfile", "web: env CRASH=3 serve\n")?;
    let failed = daemon.cli(&["app", "deploy", "typed", &third.0.path().to_string_lossy()])?;
    ensure!(failed.code == Some(1), "{failed:?}");
    answers("from the source\nbuilt by hook\n")?;
    let found = tags("tsuru/app-typed")?;
    ensure!(found == ["v1".to_owned()].into(), "{found:?}");
    let found = tags("team/app-typed")?;
    ensure!(found.is_empty(), "{found:?}");

    daemon.cli(&["app", "remove", "typed", "-y"])?.success()?;
    let found = tags("tsuru/app-typed")?;
    ensure!(found.is_empty(), "nothing of it stays in the registry: {found:?}");
    let mine = format!("gantry.instance={}", daemon.instance);
    let left =
        || yard.cluster.ask(&["get", "pods,deployments,services", "-A", "-l", &mine, "-o", "name"]);
    eventually(SOON, "nothing of it is left", || Ok(left()?.is_empty().then_some(())))
}
