//! What a plugin can do: a trait for each interface that it may export. [`Plugin`] and [`Provisioner`] are mandatory.
//!
//! Every call runs in a fresh instance, so the functions have no receiver: what must be remembered goes to [`crate::state`].

use gantry_core::healing::Findings;
use gantry_core::image::{BuildOptions, InspectedImage};
use gantry_core::node::{
    AddNodeOptions, Node, NodeStatusData, RebalanceOptions, RemoveNodeOptions, UpdateNodeOptions,
};

use crate::describe::Description;
use crate::streams::{Reader, Session, Writer};
use crate::{App, Result, ShellOptions, Status, Unit};

/// Who the plugin is.
pub trait Plugin {
    /// Describes the plugin. Must not call any import and must answer the same every time.
    fn describe() -> Description;
}

/// Some of the units, in an order that stays the same between two calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitPage {
    /// The units.
    pub units: Vec<Unit>,
    /// Where the next page starts; none when this is the last.
    pub next: Option<String>,
}

/// The contract that every provisioner keeps. An empty process means every process for `restart`, `start` and `stop`, and the only one for `add_units` and `remove_units`.
///
/// # Errors
///
/// Why the call failed; [`crate::Error`] tells which cases callers act on.
pub trait Provisioner {
    /// Called when an app is created. Twice is as good as once.
    fn provision(app: App) -> Result<()>;

    /// Called when an app is removed: nothing of it is left afterwards. Destroying what is gone succeeds. An app that is removed by force although this failed is forgotten, and this is called once
    /// more: the platform does not know it any more, so nothing need be kept of it.
    fn destroy(app: App) -> Result<()>;

    /// Starts `count` more units of the current image. When it fails, the number of units is what it was.
    fn add_units(app: App, count: u32, process: String) -> Result<()>;

    /// Removes `count` units. Refused, with nothing removed, when there are fewer.
    fn remove_units(app: App, count: u32, process: String) -> Result<()>;

    /// Replaces the units by new ones of the same image; the old ones serve until the new ones answer. Stopped units come back running.
    fn restart(app: App, process: String) -> Result<()>;

    /// Starts the units that are stopped or asleep.
    fn start(app: App, process: String) -> Result<()>;

    /// Stops the units and keeps them. Stopping what is stopped succeeds.
    fn stop(app: App, process: String) -> Result<()>;

    /// The units of these apps, or of every app when the list is empty. `after` is the `next` of the page before.
    fn units(apps: Vec<App>, after: Option<String>) -> Result<UnitPage>;

    /// The addresses at which the app's web process answers, as URLs. Units that do not run are left out.
    fn routable_addresses(app: App) -> Result<Vec<String>>;

    /// A unit tells that it has begun. `custom_data` is a JSON object that a build sends about its image.
    fn register_unit(app: App, unit_id: String, custom_data: Option<String>) -> Result<()>;
}

/// Deploys of images.
pub trait Deployer {
    /// Runs `image` as the app's new version and returns the name of the image that runs now. New units are started and checked before an old one is touched; when it fails,
    /// the old units serve on and nothing new is left.
    ///
    /// # Errors
    ///
    /// `UnitStartup` when the new units do not start or answer.
    fn deploy(app: App, image: String) -> Result<String>;
}

/// Return to an image that was deployed before.
pub trait Rollback {
    /// Deploys the first image of the app's history whose name ends with `image`, and returns its full name.
    ///
    /// # Errors
    ///
    /// No image is meant, or as for a deploy.
    fn rollback(app: App, image: String) -> Result<String>;
}

/// Commands in units. The result is the command's own exit code; a command whose code nobody knows is an error, never 0.
///
/// # Errors
///
/// `EmptyApp` without a unit to run in, or why the engine refused.
pub trait Exec {
    /// Runs the command in every unit, one after the other, and stops at the first that does not end with 0, which is then the result.
    fn execute(
        app: App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32>;

    /// Runs the command in one unit.
    fn execute_once(
        app: App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32>;

    /// Runs the command in a unit of its own, which is gone afterwards and is never counted among the app's units.
    fn execute_isolated(
        app: App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32>;
}

/// Whether the platform can show the log lines of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Enabled,
    /// It cannot; the text tells people where the lines are instead.
    Disabled(String),
}

/// Which log lines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailOptions {
    /// Only this process; every process when empty.
    pub process: String,
    /// Only the unit with this id or prefix of it; every unit when empty.
    pub unit: String,
    /// How many of the last lines of each unit come first.
    pub lines: u32,
    /// Whether lines that are still to come follow.
    pub follow: bool,
}

/// The log lines of one unit.
#[derive(Debug)]
pub struct Source {
    /// The unit's id.
    pub unit: String,
    /// Its process.
    pub process: String,
    /// Its lines.
    pub lines: Session,
}

/// Log lines of units.
///
/// # Errors
///
/// No such unit, or why the engine refused.
pub trait Logs {
    /// Tells whether the platform can show the log lines of this app.
    fn enabled(app: App) -> Result<Availability>;

    /// Opens the log of the units asked for.
    fn tail(app: App, options: TailOptions) -> Result<Vec<Source>>;
}

/// Start of the platform.
///
/// # Errors
///
/// Why it cannot begin.
pub trait Lifecycle {
    /// Called when the platform starts and after every swap, before any other call. Twice is as good as once.
    fn initialise() -> Result<()>;

    /// What the operator should read when the platform starts; nothing is shown when it is empty or fails.
    fn startup_message() -> Result<String>;
}

/// Units that end until somebody asks for the app.
///
/// # Errors
///
/// Why the engine refused.
pub trait Sleep {
    /// Puts the units of a process to sleep, of every process when it is empty. `start` of [`Provisioner`] wakes them.
    fn sleep(app: App, process: String) -> Result<()>;
}

/// A terminal in a unit.
///
/// # Errors
///
/// `EmptyApp` without a unit, `UnitNotFound`, or why the engine refused.
pub trait Shell {
    /// Opens a shell in a unit. The host passes keys, output and the terminal's size between the caller and the session.
    fn open(app: App, options: ShellOptions) -> Result<Session>;
}

/// Whose a unit is.
///
/// # Errors
///
/// `UnitNotFound`, or why the engine refused.
pub trait UnitFinder {
    /// The name of the app that has the unit with this id.
    fn app_from_unit_id(unit_id: String) -> Result<String>;
}

/// Some of the nodes, in an order that stays the same between two calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePage {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Where the next page starts; none when this is the last.
    pub next: Option<String>,
    /// Why some may be missing, for people: the engines that could not tell theirs.
    pub problems: Vec<String>,
}

/// The machines of pools.
///
/// # Errors
///
/// `NodeNotFound`, or why the engine refused.
pub trait Nodes {
    /// The nodes; only those with one of these addresses when there is a list. `after` is the `next` of the page before.
    fn list(addresses: Option<Vec<String>>, after: Option<String>) -> Result<NodePage>;

    /// The node with this address.
    fn get(address: String) -> Result<Node>;

    /// The units on a node.
    fn units(address: String) -> Result<Vec<Unit>>;

    /// Adds a machine, or updates the one that is there.
    fn add(options: AddNodeOptions) -> Result<()>;

    /// Changes a machine. Enable wins over disable.
    fn update(options: UpdateNodeOptions) -> Result<()>;

    /// Removes a machine. When its units cannot be moved away, it stays.
    fn remove(options: RemoveNodeOptions) -> Result<()>;

    /// The node that an agent's words are about. What the agent checked there may be written down.
    fn for_node_data(data: NodeStatusData) -> Result<Node>;
}

/// Containers that run once on every node.
///
/// # Errors
///
/// Why the engine refused.
pub trait NodeContainers {
    /// Brings the node containers of this name to what is configured now, in one pool or in every one when it is empty.
    fn upgrade(name: String, pool: String) -> Result<()>;

    /// Removes the node containers of this name, in one pool or in every one when it is empty. Removing what is gone succeeds.
    fn remove(name: String, pool: String) -> Result<()>;
}

/// What others say of units.
///
/// # Errors
///
/// `UnitNotFound`, or a unit of another app than was said.
pub trait UnitStatus {
    /// A machine's agent says how a unit is. The unit is found by its id or a prefix of it, else by its name. Twice is as good as once.
    fn set_unit_status(unit: Unit, status: Status) -> Result<()>;
}

/// Units that are ended one by one.
///
/// # Errors
///
/// `UnitNotFound`, or why the engine refused.
pub trait UnitKill {
    /// Ends a unit, named by its id or a prefix of it, at once when forced, and starts it anew: in its place, or another one of the same process instead.
    fn kill(app: App, unit_id: String, force: bool) -> Result<()>;
}

/// Which apps have units that are so or so.
///
/// # Errors
///
/// Why the engine refused.
pub trait AppFilter {
    /// The names of those of these apps that have at least one unit with one of these statuses, in the order of the apps; none without a status.
    fn filter_by_unit_status(apps: Vec<App>, statuses: Vec<Status>) -> Result<Vec<String>>;
}

/// How machines did of late.
///
/// # Errors
///
/// `NodeNotFound`.
pub trait NodeHealth {
    /// How often a node failed since it last answered.
    fn failure_count(address: String) -> Result<u32>;

    /// Whether a node has ever answered.
    fn has_success(address: String) -> Result<bool>;

    /// Forgets a node's failures.
    fn reset_failures(address: String) -> Result<()>;
}

/// Units spread anew over the machines of pools.
///
/// # Errors
///
/// Nothing to spread, or a unit that could not be moved: it serves where it was.
pub trait NodeRebalance {
    /// Moves units so that the machines have as many as each other, and tells whether any moved, or would. An app whose units move is locked meanwhile.
    fn rebalance(options: RebalanceOptions) -> Result<bool>;
}

/// Units and machines that died, and their replacement. The platform examines every now and then, and has what is found healed.
///
/// # Errors
///
/// Why the engine refused.
pub trait Healing {
    /// Looks at every machine and every unit, and tells which have been ill for as long as is configured. Changes nothing but what the plugin remembers of them.
    fn examine() -> Result<Findings>;

    /// Replaces a unit that is ill, and gives the new one's id; none when it is well again or gone.
    fn heal_unit(app: App, id: String) -> Result<Option<String>>;

    /// Gives a machine up that does not answer. False when it answers after all.
    fn give_up_node(address: String) -> Result<bool>;

    /// Takes a machine back that was given up. False when it does not answer after all.
    fn take_back_node(address: String) -> Result<bool>;
}

/// Images that nobody needs any more.
///
/// # Errors
///
/// Why the engine refused.
pub trait ImageCleaner {
    /// Removes an image of an app from every machine. Removing what is gone succeeds.
    fn clean(app_name: String, image: String) -> Result<()>;
}

/// Builds of images on Docker hosts.
///
/// # Errors
///
/// Why the build failed.
pub trait DockerBuilder {
    /// Builds an image of an app's source, a tar archive that may be compressed with gzip, and gives its name, for a deploy. A build that fails leaves neither a container nor an image.
    fn build(app: App, source: Reader, options: BuildOptions) -> Result<String>;
}

/// Storage of apps.
///
/// # Errors
///
/// Why the engine refused.
pub trait Volumes {
    /// Deletes what the backend keeps for a volume. Deleting what is gone succeeds.
    fn delete(name: String, pool: String) -> Result<()>;
}

/// Builds of images inside a cluster.
///
/// # Errors
///
/// Why the build failed.
pub trait ClusterBuilder {
    /// Builds an image of an app's source, a tar archive, and gives its name. Nothing of the build is left afterwards.
    fn build_pod(app: App, archive: Reader, tag: String) -> Result<String>;

    /// Gives an image another name, pushes it to the registry, and looks into it.
    fn tag_push_and_inspect(app: App, image: String, new_image: String) -> Result<InspectedImage>;
}
