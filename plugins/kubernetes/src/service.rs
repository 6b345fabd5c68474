//! One process of an app on its cluster: made what it is to be, put back when that fails, removed (spec 7.3, 7.4).

use gantry_sdk::cluster::Kind;
use gantry_sdk::commands::UnitAgent;
use gantry_sdk::config::Config;
use gantry_sdk::gantry_core::env::Variable;
use gantry_sdk::gantry_core::labels::{
    ServiceAccountOptions, ServiceExtension, ServiceOptions, VolumeOptions,
};
use gantry_sdk::image::ImageMetadata;
use gantry_sdk::{App, Error, LabelSet, Result, apps, labels, log, operation};
use serde_json::Value;

use crate::failures::Failures;
use crate::home::{Home, kinds};
use crate::manifest::pod::OneShot;
use crate::manifest::removal::{self, Removal};
use crate::manifest::{Workload, account, deployment, secret, service};
use crate::object::name;
use crate::process::Target;
use crate::rollout::{Rollout, rollback_failed, rolling_back};
use crate::volume::{Attached, Bind, Volume};
use crate::wait::{self, ProcessWatch};
use crate::{PREFIX, PROVISIONER, daemons, twins};

/// How long the pods of a removed process have to end.
const ENDING: std::time::Duration = std::time::Duration::from_secs(60);

/// What pods are for: what their labels say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A unit of the app.
    Unit,
    /// The build of an image, or a look into one.
    Build,
    /// One command in a pod of its own.
    IsolatedRun,
}

/// An app that is being changed, with what all its processes share.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// The app.
    pub(crate) app: &'a App,
    /// Where it lives.
    pub(crate) home: &'a Home,
    routers: Vec<String>,
    agent: UnitAgent,
    volumes: Attached,
}

impl<'a> Site<'a> {
    /// What the processes of an app share.
    ///
    /// # Errors
    ///
    /// The platform does not answer, or a volume of the app is none.
    pub(crate) fn new(app: &'a App, home: &'a Home) -> Result<Self> {
        let routers = apps::routers(&app.name)?.into_iter().map(|router| router.name).collect();
        let envs = apps::envs(&app.name)?;
        let token = envs.iter().find(|env| env.name == "TSURU_APP_TOKEN");
        let token = token.map(|env| env.value.as_str()).unwrap_or_default();
        let agent = UnitAgent::from_settings(&Config, &app.name, token);
        Ok(Self { app, home, routers, agent, volumes: volumes(app, home)? })
    }

    /// The labels of a process, or of a pod of no process, which has no name and no units.
    ///
    /// # Errors
    ///
    /// The type of a router is not configured.
    pub(crate) fn labels(
        &self,
        process: &str,
        replicas: i64,
        purpose: Purpose,
    ) -> Result<LabelSet> {
        labels::service(&ServiceOptions {
            app: self.app,
            routers: &self.routers,
            process,
            replicas,
            extension: ServiceExtension {
                provisioner: PROVISIONER,
                prefix: PREFIX,
                build_image: "",
                is_deploy: false,
                is_isolated_run: purpose == Purpose::IsolatedRun,
                is_build: purpose == Purpose::Build,
                builder: "",
            },
        })
    }

    /// A pod of the app that runs once, with the app's volumes.
    pub(crate) fn one_shot<'b>(
        &'b self,
        name: &'b str,
        image: &'b str,
        labels: &'b LabelSet,
        envs: &'b [Variable],
    ) -> OneShot<'b> {
        OneShot {
            name,
            app: self.app,
            image,
            labels,
            envs,
            volumes: &self.volumes,
            cluster: &self.home.cluster,
            defaults: &self.home.defaults,
        }
    }

    /// What the objects of the app's units stand on: the account, the secret of the registry, and its volumes.
    ///
    /// # Errors
    ///
    /// The cluster refuses, or does not answer.
    pub(crate) fn prepare(&self, image: &str) -> Result<()> {
        let namespace = self.home.namespace();
        let set = labels::service_account(&ServiceAccountOptions {
            app_name: Some(&self.app.name),
            node_container_name: "",
            provisioner: PROVISIONER,
            prefix: PREFIX,
        });
        let mut objects = vec![account::of_app(&self.app.name, namespace, &set)];
        objects.extend(secret::for_image(image, &self.home.defaults.registry, namespace));
        objects.extend(self.volumes.objects.iter().cloned());
        self.home.apply_all(&objects).map(drop)
    }

    /// What the pods of the app's units are told to run with.
    pub(crate) fn agent(&self) -> &UnitAgent {
        &self.agent
    }
}

/// The volumes that an app has, and the objects behind them.
fn volumes(app: &App, home: &Home) -> Result<Attached> {
    let mut attached = Attached::default();
    for volume in apps::volumes(&app.name)? {
        let set = labels::volume(&VolumeOptions {
            name: &volume.name,
            provisioner: PROVISIONER,
            pool: &volume.pool,
            plan: &volume.plan,
            prefix: PREFIX,
        });
        let bind = |bind: gantry_sdk::VolumeBind| Bind {
            app: app.name.clone(),
            mount_point: bind.mount_point,
            read_only: bind.read_only,
        };
        let volume = Volume {
            name: volume.name,
            plan: volume.plan_options,
            options: volume.options,
            binds: volume.binds.into_iter().map(bind).collect(),
        };
        for option in volume.idle_options() {
            operation::progress(&format!(
                " ---> volume {}: the option {option} means nothing to a storage class <---\n",
                volume.name
            ));
        }
        attached.attach(&volume, &set, home.namespace(), &app.name).map_err(|error| {
            let Error::InvalidArgument(why) = error else { return error };
            Error::InvalidArgument(format!("volume `{}`: {why}", volume.name))
        })?;
    }
    Ok(attached)
}

/// What a process runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version<'a> {
    /// The image.
    pub(crate) image: &'a str,
    /// What is known of it.
    pub(crate) metadata: &'a ImageMetadata,
}

/// Makes a process what it is to be, and waits until its units are; `before` is its Deployment as it is. When that fails, the process is what it was.
///
/// # Errors
///
/// What cannot be made, which leaves everything as it is; or units that do not start or do not answer.
pub(crate) fn deploy(
    site: &Site<'_>,
    process: &str,
    version: Version<'_>,
    target: Target,
    before: Option<&Value>,
) -> Result<()> {
    let Site { app, home, .. } = *site;
    let mut set = site.labels(process, target.replicas, Purpose::Unit)?;
    target.write(&mut set);
    let envs = apps::unit_envs(&app.name, process, false)?;
    let workload = Workload {
        app,
        process,
        image: version.image,
        metadata: version.metadata,
        labels: &set,
        replicas: target.running,
        envs: &envs,
        agent: &site.agent,
        volumes: &site.volumes,
        cluster: &home.cluster,
        defaults: &home.defaults,
    };
    // Made before anything is sent: what cannot be made leaves everything as it is.
    let mut wanted = deployment::deployment(&workload)?;
    deployment::wait_for(&mut wanted, home.timeouts.deployment_progress);
    if let Some(before) = before {
        deployment::keep_units(&mut wanted, before);
    }
    let services = [service::service(&workload), service::headless(&workload)];
    let pods = set.to_selector();
    daemons::ensure(home).map_err(|error| {
        Error::Other(format!("unable to ensure node containers running: {error}"))
    })?;
    site.prepare(version.image)?;
    let replaced =
        replace(home, process, &wanted, &pods).and_then(|()| home.apply_all(&services).map(drop));
    let Err(error) = replaced else {
        return Ok(());
    };
    operation::undoing();
    operation::progress(&rolling_back(&error));
    if let Err(failure) = put_back(home, app, process, before, true) {
        operation::progress(&rollback_failed(&failure));
        log::error(
            "a process could not be put back",
            &[("app", app.name.as_str()), ("process", process), ("error", &failure.to_string())],
        );
    }
    Err(error)
}

/// Sends a Deployment, and waits until its units are replaced.
fn replace(home: &Home, process: &str, wanted: &Value, pods: &gantry_sdk::Labels) -> Result<()> {
    let watch = ProcessWatch::begin(home, name(wanted), pods)?;
    operation::progress(&Rollout::headline(process));
    let sent = home.apply(wanted)?;
    watch.finish(&sent, false)
}

/// Makes a process what it was before this request: its Deployment with its Services, or nothing where there was none. It needs nothing else of the cluster than to take them: whatever cannot be
/// seen or asked meanwhile keeps nothing from being put back.
///
/// # Errors
///
/// What the cluster refused, or units that do not start.
pub(crate) fn put_back(
    home: &Home,
    app: &App,
    process: &str,
    before: Option<&Value>,
    silent: bool,
) -> Result<()> {
    let pods = pods_of(app, process);
    let Some(before) = before else {
        return remove(home, &pods);
    };
    let watch = ProcessWatch::begin(home, name(before), &pods);
    // Where the Deployment stays as it is, the Services stay those of its units.
    let Some(deployment) = home.put_back(&kinds::deployment(), name(before))? else {
        return Err(Error::NotFound(format!(
            "somebody has deleted the Deployment `{}` meanwhile",
            name(before)
        )));
    };
    let services = twins::services_of_process(&app.name, process);
    let led = home.put_all_back(&services);
    // The units of before have served all along, or come again; this waits until those of the failure are gone.
    watch?.finish(&deployment, silent)?;
    led
}

/// Removes a process with everything of it; `pods` selects its units. That something is not there is fine.
///
/// # Errors
///
/// What the cluster refused, all of it, after everything was tried.
pub(crate) fn remove(home: &Home, pods: &gantry_sdk::Labels) -> Result<()> {
    delete(home, &removal::of_process(pods))?;
    pods_gone(home, &crate::object::selector(pods))
}

/// Waits until the pods that were deleted are gone.
///
/// # Errors
///
/// Some are still there, or the cluster does not answer.
pub(crate) fn pods_gone(home: &Home, selector: &str) -> Result<()> {
    wait::gone(home, kinds::pod(), selector, ENDING)
}

/// Deletes objects, whatever of them is there.
///
/// # Errors
///
/// What the cluster refused, all of it, after everything was tried.
pub(crate) fn delete(home: &Home, removals: &[Removal]) -> Result<()> {
    let mut failures = Failures::default();
    for removal in removals {
        let (kind, found) = match removal {
            Removal::Named { api_version, kind, name } => {
                (Kind::new(api_version, kind), Ok(vec![name.clone()]))
            }
            Removal::Selected { api_version, kind, selector } => {
                let kind = Kind::new(api_version, kind);
                let all = home.list(&kind, selector);
                let names = |all: Vec<Value>| all.iter().map(|one| name(one).to_owned()).collect();
                (kind, all.map(names))
            }
        };
        let deleted = found.and_then(|names: Vec<String>| home.delete_all(&kind, names));
        failures.note(deleted, |error| format!("cannot delete {}: {error}", kind.kind));
    }
    failures.end()
}

/// Refuses to take what is another's for one of these processes of an app: their objects have names that others may come to as well.
///
/// # Errors
///
/// Something of that name is there, or the cluster refuses or does not answer.
pub(crate) fn refuse_taken<'a>(
    home: &Home,
    app: &str,
    processes: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let mut of = Vec::new();
    let mut names = Vec::new();
    for process in processes {
        for (kind, name) in twins::of_process(app, process) {
            of.push(process);
            names.push((kind, home.namespace().to_owned(), name));
        }
    }
    for (process, found) in of.into_iter().zip(home.find_all(&names)?) {
        if let Some(found) = found {
            twins::refuse_another(&found, app, process)?;
        }
    }
    Ok(())
}

/// The selector of the units of a process.
pub(crate) fn pods_of(app: &App, process: &str) -> gantry_sdk::Labels {
    let label = |key: &str, value: &str| (format!("{PREFIX}{key}"), value.to_owned());
    gantry_sdk::Labels::from([
        label("app-name", &app.name),
        label("app-process", process),
        label("is-build", "false"),
        label("is-isolated-run", "false"),
    ])
}
