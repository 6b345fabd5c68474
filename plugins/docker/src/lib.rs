//! The Docker provisioner, as a plugin: apps as containers on a Docker host (spec section 5).
//!
//! Each file decides first, in functions that tests call natively, and calls second. What exists is the engine's to say; what the engine cannot know of a unit (which image it was deployed
//! from, whether it should be stopped) is in the plugin's durable keys.
//!
//! | file | for |
//! |---|---|
//! | `deploy`, `build` | an image becomes the app's new version; what a build left becomes an image |
//! | `units` | more, fewer, restarted, started and stopped units |
//! | `change`, `pipeline` | the actions behind both, and how they are undone |
//! | `launch`, `check`, `removal` | many units at once: started, bound and checked, removed |
//! | `observe`, `leaving` | what the engine makes of the units that are written down, which of them are on their way out |
//! | `query`, `exec`, `logs`, `lifecycle` | questions, commands, log lines, the start of the platform |
//! | `image`, `shell`, `records`, `node`, `name`, `messages`, `failure` | what they share |

mod build;
mod change;
mod check;
mod deploy;
mod exec;
mod failure;
mod image;
mod launch;
mod leaving;
mod lifecycle;
mod logs;
mod messages;
mod name;
mod node;
mod observe;
mod pipeline;
mod query;
mod records;
mod removal;
mod shell;
mod units;

use gantry_sdk::streams::Writer;
use gantry_sdk::{
    App, Availability, Deployer, Description, Exec, Lifecycle, Logs, Plugin, Provisioner, Result,
    Rollback, Source, TailOptions, UnitPage,
};

/// What this provisioner is called in labels.
const PROVISIONER: &str = "docker";

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct Docker;

gantry_sdk::export!(Docker: deployer, rollback, exec, logs, lifecycle);

impl Plugin for Docker {
    fn describe() -> Description {
        Description::new(
            PROVISIONER,
            version(),
            "Runs the units of apps as containers on a Docker host.",
        )
        .grant("images:commit", "makes the image of an app from the container of a build")
        .grant("images:tag", "names the newest image of a build `latest`")
        .grant("images:remove", "removes the image of a build whose deploy failed")
        .grant(
            "containers:binds:/",
            "gives units the shared folder, when `docker:sharedfs:hostdir` names one",
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

impl Logs for Docker {
    fn enabled(_app: App) -> Result<Availability> {
        Ok(logs::enabled())
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
