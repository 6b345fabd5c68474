//! Plugins: install, swap, look into; and loading them when the daemon starts.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use gantry_core::name::ProvisionerName;
use gantry_core::policy::Grant;
use gantry_engine::{Backends, Chain, Layer};
use gantry_runtime::{Bound, Bounds, Description, Generation, LoadSettings, Provisioner};
use serde_json::json;

use super::{OrProblem, Service, not_found};
use crate::api::{self, Plugin, PluginInfo, Problem, ProblemKind};
use crate::clock;
use crate::near;
use crate::operation::{Caller, Request};
use crate::platform::Platform;
use crate::store::PluginRecord;

/// How long compiling, proving and starting a plugin may take.
const TIME: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// A plugin that somebody sends.
#[derive(Clone, Debug)]
pub(crate) struct NewPlugin {
    /// The name of its provisioner.
    pub(crate) name: String,
    /// What the file is called.
    pub(crate) file: String,
    /// What is granted with it.
    pub(crate) grants: Vec<String>,
    /// Whether everything is granted that it asks for.
    pub(crate) grant_asked: bool,
    /// Whether it may take the place of a plugin of another name.
    pub(crate) force: bool,
    /// Its bytes.
    pub(crate) bytes: Bytes,
}

/// Why an installed plugin does not serve.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// The reason.
    pub(super) problem: Problem,
    /// It is sound, and what it needs was not there: that may pass.
    may_pass: bool,
}

impl Service {
    /// How large the largest plugin may be, in bytes.
    pub(crate) fn largest_plugin(&self) -> usize {
        let configured = self.config.provisioners.values().map(|config| &config.limits);
        let sizes = configured.map(|limits| limits.get(Bound::PluginSize));
        let default = Bounds::default().get(Bound::PluginSize);
        usize::try_from(sizes.fold(default, u64::max)).unwrap_or(usize::MAX)
    }

    /// Loads every plugin that is installed. One that does not load does not serve, and says why.
    pub(crate) async fn load_plugins(&self) -> Result<Vec<String>, Problem> {
        let title = || "could not list the plugins".to_owned();
        let mut told = Vec::new();
        for record in self.store.plugins().await.or_problem(title)? {
            match self.load_plugin(&record).await {
                Ok((provisioner, message)) => {
                    self.registry.register(provisioner);
                    told.extend(message);
                }
                Err(broken) => {
                    tracing::error!(
                        provisioner = record.name,
                        title = broken.problem.title,
                        detail = broken.problem.detail,
                        "does not serve"
                    );
                    self.broken().insert(record.name.clone(), broken);
                }
            }
        }
        Ok(told)
    }

    /// Loads those once more that do not serve for a reason that may have passed.
    pub(crate) async fn load_again(&self) {
        let waiting = |name: &String| self.broken().get(name).is_some_and(|one| one.may_pass);
        if !self.broken().values().any(|broken| broken.may_pass) {
            return;
        }
        let records = match self.store.plugins().await {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot list the plugins"
                );
                return;
            }
        };
        for record in records.into_iter().filter(|record| waiting(&record.name)) {
            let loaded = self.load_plugin(&record).await;
            // Somebody may have put another one in its place meanwhile; the lock is held over the look and what follows from it.
            let mut broken = self.broken();
            if !broken.contains_key(&record.name) {
                continue;
            }
            match loaded {
                Ok((provisioner, message)) => {
                    tracing::info!(provisioner = record.name, message, "serves by now");
                    self.registry.register(provisioner);
                    broken.remove(&record.name);
                }
                Err(again) => {
                    broken.insert(record.name, again);
                }
            }
        }
    }

    async fn load_plugin(
        &self,
        record: &PluginRecord,
    ) -> Result<(Provisioner, Option<String>), Broken> {
        let name = record.name.as_str();
        let title = || format!("the provisioner `{name}` does not serve");
        let unfit = |problem: Problem| Broken {
            problem: problem.hint(format!("install it again: `gantry plugin swap {name} FILE`")),
            may_pass: false,
        };
        let bytes = self.data.read_plugin(&record.digest).map_err(|error| {
            unfit(
                Problem::new(ProblemKind::Internal, title())
                    .because(format!("cannot read its plugin {}: {error}", record.digest)),
            )
        })?;
        let settings = self.settings(name, &record.grants);
        let loaded = self.runtime.load(name, &bytes, settings).await;
        let generation = loaded.or_problem(title).map_err(unfit)?;
        let operation = self.question();
        generation.initialise(&operation).await.or_problem(title).map_err(|problem| Broken {
            problem: problem.hint(format!(
                "it is tried again by itself; `gantry plugin swap {name} FILE` puts another one in its place"
            )),
            may_pass: true,
        })?;
        let provisioner = Provisioner::new(name, generation);
        // Nothing is shown when it fails: the contract says so.
        let message = provisioner.startup_message(&operation).await.unwrap_or_default();
        Ok((provisioner, (!message.trim().is_empty()).then_some(message)))
    }

    /// Lets a generation serve under its name from now on.
    fn serve(&self, name: &str, generation: Generation) {
        // Held until both are done: who loads a plugin again must find neither or both.
        let mut broken = self.broken();
        match self.registry.get(name) {
            Ok(provisioner) => drop(provisioner.swap(generation)),
            Err(_) => self.registry.register(Provisioner::new(name, generation)),
        }
        broken.remove(name);
    }

    /// The provisioners with their plugins.
    pub(crate) async fn plugins(&self) -> Result<Vec<Plugin>, Problem> {
        let records = self.store.plugins().await;
        let records = records.or_problem(|| "could not list the plugins".to_owned())?;
        Ok(records.into_iter().map(|record| self.resource_of(record).plugin).collect())
    }

    /// A provisioner with its plugin, looked into.
    pub(crate) async fn plugin(&self, name: &str) -> Result<PluginInfo, Problem> {
        let records = self.store.plugins().await;
        let mut records = records.or_problem(|| "could not list the plugins".to_owned())?;
        match records.iter().position(|record| record.name == name) {
            Some(index) => Ok(self.resource_of(records.swap_remove(index))),
            None => {
                let nearest = near::nearest(name, records.iter().map(|record| &record.name));
                Err(not_found("provisioner", name, nearest)
                    .hint_if_none("`gantry plugin list` lists them; a file needs its path: `gantry plugin inspect ./FILE`"))
            }
        }
    }

    /// Looks into a plugin that is not installed, with nothing granted.
    pub(crate) async fn inspect_plugin(&self, new: NewPlugin) -> Result<PluginInfo, Problem> {
        let settings = self.settings("inspected", &[]);
        let loaded = self.runtime.load("inspected", &new.bytes, settings).await;
        let generation =
            loaded.or_problem(|| format!("`{}` is no plugin for this host", new.file))?;
        let mut info = looked_into(&generation, &BTreeSet::new());
        info.plugin.file = new.file;
        Ok(info)
    }

    /// Installs a plugin under a new name.
    pub(crate) async fn install_plugin(
        self: &Arc<Self>,
        caller: Caller,
        new: NewPlugin,
    ) -> Result<String, Problem> {
        let name = new.name.clone();
        let title = format!("could not install the provisioner `{name}`");
        let invalid = |why: String| Problem::new(ProblemKind::Invalid, &title).because(why);
        name.parse::<ProvisionerName>().map_err(|error| invalid(error.to_string()))?;
        for grant in &new.grants {
            grant.parse::<Grant>().map_err(|error| {
                invalid(error.to_string())
                    .hint("`gantry plugin inspect FILE` lists what it asks for")
            })?;
        }
        let installed = self.store.plugins().await.or_problem(|| title.clone())?;
        let request = plugin_request("plugin-install", caller, &new);
        let taken = installed.iter().any(|record| record.name == name);
        // The same request again must find its operation instead.
        if taken && request.caller.key.is_none() {
            return Err(Problem::new(ProblemKind::Conflict, title)
                .because("a plugin is installed under this name")
                .hint(format!(
                    "put the new one in its place: `gantry plugin swap {name} {}`",
                    new.file
                )));
        }
        let service = Arc::clone(self);
        let why = title.clone();
        let work = move |work: crate::operation::Work| async move {
            if service.registry.get(&name).is_ok() {
                return Err(Problem::new(ProblemKind::Conflict, why)
                    .because("a plugin is installed under this name"));
            }
            let title = || why.clone();
            let digest = service.data.keep_plugin(&new.bytes).or_problem(title)?;
            work.operation.progress.show("compiling and proving the plugin\n");
            let grants =
                service.granted_with(&work.operation, &new, new.grants.clone(), title).await?;
            let settings = service.settings(&name, &grants);
            let loaded = service.runtime.load(&name, &new.bytes, settings).await;
            let generation = loaded.or_problem(title)?;
            generation.initialise(&work.operation).await.or_problem(title)?;
            let record = PluginRecord {
                name: name.clone(),
                digest: digest.clone(),
                file: new.file,
                grants,
                operation: work.operation.id.clone(),
                since: clock::now(),
            };
            service.store.put_plugin(record).await.or_problem(title)?;
            service.serve(&name, generation);
            Ok(json!({"digest": digest}))
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// Puts a plugin in the place of the one that serves. The old one serves until the new one is proven.
    pub(crate) async fn swap_plugin(
        self: &Arc<Self>,
        caller: Caller,
        new: NewPlugin,
    ) -> Result<String, Problem> {
        let name = new.name.clone();
        let title = format!("could not swap the plugin of `{name}`");
        let before = self.plugin(&name).await?;
        let request = plugin_request("plugin-swap", caller, &new);
        let service = Arc::clone(self);
        let why = title.clone();
        let work = move |work: crate::operation::Work| async move {
            let title = || why.clone();
            let records = service.store.plugins().await.or_problem(title)?;
            let Some(old) = records.into_iter().find(|record| record.name == name) else {
                return Err(not_found("provisioner", &name, None));
            };
            let digest = service.data.keep_plugin(&new.bytes).or_problem(title)?;
            work.operation.progress.show("compiling and proving the plugin\n");
            let grants =
                service.granted_with(&work.operation, &new, old.grants.clone(), title).await?;
            let settings = service.settings(&name, &grants);
            let loaded = service.runtime.load(&name, &new.bytes, settings).await;
            let generation = loaded.or_problem(title)?;
            if !new.force
                && let Ok(provisioner) = service.registry.get(&name)
            {
                let serves = provisioner.generation();
                refuse_another(serves.description(), generation.description(), title)?;
            }
            generation.initialise(&work.operation).await.or_problem(title)?;
            // Written down first: whatever happens now, the next start finds the new one, which is proven.
            let record = PluginRecord {
                digest: digest.clone(),
                file: new.file,
                grants,
                operation: work.operation.id.clone(),
                since: clock::now(),
                ..old
            };
            service.store.put_plugin(record).await.or_problem(title)?;
            service.serve(&name, generation);
            Ok(json!({"digest": digest, "before": before.plugin.digest}))
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// What is granted to a plugin that is sent: these rights, and if so asked every one that it asks for, which are told.
    async fn granted_with(
        &self,
        operation: &gantry_engine::Operation,
        new: &NewPlugin,
        mut grants: Vec<String>,
        title: impl Fn() -> String,
    ) -> Result<Vec<String>, Problem> {
        if !new.grant_asked {
            return Ok(grants);
        }
        // With nothing granted it can be asked all the same.
        let loaded = self.runtime.load(&new.name, &new.bytes, self.settings(&new.name, &[])).await;
        for asked in &loaded.or_problem(&title)?.description().grants {
            operation.progress.show(&format!("granted {}: {}\n", asked.grant, asked.reason));
            if !grants.contains(&asked.grant) {
                grants.push(asked.grant.clone());
            }
        }
        Ok(grants)
    }

    /// What a plugin gets when it is loaded.
    fn settings(&self, name: &str, granted: &[String]) -> LoadSettings {
        let config = self.config.provisioner(name);
        let mut grants = self.granted(name);
        grants.extend(granted.iter().cloned());
        self.hosts.give(name);
        let platform = Arc::new(self.platform(name));
        let backends = Backends {
            nodes: Arc::clone(&self.nodes),
            clusters: Arc::clone(&self.clusters),
            apps: Arc::clone(&platform) as Arc<dyn gantry_engine::Apps>,
            images: Arc::clone(&platform) as Arc<dyn gantry_engine::Images>,
            routers: Arc::clone(&platform) as Arc<dyn gantry_engine::Routers>,
            state: platform,
        };
        let layers =
            vec![Arc::clone(&self.in_service) as Arc<dyn Layer>, Arc::clone(&self.written) as _];
        LoadSettings {
            granted: grants,
            bounds: config.limits,
            config: Arc::new(self.configuration(name)),
            instance: self.data.instance().into(),
            chain: Chain::with(backends, layers),
        }
    }

    /// What is configured for a provisioner, with what people change meanwhile.
    pub(super) fn configuration(&self, name: &str) -> gantry_engine::Config {
        gantry_engine::Config::new(self.config.provisioner(name).config).under(&self.changing)
    }

    /// What the configuration grants.
    fn granted(&self, name: &str) -> BTreeSet<String> {
        self.config.provisioner(name).grants.iter().map(ToString::to_string).collect()
    }

    /// The platform as the plugins of a provisioner see it.
    pub(super) fn platform(&self, provisioner: &str) -> Platform {
        let config = self.config.provisioner(provisioner).config;
        Platform::new(Arc::clone(&self.store), provisioner, &config)
            .with_plans(&self.config.volume_plans)
            .with_counts(&self.counts)
            .with_operations(&self.operations)
            .with_routing(&self.routing)
    }

    fn resource_of(&self, record: PluginRecord) -> PluginInfo {
        let mut info = match self.registry.get(&record.name) {
            Ok(provisioner) => {
                let mut granted = self.granted(&record.name);
                granted.extend(record.grants.iter().cloned());
                looked_into(&provisioner.generation(), &granted)
            }
            Err(_) => PluginInfo::default(),
        };
        info.plugin.problem = self.broken().get(&record.name).map(|one| one.problem.clone());
        info.plugin.name = record.name;
        info.plugin.digest = record.digest;
        info.plugin.file = record.file;
        info.plugin.since = clock::text(record.since);
        info
    }
}

/// Refuses a plugin of another name than the one that serves: it would not know what that one has made.
fn refuse_another(
    serves: &Description,
    new: &Description,
    title: impl Fn() -> String,
) -> Result<(), Problem> {
    if serves.name == new.name {
        return Ok(());
    }
    let why = format!("the file is the plugin `{}`, and `{}` serves", new.name, serves.name);
    let hint = "install it under a name of its own with `gantry plugin install`; `--force` puts it in the place of the other all the same, which needs the units of that one to be its own";
    Err(Problem::new(ProblemKind::Conflict, title()).because(why).hint(hint))
}

fn plugin_request(verb: &'static str, caller: Caller, new: &NewPlugin) -> Request {
    let digest = gantry_runtime::digest(&new.bytes);
    Request {
        verb,
        app: None,
        plugin: Some(new.name.clone()),
        detail: json!({
            "file": new.file,
            "grants": new.grants,
            "grant_asked": new.grant_asked,
            "force": new.force,
            "digest": digest,
        }),
        digest: Some(digest),
        lock: Some(format!("the provisioner {}", new.name)),
        time: TIME,
        caller,
    }
}

/// What can be said of a plugin that is loaded.
fn looked_into(generation: &Generation, granted: &BTreeSet<String>) -> PluginInfo {
    let description = generation.description();
    let in_force = generation.grants();
    let mut grants: Vec<api::Grant> = description
        .grants
        .iter()
        .map(|asked| api::Grant {
            granted: in_force.contains(&asked.grant) || granted.contains(&asked.grant),
            in_force: in_force.contains(&asked.grant),
            grant: asked.grant.clone(),
            asked: Some(asked.reason.clone()),
        })
        .collect();
    for grant in granted {
        if !grants.iter().any(|known| known.grant == *grant) {
            grants.push(api::Grant {
                grant: grant.clone(),
                granted: true,
                ..api::Grant::default()
            });
        }
    }
    PluginInfo {
        plugin: Plugin {
            digest: generation.digest().to_owned(),
            plugin: description.name.clone(),
            version: description.version.clone(),
            summary: description.summary.clone(),
            ..Plugin::default()
        },
        interfaces: generation.interfaces().iter().map(|one| one.name().to_owned()).collect(),
        imports: generation.imports().to_vec(),
        grants,
        bounds: generation
            .bounds()
            .inspect()
            .into_iter()
            .map(|bound| api::Bound {
                name: bound.name.to_owned(),
                value: bound.shown,
                meaning: bound.meaning.to_owned(),
            })
            .collect(),
    }
}
