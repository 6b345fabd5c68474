//! The one list: what every provisioner promises, in the order in which it is told, and where a backend differs and why.

use gantry_runtime::Interface;
use serde_json::{Value, json};

use super::promise::{Expected, Promise};
use super::{commands, deploys, ends, machines, rest, units};

/// Runs a check on a stage.
macro_rules! check {
    ($check:path) => {
        |stage| Box::pin($check(stage))
    };
}

/// A promise that breaks with these words, and what is so instead.
macro_rules! differs {
    ($breaks:literal, $instead:path, $why:literal) => {
        Expected::Differs { breaks: $breaks, instead: check!($instead), why: $why }
    };
}

/// A cluster does not wait long for units that do not answer.
fn impatient() -> Value {
    json!({"kubernetes": {"deployment-progress-timeout": 5}})
}

const NO_PODS: &str = "what rests has no pods, and units are pods (spec 7.6)";

pub(super) const PROMISES: &[Promise] = &[
    // The beginning.
    Promise::new(
        "an app that is made known has nothing yet, however often",
        check!(ends::provisioned),
    ),
    Promise::new(
        "the start of the platform changes nothing, however often",
        check!(ends::initialised),
    ),
    Promise::new(
        "the operator reads at the start which machines there are",
        check!(ends::announced),
    ),
    // Versions.
    Promise::new(
        "the first deploy starts a unit of each process and makes the image current",
        check!(deploys::first),
    ),
    Promise::new(
        "an image that declares nothing runs as `web`, and no process means that one",
        check!(deploys::plain),
    ),
    Promise::new(
        "what a build told of an image decides its processes",
        check!(deploys::data_of_builds),
    ),
    Promise::new(
        "the next version has as many units, and none of the one before is left",
        check!(deploys::second),
    ),
    Promise::new(
        "a process that the next version lacks goes, and a new one gets a unit",
        check!(deploys::other_processes),
    ),
    Promise::new("a deploy of the same image replaces the units", check!(deploys::same_image)),
    Promise::new("a deploy wakes what was stopped", check!(deploys::wakes)),
    Promise::new("a first deploy that fails leaves nothing", check!(deploys::broken_first))
        .under(impatient),
    Promise::new(
        "a version that does not answer well is undone, and people read why",
        check!(deploys::unhealthy),
    )
    .under(impatient),
    Promise::new(
        "a version whose image is not there is undone, and the image is named",
        check!(deploys::missing),
    )
    .under(impatient),
    Promise::new(
        "a deploy over the quota is refused before anything is made",
        check!(deploys::over_quota),
    ),
    Promise::new(
        "a deploy that is cancelled leaves the units of before",
        check!(deploys::cancelled),
    ),
    Promise::new(
        "a rollback runs an earlier image again and gives its full name",
        check!(deploys::back),
    ),
    Promise::new(
        "a rollback to what never ran is refused and changes nothing",
        check!(deploys::back_to_nothing),
    ),
    Promise::new(
        "units have the environment of the app and of their process",
        check!(deploys::environment),
    ),
    Promise::new("hooks before a start are run by the unit itself", check!(deploys::before_hooks)),
    Promise::new("hooks after a start are run in every new unit", check!(deploys::after_hooks))
        .on_kubernetes(differs!(
            "the hook ran in {}",
            deploys::no_after_hooks,
            "a pod may start at any time without anybody there to run them: they are \
             ignored (spec 7.3)"
        )),
    Promise::new("services are told of every new unit", check!(deploys::bound)).on_kubernetes(
        differs!(
            "services know of {}",
            deploys::nobody_bound,
            "pods come and go by themselves: each registers when it starts, and the \
             platform binds it then (spec 2.3, 7.3)"
        ),
    ),
    Promise::new(
        "the routers of an app have the addresses of its new units",
        check!(deploys::routes_follow),
    )
    .on_kubernetes(differs!(
        "the router has []",
        deploys::no_routes,
        "nodes stay where they are: the platform brings the routes after a deploy \
         (spec 2.3)"
    )),
    Promise::new(
        "a source becomes an image that a deploy runs, and leaves nothing else",
        check!(deploys::built),
    ),
    Promise::new("a build that fails leaves nothing", check!(deploys::not_built)),
    Promise::new(
        "an image is cleaned from every machine, twice too, unless it is in use",
        check!(deploys::cleaned),
    )
    .on_kubernetes(Expected::Lacks(
        Interface::ImageCleaner,
        "kubelets clean the images of their nodes by themselves (spec 2.2)",
    )),
    // Units.
    Promise::new("units are told with app, process, machine and status", check!(units::told)),
    Promise::new(
        "the units of some apps are told without those of others",
        check!(units::of_others),
    ),
    Promise::new("a unit that serves is `started`", check!(units::started)).on_docker(differs!(
        "a unit is Some(Starting) and not Started",
        units::starting,
        "it is `starting` until it registers or an agent tells of it (spec 1.3, \
         5.9); on Kubernetes a pod that runs is `started` (spec 7.6)"
    )),
    Promise::new(
        "a unit that registers is `started`, and one that is not there is told",
        check!(units::registered),
    ),
    Promise::new("a unit registers by the start of its id too", check!(units::registered_by_start))
        .on_kubernetes(differs!(
            "not found",
            units::not_registered_by_start,
            "a pod registers by its host name, which is all of its name (spec 7.5)"
        )),
    Promise::new("the app of a unit is found", check!(units::found)),
    Promise::new("a unit whose process ended by itself is in `error`", check!(units::failed)),
    Promise::new(
        "the web process is reached where its units say, and no other process",
        check!(units::routed),
    ),
    Promise::new("every web unit has an address of its own", check!(units::routed_each))
        .on_kubernetes(differs!(
            "3 units are reached at 2 addresses",
            units::routed_by_node,
            "a Service answers at one port of every node of the pool (spec 7.6)"
        )),
    Promise::new("units are added beside those that run", check!(units::added)),
    Promise::new("units are removed, and the others stay", check!(units::removed)),
    Promise::new(
        "units that do not answer are not added, and the others stay",
        check!(units::not_added),
    )
    .under(impatient),
    Promise::new(
        "no units are added to a process that is not there, or removed from it",
        check!(units::unknown_process),
    ),
    Promise::new("of several processes one must be named", check!(units::which_process)),
    Promise::new("zero units cannot be added or removed", check!(units::none)),
    Promise::new("no unit is added before the first deploy", check!(units::before_a_deploy)),
    Promise::new(
        "more units than there are cannot be removed, and none is",
        check!(units::too_many),
    ),
    Promise::new("a process may lose its last unit and get others", check!(units::last_one)),
    Promise::new(
        "a process without units stays without when the app is started",
        check!(units::stays_empty),
    )
    .on_kubernetes(differs!(
        r#"there are {"web": 1, "worker": 1}"#,
        units::starts_with_one,
        "a process that is started has at least one unit (spec 6.2)"
    )),
    Promise::new("the provisioner itself refuses units over the quota", check!(units::quota)),
    Promise::new("an agent's word sets the status of a unit", check!(units::set)).on_kubernetes(
        Expected::Lacks(
            Interface::UnitStatus,
            "the cluster itself tells how pods are (spec 2.2, 7.5)",
        ),
    ),
    Promise::new("apps are filtered by the status of their units", check!(units::filtered))
        .on_kubernetes(Expected::Lacks(
            Interface::AppFilter,
            "the reference has none there: all apps of the provisioner pass (spec 2.2)",
        )),
    Promise::new(
        "a unit that is killed is started anew, in its place or another",
        check!(units::killed),
    ),
    Promise::new("a unit that is killed keeps its id", check!(units::killed_in_place))
        .on_kubernetes(differs!(
            "it is another unit",
            units::killed_and_replaced,
            "its pod is deleted, and the ReplicaSet makes another one"
        )),
    // Rest.
    Promise::new("a restart replaces all units", check!(rest::restarted)),
    Promise::new("a restart of one process leaves the others alone", check!(rest::one_restarted)),
    Promise::new("a restart wakes what was stopped", check!(rest::restart_wakes)),
    Promise::new("a restart that fails leaves the units of before", check!(rest::not_restarted))
        .under(impatient),
    Promise::new(
        "what is asked of a process that is not there is refused",
        check!(rest::unknown_process),
    )
    .on_docker(differs!(
        "it was not refused",
        rest::nothing_of_unknown,
        "what is asked is asked of the units with that process, and there is none \
         (spec 5.8)"
    )),
    Promise::new(
        "before the first deploy there is nothing to restart, stop, start or put to sleep",
        check!(rest::before_a_deploy),
    ),
    Promise::new(
        "what is stopped does not run, is not routed to and keeps its quota, twice too",
        check!(rest::stopped),
    ),
    Promise::new(
        "one process is stopped and started, and the others serve on",
        check!(rest::one_stopped),
    ),
    Promise::new("the units that are stopped are told as `stopped`", check!(rest::shown_stopped))
        .on_kubernetes(Expected::Differs {
            breaks: "the units are not there",
            instead: check!(rest::no_units_stopped),
            why: NO_PODS,
        }),
    Promise::new(
        "as many units come back as were stopped, and a second start changes nothing",
        check!(rest::started_again),
    ),
    Promise::new(
        "the units that come back are those that were stopped",
        check!(rest::same_started),
    )
    .on_kubernetes(differs!(
        "they are other units",
        rest::others_started,
        "a stop deletes the pods: what comes back has new names (spec 6.2)"
    )),
    Promise::new("a start of what runs changes nothing", check!(rest::start_of_what_runs)),
    Promise::new(
        "what sleeps does not run and is not routed to, until a start wakes it",
        check!(rest::slept),
    ),
    Promise::new("the units that sleep are told as `asleep`", check!(rest::shown_asleep))
        .on_kubernetes(Expected::Differs {
            breaks: "the units are not there",
            instead: check!(rest::no_units_asleep),
            why: NO_PODS,
        }),
    Promise::new("what sleeps already is not put to sleep again", check!(rest::slept_twice))
        .on_kubernetes(differs!(
            "it was not refused",
            rest::left_asleep,
            "that it sleeps is a label of the process, and is written again (spec \
             6.2); the contract leaves it to the backend"
        )),
    Promise::new("a unit that is added to what is stopped runs", check!(rest::added_runs))
        .on_kubernetes(differs!(
            "the new unit does not run",
            rest::added_rests,
            "it is counted, and starts with the others (spec 6.2); the platform \
             refuses it before it asks (spec 2.3)"
        )),
    // Commands.
    Promise::new("a command runs in every unit with its arguments", check!(commands::in_all)),
    Promise::new(
        "a command stops at the first unit where it fails, and gives that code",
        check!(commands::to_the_first_failure),
    ),
    Promise::new("a command runs in one unit and gives its code", check!(commands::in_one)),
    Promise::new(
        "a command of its own runs in no unit, gives its code and leaves nothing",
        check!(commands::alone),
    ),
    Promise::new(
        "without a unit that runs no command runs in one",
        check!(commands::without_units),
    ),
    Promise::new(
        "a command of its own runs while the app is stopped",
        check!(commands::alone_while_stopped),
    ),
    Promise::new(
        "before the first deploy no command of its own runs",
        check!(commands::alone_before_a_deploy),
    ),
    Promise::new("no command runs in a unit that failed", check!(commands::not_in_failed)),
    Promise::new(
        "a shell is a terminal in the unit that is meant, or in any",
        check!(commands::shell),
    ),
    Promise::new(
        "no shell opens in a unit that is not there or another app's",
        check!(commands::no_shell),
    ),
    Promise::new("what several units may be meant by is refused", check!(commands::ambiguous)),
    Promise::new(
        "log lines are told of all units, of a process, of one unit",
        check!(commands::logs),
    ),
    // Machines.
    Promise::new("the machines are listed, all or by address", check!(machines::listed)),
    Promise::new(
        "a machine is told with how it is, and one that is not there is told",
        check!(machines::got),
    ),
    Promise::new(
        "a machine is added with its pool and metadata, and changed when it is added again",
        check!(machines::added),
    ),
    Promise::new("what is said of a machine is changed key by key", check!(machines::changed)),
    Promise::new(
        "a machine that is disabled takes no units until it is enabled",
        check!(machines::closed),
    ),
    Promise::new(
        "a machine is removed when its units are elsewhere, as many as before",
        check!(machines::emptied),
    ),
    Promise::new(
        "a machine with units is not removed unless they move first",
        check!(machines::not_removed),
    )
    .on_kubernetes(differs!(
        "it was not refused",
        machines::removed,
        "the node goes, and the cluster's own controllers start its pods \
         elsewhere (spec 7.7)"
    )),
    Promise::new("the units of a machine are told", check!(machines::units)),
    Promise::new(
        "an agent's machine is known by its addresses",
        check!(machines::known_by_address),
    ),
    Promise::new("an agent's machine is known by its units", check!(machines::known_by_unit))
        .on_kubernetes(differs!(
            "node not found",
            machines::unknown_by_unit,
            "only addresses count (spec 7.7)"
        )),
    Promise::new("it is told how often a machine failed", check!(machines::health)).on_kubernetes(
        Expected::Lacks(Interface::NodeHealth, "the cluster watches its nodes itself (spec 2.2)"),
    ),
    Promise::new(
        "units are spread anew once it is worth it, and a dry run moves none",
        check!(machines::rebalanced),
    )
    .on_kubernetes(Expected::Lacks(
        Interface::NodeRebalance,
        "the cluster's own scheduler places pods (spec 7.7)",
    )),
    Promise::new(
        "a node container is on every machine until it is removed",
        check!(machines::agents),
    )
    .under(machines::with_agent),
    Promise::new(
        "a node container is there before the first unit, and outlives the app",
        check!(machines::agents_first),
    )
    .under(machines::with_agent),
    Promise::new(
        "a volume outlives its app, and goes when it is deleted",
        check!(machines::volume),
    )
    .on_docker(Expected::Lacks(
        Interface::Volumes,
        "there is the shared file system instead (spec 5.3)",
    )),
    Promise::new("a unit that vanished comes back by itself", check!(machines::comes_back))
        .on_docker(differs!(
            r#"there are {"web": 1, "worker": 2}"#,
            machines::stays_away,
            "an engine replaces nothing: it is found ill, and the platform has it \
             healed (spec 5.13)"
        )),
    Promise::new("a unit that vanished is found ill and replaced once", check!(machines::healed))
        .under(machines::healing)
        .on_kubernetes(Expected::Lacks(
            Interface::Healing,
            "ReplicaSets replace pods by themselves",
        )),
    Promise::new(
        "a unit that vanished stands in the way of no change",
        check!(machines::made_again),
    ),
    // The end.
    Promise::new("an app that is destroyed leaves nothing", check!(ends::destroyed)),
    Promise::new(
        "an app that rests and is destroyed leaves nothing",
        check!(ends::destroyed_at_rest),
    ),
    Promise::new("what is gone, or never was, can be destroyed", check!(ends::destroyed_twice)),
    Promise::new("images outlive the units: the platform cleans them", check!(ends::images_stay)),
];
