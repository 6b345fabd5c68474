//! The functions of the contract, each handed to the file that does it.

use gantry_sdk::gantry_core::node::{
    AddNodeOptions, Node, NodeStatusData, RemoveNodeOptions, UpdateNodeOptions,
};
use gantry_sdk::streams::{Reader, Session, Writer};
use gantry_sdk::{
    App, Availability, ClusterBuilder, Deployer, Description, Exec, InspectedImage, Lifecycle,
    Logs, NodeContainers, NodePage, Nodes, Plugin, Provisioner, Result, Rollback, Shell,
    ShellOptions, Sleep, Source, TailOptions, Unit, UnitFinder, UnitKill, UnitPage, Volumes,
};

use crate::process::State;
use crate::{PROVISIONER, build, change, daemons, exec, machines, query, storage};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct Kubernetes;

gantry_sdk::export!(
    Kubernetes: deployer, rollback, exec, logs, lifecycle, sleep, shell, unit_finder, unit_kill, nodes,
    node_containers, volumes, cluster_builder
);

/// The rights that every deploy needs: objects of the provisioner's own, and a look at what no provisioner owns.
const GRANTS: &[(&str, &str)] = &[
    ("cluster:*:Deployment.apps", "runs the processes of apps"),
    ("cluster:read:ReplicaSet.apps", "tells new units from old ones while they are replaced"),
    ("cluster:write:ReplicaSet.apps", "removes what a removed process leaves"),
    ("cluster:*:Pod", "shows units, runs commands in them, shows their logs"),
    ("cluster:*:Service", "makes apps reachable"),
    ("cluster:*:ServiceAccount", "gives every app an account of its own"),
    ("cluster:*:Secret", "keeps the password of the registry where units are pulled with it"),
    ("cluster:*:DaemonSet.apps", "runs the operator's containers on every node"),
    ("cluster:*:PersistentVolume", "makes the volumes of apps"),
    ("cluster:*:PersistentVolumeClaim", "gives apps their volumes"),
    ("cluster:foreign:read:Event", "tells people why units do not start"),
    ("cluster:foreign:read:Node", "tells where units run and where apps are reached"),
    ("cluster:foreign:write:Node", "adds, changes, drains and removes nodes when somebody asks"),
    (
        "containers:binds:/*",
        "gives node containers, volumes and builds the folders of a node that the operator names",
    ),
    ("containers:privileged", "runs node containers that the operator made privileged"),
    ("containers:host-network", "runs node containers that the operator put in the node's network"),
];

impl Plugin for Kubernetes {
    fn describe() -> Description {
        let description = Description::new(
            PROVISIONER,
            version(),
            "Runs the units of apps as pods of a Kubernetes cluster.",
        );
        GRANTS
            .iter()
            .fold(description, |description, (grant, reason)| description.grant(*grant, *reason))
    }
}

/// The version, and which build of it this is (`GANTRY_BUILD`, when it was built): what tells two builds apart.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    match option_env!("GANTRY_BUILD") {
        Some(build) => format!("{version}+{build}"),
        None => version,
    }
}

impl Provisioner for Kubernetes {
    fn provision(_app: App) -> Result<()> {
        Ok(())
    }

    fn destroy(app: App) -> Result<()> {
        change::destroy(&app)
    }

    fn add_units(app: App, count: u32, process: String) -> Result<()> {
        change::scale(&app, &process, i64::from(count))
    }

    fn remove_units(app: App, count: u32, process: String) -> Result<()> {
        change::scale(&app, &process, -i64::from(count))
    }

    fn restart(app: App, process: String) -> Result<()> {
        change::ask(&app, &process, State::RESTART)
    }

    fn start(app: App, process: String) -> Result<()> {
        change::ask(&app, &process, State::START)
    }

    fn stop(app: App, process: String) -> Result<()> {
        change::ask(&app, &process, State::STOP)
    }

    fn units(apps: Vec<App>, after: Option<String>) -> Result<UnitPage> {
        query::units(&apps, after.as_deref())
    }

    fn routable_addresses(app: App) -> Result<Vec<String>> {
        query::routable_addresses(&app)
    }

    fn register_unit(app: App, unit_id: String, custom_data: Option<String>) -> Result<()> {
        query::register(&app, &unit_id, custom_data.as_deref())
    }
}

impl Deployer for Kubernetes {
    fn deploy(app: App, image: String) -> Result<String> {
        change::deploy(&app, &image)
    }
}

impl Rollback for Kubernetes {
    fn rollback(app: App, image: String) -> Result<String> {
        change::rollback(&app, &image)
    }
}

impl Sleep for Kubernetes {
    fn sleep(app: App, process: String) -> Result<()> {
        change::ask(&app, &process, State::SLEEP)
    }
}

impl Exec for Kubernetes {
    fn execute(
        app: App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        exec::in_all(&asked(&app, &command, &args, &stdout, &stderr))
    }

    fn execute_once(
        app: App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        exec::in_one(&asked(&app, &command, &args, &stdout, &stderr))
    }

    fn execute_isolated(
        app: App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        exec::isolated(&asked(&app, &command, &args, &stdout, &stderr))
    }
}

fn asked<'a>(
    app: &'a App,
    line: &'a str,
    args: &'a [String],
    stdout: &'a Writer,
    stderr: &'a Writer,
) -> exec::Command<'a> {
    exec::Command { app, line, args, stdout, stderr }
}

impl Shell for Kubernetes {
    fn open(app: App, options: ShellOptions) -> Result<Session> {
        exec::shell(&app, &options)
    }
}

impl Logs for Kubernetes {
    fn enabled(_app: App) -> Result<Availability> {
        Ok(Availability::Enabled)
    }

    fn tail(app: App, options: TailOptions) -> Result<Vec<Source>> {
        exec::tail(&app, &options)
    }
}

impl Lifecycle for Kubernetes {
    fn initialise() -> Result<()> {
        Ok(())
    }

    fn startup_message() -> Result<String> {
        machines::startup_message()
    }
}

impl UnitFinder for Kubernetes {
    fn app_from_unit_id(unit_id: String) -> Result<String> {
        query::app_of(&unit_id)
    }
}

impl UnitKill for Kubernetes {
    fn kill(app: App, unit_id: String, force: bool) -> Result<()> {
        exec::kill(&app, &unit_id, force)
    }
}

impl Nodes for Kubernetes {
    fn list(addresses: Option<Vec<String>>, after: Option<String>) -> Result<NodePage> {
        machines::list(addresses.as_deref(), after.as_deref())
    }

    fn get(address: String) -> Result<Node> {
        machines::get(&address)
    }

    fn units(address: String) -> Result<Vec<Unit>> {
        machines::units(&address)
    }

    fn add(options: AddNodeOptions) -> Result<()> {
        machines::add(&options)
    }

    fn update(options: UpdateNodeOptions) -> Result<()> {
        machines::update(&options)
    }

    fn remove(options: RemoveNodeOptions) -> Result<()> {
        machines::remove(&options)
    }

    fn for_node_data(data: NodeStatusData) -> Result<Node> {
        machines::for_node_data(&data)
    }
}

impl NodeContainers for Kubernetes {
    fn upgrade(name: String, pool: String) -> Result<()> {
        daemons::upgrade(&name, &pool)
    }

    fn remove(name: String, pool: String) -> Result<()> {
        daemons::remove(&name, &pool)
    }
}

impl Volumes for Kubernetes {
    fn delete(name: String, pool: String) -> Result<()> {
        storage::delete(&name, &pool)
    }
}

impl ClusterBuilder for Kubernetes {
    fn build_pod(app: App, archive: Reader, tag: String) -> Result<String> {
        build::build_pod(&app, archive, &tag)
    }

    fn tag_push_and_inspect(app: App, image: String, new_image: String) -> Result<InspectedImage> {
        build::inspect(&app, &image, &new_image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_is_asked_for_with_a_reason() {
        for request in Kubernetes::describe().grants {
            let grant: gantry_sdk::gantry_core::policy::Grant = request.grant.parse().unwrap();
            assert_eq!(grant.to_string(), request.grant);
            assert!(!request.reason.is_empty());
        }
    }
}
