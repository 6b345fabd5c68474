//! The Docker provisioner, as a plugin: apps as containers on Docker hosts (spec section 5).
//!
//! Each file decides first, in functions that tests call natively, and calls second. What exists is the engine's to say; what the engine cannot know of a unit (which image it was deployed
//! from, whether it should be stopped) is in the plugin's durable keys.
//!
//! | file | for |
//! |---|---|
//! | `deploy`, `build` | an image becomes the app's new version; what a build left becomes an image |
//! | `builder` | an app's source becomes an image |
//! | `units` | more, fewer, restarted, started and stopped units |
//! | `change`, `pipeline` | the actions behind both, and how they are undone |
//! | `launch`, `check`, `removal` | many units at once: started, bound and checked, removed |
//! | `scheduler`, `placing`, `reservation`, `victims` | where new units go, and which go first |
//! | `observe`, `leaving`, `orphans` | what the engines make of the units that are written down, which of them are on their way out |
//! | `machine`, `nodes`, `node_containers` | the machines: what is known of them, what operators do with them, what runs on every one |
//! | `moves`, `healing` | units that change places, units and machines that died |
//! | `query`, `exec`, `terminal`, `logs`, `lifecycle` | questions, commands, shells, log lines, the start of the platform |
//! | `image`, `shell`, `records`, `host`, `routes`, `limits`, `name`, `messages`, `failure` | what they share |

mod builder;
mod change;
mod check;
mod deploy;
mod exec;
mod failure;
mod healing;
mod host;
mod image;
mod keys;
mod launch;
mod leaving;
mod lifecycle;
mod limits;
mod logs;
mod machine;
mod messages;
mod moves;
mod name;
mod node_containers;
mod nodes;
mod observe;
mod orphans;
mod pipeline;
mod placing;
mod planned;
mod query;
mod records;
mod removal;
mod reservation;
mod routes;
pub mod scheduler;
mod shell;
mod terminal;
mod units;
mod victims;

use gantry_sdk::gantry_core::healing::Findings;
use gantry_sdk::gantry_core::node::{
    AddNodeOptions, Node, NodeStatusData, RebalanceOptions, RemoveNodeOptions, UpdateNodeOptions,
};
use gantry_sdk::streams::{Reader, Session, Writer};
use gantry_sdk::{
    App, AppFilter, Availability, BuildOptions, Deployer, Description, DockerBuilder, Exec,
    Healing, ImageCleaner, Lifecycle, Logs, NodeContainers, NodeHealth, NodePage, NodeRebalance,
    Nodes, Plugin, Provisioner, Result, Rollback, Shell, ShellOptions, Sleep, Source, Status,
    TailOptions, Unit, UnitFinder, UnitKill, UnitPage, UnitStatus,
};

/// What this provisioner is called in labels.
const PROVISIONER: &str = "docker";

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct Docker;

gantry_sdk::export!(
    Docker: deployer, rollback, exec, shell, logs, lifecycle, sleep, unit_finder, unit_status,
    unit_kill, app_filter, nodes, node_health, node_rebalance, node_containers, healing,
    image_cleaner, docker_builder
);

impl Plugin for Docker {
    fn describe() -> Description {
        Description::new(
            PROVISIONER,
            version(),
            "Runs the units of apps as containers on a Docker host.",
        )
        .grant("images:build", "builds the images of Dockerfiles")
        .grant("images:commit", "makes the image of an app from the container of a build")
        .grant(
            "images:push",
            "sends what was built to the registry, when `docker:registry` names one",
        )
        .grant("images:tag", "names the newest image of a build `latest`")
        .grant("images:remove", "removes the image of a build whose deploy failed")
        .grant(
            "containers:binds:/",
            "gives units the shared folder, when `docker:sharedfs:hostdir` names one, and node \
             containers the files of the machine that are configured for them",
        )
        .grant(
            "containers:privileged",
            "runs node containers that are configured to do everything on their machine",
        )
        .grant(
            "containers:host-network",
            "runs node containers that are configured to be in the network of their machine",
        )
        .grant(
            "containers:host-pid",
            "runs node containers that are configured to see the processes of their machine",
        )
        .grant(
            "containers:capabilities",
            "runs node containers that are configured with more kernel capabilities",
        )
        .grant(
            "containers:log-drivers",
            "runs node containers whose output is configured to go elsewhere",
        )
        .grant(
            "containers:security-options",
            "gives units the security options, when `docker:security-opts` lists some",
        )
    }
}

impl Provisioner for Docker {
    fn provision(_app: App) -> Result<()> {
        Ok(())
    }

    fn destroy(app: App) -> Result<()> {
        units::destroy(&app)
    }

    fn add_units(app: App, count: u32, process: String) -> Result<()> {
        units::add(&app, count, &process)
    }

    fn remove_units(app: App, count: u32, process: String) -> Result<()> {
        units::remove(&app, count, &process)
    }

    fn restart(app: App, process: String) -> Result<()> {
        units::restart(&app, &process)
    }

    fn start(app: App, process: String) -> Result<()> {
        units::start(&app, &process)
    }

    fn stop(app: App, process: String) -> Result<()> {
        units::stop(&app, &process)
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

impl Deployer for Docker {
    fn deploy(app: App, image: String) -> Result<String> {
        deploy::deploy(&app, &image)
    }
}

impl Rollback for Docker {
    fn rollback(app: App, image: String) -> Result<String> {
        deploy::rollback(&app, &image)
    }
}

impl DockerBuilder for Docker {
    fn build(app: App, source: Reader, options: BuildOptions) -> Result<String> {
        builder::build(&app, source, &options)
    }
}

impl Exec for Docker {
    fn execute(
        app: App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        exec::in_all(&exec::Command {
            app: &app,
            line: &command,
            args: &args,
            stdout: &stdout,
            stderr: &stderr,
        })
    }

    fn execute_once(
        app: App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        exec::in_one(&exec::Command {
            app: &app,
            line: &command,
            args: &args,
            stdout: &stdout,
            stderr: &stderr,
        })
    }

    fn execute_isolated(
        app: App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        exec::isolated(&exec::Command {
            app: &app,
            line: &command,
            args: &args,
            stdout: &stdout,
            stderr: &stderr,
        })
    }
}

impl Shell for Docker {
    fn open(app: App, options: ShellOptions) -> Result<Session> {
        terminal::open(&app, &options)
    }
}

impl Logs for Docker {
    fn enabled(app: App) -> Result<Availability> {
        logs::enabled(&app)
    }

    fn tail(app: App, options: TailOptions) -> Result<Vec<Source>> {
        logs::tail(&app, &options)
    }
}

impl Lifecycle for Docker {
    fn initialise() -> Result<()> {
        lifecycle::initialise()
    }

    fn startup_message() -> Result<String> {
        Ok(lifecycle::startup_message())
    }
}

impl Sleep for Docker {
    fn sleep(app: App, process: String) -> Result<()> {
        units::sleep(&app, &process)
    }
}

impl UnitFinder for Docker {
    fn app_from_unit_id(unit_id: String) -> Result<String> {
        query::app_of(&unit_id)
    }
}

impl UnitStatus for Docker {
    fn set_unit_status(unit: Unit, status: Status) -> Result<()> {
        query::set_status(&unit, status)
    }
}

impl UnitKill for Docker {
    fn kill(app: App, unit_id: String, force: bool) -> Result<()> {
        units::kill(&app, &unit_id, force)
    }
}

impl AppFilter for Docker {
    fn filter_by_unit_status(apps: Vec<App>, statuses: Vec<Status>) -> Result<Vec<String>> {
        query::apps_by_status(&apps, &statuses)
    }
}

impl Nodes for Docker {
    fn list(addresses: Option<Vec<String>>, after: Option<String>) -> Result<NodePage> {
        nodes::list(addresses.as_deref(), after.as_deref())
    }

    fn get(address: String) -> Result<Node> {
        nodes::get(&address)
    }

    fn units(address: String) -> Result<Vec<Unit>> {
        nodes::units(&address)
    }

    fn add(options: AddNodeOptions) -> Result<()> {
        nodes::add(options)
    }

    fn update(options: UpdateNodeOptions) -> Result<()> {
        nodes::update(options)
    }

    fn remove(options: RemoveNodeOptions) -> Result<()> {
        nodes::remove(options)
    }

    fn for_node_data(data: NodeStatusData) -> Result<Node> {
        nodes::for_node_data(&data)
    }
}

impl NodeContainers for Docker {
    fn upgrade(name: String, pool: String) -> Result<()> {
        node_containers::upgrade(&name, &pool)
    }

    fn remove(name: String, pool: String) -> Result<()> {
        node_containers::remove(&name, &pool)
    }
}

impl NodeHealth for Docker {
    fn failure_count(address: String) -> Result<u32> {
        nodes::failure_count(&address)
    }

    fn has_success(address: String) -> Result<bool> {
        nodes::has_success(&address)
    }

    fn reset_failures(address: String) -> Result<()> {
        nodes::reset_failures(&address)
    }
}

impl NodeRebalance for Docker {
    fn rebalance(options: RebalanceOptions) -> Result<bool> {
        moves::rebalance(&options)
    }
}

impl Healing for Docker {
    fn examine() -> Result<Findings> {
        healing::examine()
    }

    fn heal_unit(app: App, id: String) -> Result<Option<String>> {
        healing::heal_unit(&app, &id)
    }

    fn give_up_node(address: String) -> Result<bool> {
        healing::give_up_node(&address)
    }

    fn take_back_node(address: String) -> Result<bool> {
        healing::take_back_node(&address)
    }
}

impl ImageCleaner for Docker {
    fn clean(_app_name: String, image: String) -> Result<()> {
        builder::clean_image(&image)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_is_asked_for_with_a_reason() {
        let description = Docker::describe();
        assert_eq!(description.name, "docker");
        for request in description.grants {
            let grant: gantry_sdk::gantry_core::policy::Grant = request.grant.parse().unwrap();
            assert_eq!(grant.to_string(), request.grant);
            assert!(!request.reason.is_empty());
        }
    }
}
