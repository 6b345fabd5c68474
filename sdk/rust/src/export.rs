//! From the traits to the component's exports.

use std::marker::PhantomData;

use crate::abilities::{
    AppFilter, Availability, ClusterBuilder, Deployer, DockerBuilder, Exec, Healing, ImageCleaner,
    Lifecycle, Logs, NodeContainers, NodeHealth, NodeRebalance, Plugin, Provisioner, Rollback,
    Shell, Sleep, TailOptions, UnitFinder, UnitKill, UnitPage, UnitStatus, Volumes,
};
use crate::bindings;
use crate::bindings::gantry::provision::types;
use crate::describe::Description;
use crate::streams::{Reader, Session, Writer};

/// Gives a plugin the shape that the generated exports call. [`crate::export!`] is the only user.
#[derive(Debug)]
pub struct Adapter<P>(PhantomData<P>);

type Result<T> = core::result::Result<T, types::Error>;

/// Arguments and results across the border, by the conversions that exist once.
fn lower<T, U: From<T>>(result: crate::Result<T>) -> Result<U> {
    result.map(U::from).map_err(types::Error::from)
}

mod plugin {
    use super::{Adapter, Description, Plugin};
    use crate::bindings::plugin::exports::gantry::provision::plugin as exported;

    impl<P: Plugin> exported::Guest for Adapter<P> {
        fn describe() -> exported::Description {
            let Description { name, version, summary, grants, limits } = P::describe();
            exported::Description {
                name,
                version,
                summary,
                grants: grants
                    .into_iter()
                    .map(|request| exported::GrantRequest {
                        grant: request.grant,
                        reason: request.reason,
                    })
                    .collect(),
                limits: limits
                    .into_iter()
                    .map(|request| exported::LimitRequest {
                        name: request.name,
                        value: request.value,
                        reason: request.reason,
                    })
                    .collect(),
            }
        }
    }
}

mod provisioner {
    use super::{Adapter, Provisioner, Result, UnitPage, lower, types};
    use crate::bindings::provisioner::exports::gantry::provision::provisioner as exported;

    impl From<UnitPage> for exported::UnitPage {
        fn from(page: UnitPage) -> Self {
            let units = page.units.into_iter().map(types::Unit::from).collect();
            Self { units, next: page.next }
        }
    }

    impl<P: Provisioner> exported::Guest for Adapter<P> {
        fn provision(app: types::App) -> Result<()> {
            lower(P::provision(app.into()))
        }

        fn destroy(app: types::App) -> Result<()> {
            lower(P::destroy(app.into()))
        }

        fn add_units(app: types::App, count: u32, process: String) -> Result<()> {
            lower(P::add_units(app.into(), count, process))
        }

        fn remove_units(app: types::App, count: u32, process: String) -> Result<()> {
            lower(P::remove_units(app.into(), count, process))
        }

        fn restart(app: types::App, process: String) -> Result<()> {
            lower(P::restart(app.into(), process))
        }

        fn start(app: types::App, process: String) -> Result<()> {
            lower(P::start(app.into(), process))
        }

        fn stop(app: types::App, process: String) -> Result<()> {
            lower(P::stop(app.into(), process))
        }

        fn units(apps: Vec<types::App>, after: Option<String>) -> Result<exported::UnitPage> {
            lower(P::units(apps.into_iter().map(crate::App::from).collect(), after))
        }

        fn routable_addresses(app: types::App) -> Result<Vec<String>> {
            lower(P::routable_addresses(app.into()))
        }

        fn register_unit(
            app: types::App,
            unit_id: String,
            custom_data: Option<String>,
        ) -> Result<()> {
            lower(P::register_unit(app.into(), unit_id, custom_data))
        }
    }
}

impl<P: Deployer> bindings::deployer::exports::gantry::provision::deployer::Guest for Adapter<P> {
    fn deploy(app: types::App, image: String) -> Result<String> {
        lower(P::deploy(app.into(), image))
    }
}

impl<P: Rollback> bindings::rollback::exports::gantry::provision::rollback::Guest for Adapter<P> {
    fn rollback(app: types::App, image: String) -> Result<String> {
        lower(P::rollback(app.into(), image))
    }
}

impl<P: Exec> bindings::exec::exports::gantry::provision::exec::Guest for Adapter<P> {
    fn execute(
        app: types::App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        lower(P::execute(app.into(), command, args, stdout, stderr))
    }

    fn execute_once(
        app: types::App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        lower(P::execute_once(app.into(), command, args, stdout, stderr))
    }

    fn execute_isolated(
        app: types::App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        lower(P::execute_isolated(app.into(), command, args, stdout, stderr))
    }
}

mod logs {
    use super::{Adapter, Availability, Logs, Result, TailOptions, lower, types};
    use crate::abilities::Source;
    use crate::bindings::logs::exports::gantry::provision::logs as exported;

    impl From<Availability> for exported::Availability {
        fn from(availability: Availability) -> Self {
            match availability {
                Availability::Enabled => Self { enabled: true, doc: String::new() },
                Availability::Disabled(doc) => Self { enabled: false, doc },
            }
        }
    }

    impl From<Source> for exported::Source {
        fn from(source: Source) -> Self {
            Self { unit: source.unit, process: source.process, lines: source.lines }
        }
    }

    impl<P: Logs> exported::Guest for Adapter<P> {
        fn enabled(app: types::App) -> Result<exported::Availability> {
            lower(P::enabled(app.into()))
        }

        fn tail(app: types::App, options: exported::TailOptions) -> Result<Vec<exported::Source>> {
            let exported::TailOptions { process, unit, lines, follow } = options;
            let sources = P::tail(app.into(), TailOptions { process, unit, lines, follow });
            let sources = sources.map_err(types::Error::from)?;
            Ok(sources.into_iter().map(exported::Source::from).collect())
        }
    }
}

impl<P: Lifecycle> bindings::lifecycle::exports::gantry::provision::lifecycle::Guest
    for Adapter<P>
{
    fn initialise() -> Result<()> {
        lower(P::initialise())
    }

    fn startup_message() -> Result<String> {
        lower(P::startup_message())
    }
}

impl<P: Sleep> bindings::sleep::exports::gantry::provision::sleep::Guest for Adapter<P> {
    fn sleep(app: types::App, process: String) -> Result<()> {
        lower(P::sleep(app.into(), process))
    }
}

mod shell {
    use super::{Adapter, Result, Session, Shell, lower, types};
    use crate::ShellOptions;
    use crate::bindings::shell::exports::gantry::provision::shell as exported;

    impl<P: Shell> exported::Guest for Adapter<P> {
        fn open(app: types::App, options: exported::ShellOptions) -> Result<Session> {
            let exported::ShellOptions { unit, term, width, height } = options;
            lower(P::open(app.into(), ShellOptions { unit, term, width, height }))
        }
    }
}

impl<P: UnitFinder> bindings::unit_finder::exports::gantry::provision::unit_finder::Guest
    for Adapter<P>
{
    fn app_from_unit_id(unit_id: String) -> Result<String> {
        lower(P::app_from_unit_id(unit_id))
    }
}

mod nodes {
    use gantry_core::node::{
        AddNodeOptions, Node, NodeCheckResult, NodeStatusData, RemoveNodeOptions, UnitStatusData,
        UpdateNodeOptions,
    };

    use super::{Adapter, Result, lower, types};
    use crate::abilities::{NodePage, Nodes};
    use crate::bindings::nodes::exports::gantry::provision::nodes as exported;

    impl From<Node> for exported::Node {
        fn from(node: Node) -> Self {
            Self {
                address: node.address,
                pool: node.pool,
                iaas_id: node.iaas_id,
                status: node.status,
                metadata: node.metadata.into_iter().collect(),
                metadata_no_prefix: node.metadata_no_prefix.into_iter().collect(),
                extra_data: node.extra_data.into_iter().collect(),
            }
        }
    }

    impl From<NodePage> for exported::NodePage {
        fn from(page: NodePage) -> Self {
            let nodes = page.nodes.into_iter().map(exported::Node::from).collect();
            Self { nodes, next: page.next, problems: page.problems }
        }
    }

    impl<P: Nodes> exported::Guest for Adapter<P> {
        fn list(
            addresses: Option<Vec<String>>,
            after: Option<String>,
        ) -> Result<exported::NodePage> {
            lower(P::list(addresses, after))
        }

        fn get(address: String) -> Result<exported::Node> {
            lower(P::get(address))
        }

        fn units(address: String) -> Result<Vec<types::Unit>> {
            let units = P::units(address).map_err(types::Error::from)?;
            Ok(units.into_iter().map(types::Unit::from).collect())
        }

        fn add(options: exported::AddOptions) -> Result<()> {
            lower(P::add(AddNodeOptions {
                address: options.address,
                pool: options.pool,
                iaas_id: options.iaas_id,
                metadata: options.metadata.into_iter().collect(),
                register: options.register,
                ca_cert: options.ca_cert,
                client_cert: options.client_cert,
                client_key: options.client_key,
                wait: options.wait,
            }))
        }

        fn update(options: exported::UpdateOptions) -> Result<()> {
            lower(P::update(UpdateNodeOptions {
                address: options.address,
                pool: options.pool,
                metadata: options.metadata.into_iter().collect(),
                enable: options.enable,
                disable: options.disable,
            }))
        }

        fn remove(options: exported::RemoveOptions) -> Result<()> {
            let exported::RemoveOptions { address, rebalance } = options;
            lower(P::remove(RemoveNodeOptions { address, rebalance }))
        }

        fn for_node_data(data: exported::NodeStatusData) -> Result<exported::Node> {
            let unit = |unit: exported::UnitStatusData| UnitStatusData {
                id: unit.id,
                name: unit.name,
                status: unit.status.map(crate::Status::from),
            };
            let check = |check: exported::NodeCheckResult| NodeCheckResult {
                name: check.name,
                error: check.error,
                successful: check.successful,
            };
            lower(P::for_node_data(NodeStatusData {
                addresses: data.addresses,
                units: data.units.into_iter().map(unit).collect(),
                checks: data.checks.into_iter().map(check).collect(),
            }))
        }
    }
}

impl<P: NodeContainers>
    bindings::node_containers::exports::gantry::provision::node_containers::Guest for Adapter<P>
{
    fn upgrade(name: String, pool: String) -> Result<()> {
        lower(P::upgrade(name, pool))
    }

    fn remove(name: String, pool: String) -> Result<()> {
        lower(P::remove(name, pool))
    }
}

impl<P: Volumes> bindings::volumes::exports::gantry::provision::volumes::Guest for Adapter<P> {
    fn delete(name: String, pool: String) -> Result<()> {
        lower(P::delete(name, pool))
    }
}

mod cluster_builder {
    use super::{Adapter, ClusterBuilder, Reader, Result, lower, types};
    use crate::InspectedImage;
    use crate::bindings::cluster_builder::exports::gantry::provision::cluster_builder as exported;

    impl From<InspectedImage> for exported::Inspected {
        fn from(inspected: InspectedImage) -> Self {
            let InspectedImage { image, procfile, tsuru_yaml } = inspected;
            Self { image, procfile, tsuru_yaml }
        }
    }

    impl<P: ClusterBuilder> exported::Guest for Adapter<P> {
        fn build_pod(app: types::App, archive: Reader, tag: String) -> Result<String> {
            lower(P::build_pod(app.into(), archive, tag))
        }

        fn tag_push_and_inspect(
            app: types::App,
            image: String,
            new_image: String,
        ) -> Result<exported::Inspected> {
            lower(P::tag_push_and_inspect(app.into(), image, new_image))
        }
    }
}

impl<P: UnitStatus> bindings::unit_status::exports::gantry::provision::unit_status::Guest
    for Adapter<P>
{
    fn set_unit_status(unit: types::Unit, status: types::Status) -> Result<()> {
        lower(P::set_unit_status(unit.into(), status.into()))
    }
}

impl<P: UnitKill> bindings::unit_kill::exports::gantry::provision::unit_kill::Guest for Adapter<P> {
    fn kill(app: types::App, unit_id: String, force: bool) -> Result<()> {
        lower(P::kill(app.into(), unit_id, force))
    }
}

impl<P: AppFilter> bindings::app_filter::exports::gantry::provision::app_filter::Guest
    for Adapter<P>
{
    fn filter_by_unit_status(
        apps: Vec<types::App>,
        statuses: Vec<types::Status>,
    ) -> Result<Vec<String>> {
        let apps = apps.into_iter().map(crate::App::from).collect();
        let statuses = statuses.into_iter().map(crate::Status::from).collect();
        lower(P::filter_by_unit_status(apps, statuses))
    }
}

impl<P: NodeHealth> bindings::node_health::exports::gantry::provision::node_health::Guest
    for Adapter<P>
{
    fn failure_count(address: String) -> Result<u32> {
        lower(P::failure_count(address))
    }

    fn has_success(address: String) -> Result<bool> {
        lower(P::has_success(address))
    }

    fn reset_failures(address: String) -> Result<()> {
        lower(P::reset_failures(address))
    }
}

mod node_rebalance {
    use gantry_core::node::RebalanceOptions;

    use super::{Adapter, NodeRebalance, Result, lower};
    use crate::bindings::node_rebalance::exports::gantry::provision::node_rebalance as exported;

    impl<P: NodeRebalance> exported::Guest for Adapter<P> {
        fn rebalance(options: exported::RebalanceOptions) -> Result<bool> {
            let exported::RebalanceOptions { pool, metadata_filter, app_filter, dry, force } =
                options;
            let metadata_filter = metadata_filter.into_iter().collect();
            lower(P::rebalance(RebalanceOptions { pool, metadata_filter, app_filter, dry, force }))
        }
    }
}

mod healing {
    use gantry_core::healing::{Findings, NotedNode, SickUnit};

    use super::{Adapter, Healing, Result, lower, types};
    use crate::bindings::healing::exports::gantry::provision::healing as exported;

    impl From<SickUnit> for exported::SickUnit {
        fn from(SickUnit { app_name, id, reason, node_given_up }: SickUnit) -> Self {
            Self { app_name, id, reason, node_given_up }
        }
    }

    impl From<NotedNode> for exported::NotedNode {
        fn from(NotedNode { address, reason }: NotedNode) -> Self {
            Self { address, reason }
        }
    }

    impl From<Findings> for exported::Findings {
        fn from(Findings { units, dead, recovered }: Findings) -> Self {
            Self {
                units: units.into_iter().map(exported::SickUnit::from).collect(),
                dead: dead.into_iter().map(exported::NotedNode::from).collect(),
                recovered: recovered.into_iter().map(exported::NotedNode::from).collect(),
            }
        }
    }

    impl<P: Healing> exported::Guest for Adapter<P> {
        fn examine() -> Result<exported::Findings> {
            lower(P::examine())
        }

        fn heal_unit(app: types::App, id: String) -> Result<Option<String>> {
            lower(P::heal_unit(app.into(), id))
        }

        fn give_up_node(address: String) -> Result<bool> {
            lower(P::give_up_node(address))
        }

        fn take_back_node(address: String) -> Result<bool> {
            lower(P::take_back_node(address))
        }
    }
}

impl<P: ImageCleaner> bindings::image_cleaner::exports::gantry::provision::image_cleaner::Guest
    for Adapter<P>
{
    fn clean(app_name: String, image: String) -> Result<()> {
        lower(P::clean(app_name, image))
    }
}

mod docker_builder {
    use gantry_core::image::BuildOptions;

    use super::{Adapter, DockerBuilder, Reader, Result, lower, types};
    use crate::bindings::docker_builder::exports::gantry::provision::docker_builder as exported;

    impl<P: DockerBuilder> exported::Guest for Adapter<P> {
        fn build(
            app: types::App,
            source: Reader,
            options: exported::BuildOptions,
        ) -> Result<String> {
            let exported::BuildOptions { dockerfile, args, tag } = options;
            lower(P::build(app.into(), source, BuildOptions { dockerfile, args, tag }))
        }
    }
}

/// Makes a type the plugin: its component exports `plugin`, `provisioner` and the abilities named, and nothing else.
///
/// The abilities are `deployer`, `rollback`, `exec`, `logs`, `lifecycle`, `sleep`, `shell`, `unit_finder`, `unit_status`, `unit_kill`, `app_filter`, `nodes`, `node_health`, `node_rebalance`, `node_containers`, `healing`,
/// `volumes`, `image_cleaner`, `docker_builder` and `cluster_builder`; each needs its trait. Natively, where plugins run their unit tests, nothing is exported and the traits are
/// still required.
///
/// ```text
/// gantry_sdk::export!(Acme: deployer, exec);
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ident) => {
        $crate::export!($plugin:);
    };
    ($plugin:ident: $($ability:ident),* $(,)?) => {
        const _: () = {
            const fn is_a_plugin<P: $crate::Plugin + $crate::Provisioner>() {}
            is_a_plugin::<$plugin>();
            $($crate::__export_one!(check $ability $plugin);)*
        };

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "generated: exports of the component are raw symbols")]
        const _: () = {
            type Exported = $crate::__private::Adapter<$plugin>;
            $crate::__export_one!(export plugin Exported);
            $crate::__export_one!(export provisioner Exported);
            $($crate::__export_one!(export $ability Exported);)*
        };
    };
}

/// One ability of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __export_one {
    (check deployer $plugin:ident) => { $crate::__export_one!(@check Deployer $plugin); };
    (check rollback $plugin:ident) => { $crate::__export_one!(@check Rollback $plugin); };
    (check exec $plugin:ident) => { $crate::__export_one!(@check Exec $plugin); };
    (check logs $plugin:ident) => { $crate::__export_one!(@check Logs $plugin); };
    (check lifecycle $plugin:ident) => { $crate::__export_one!(@check Lifecycle $plugin); };
    (check sleep $plugin:ident) => { $crate::__export_one!(@check Sleep $plugin); };
    (check shell $plugin:ident) => { $crate::__export_one!(@check Shell $plugin); };
    (check unit_finder $plugin:ident) => { $crate::__export_one!(@check UnitFinder $plugin); };
    (check nodes $plugin:ident) => { $crate::__export_one!(@check Nodes $plugin); };
    (check node_containers $plugin:ident) => {
        $crate::__export_one!(@check NodeContainers $plugin);
    };
    (check unit_status $plugin:ident) => { $crate::__export_one!(@check UnitStatus $plugin); };
    (check unit_kill $plugin:ident) => { $crate::__export_one!(@check UnitKill $plugin); };
    (check app_filter $plugin:ident) => { $crate::__export_one!(@check AppFilter $plugin); };
    (check node_health $plugin:ident) => { $crate::__export_one!(@check NodeHealth $plugin); };
    (check node_rebalance $plugin:ident) => {
        $crate::__export_one!(@check NodeRebalance $plugin);
    };
    (check healing $plugin:ident) => { $crate::__export_one!(@check Healing $plugin); };
    (check image_cleaner $plugin:ident) => { $crate::__export_one!(@check ImageCleaner $plugin); };
    (check docker_builder $plugin:ident) => {
        $crate::__export_one!(@check DockerBuilder $plugin);
    };
    (check volumes $plugin:ident) => { $crate::__export_one!(@check Volumes $plugin); };
    (check cluster_builder $plugin:ident) => {
        $crate::__export_one!(@check ClusterBuilder $plugin);
    };
    (check $unknown:ident $plugin:ident) => {
        compile_error!(concat!(
            "no ability `", stringify!($unknown),
            "`: one of deployer, rollback, exec, logs, lifecycle, sleep, shell, unit_finder, unit_status, unit_kill, app_filter, nodes, node_health, node_rebalance, node_containers, healing, volumes, image_cleaner, docker_builder, cluster_builder (plugin and provisioner are always there)"
        ));
    };
    (@check $ability:ident $plugin:ident) => {
        const _: () = {
            const fn has<P: $crate::$ability>() {}
            has::<$plugin>();
        };
    };
    (export $world:ident $exported:ident) => {
        $crate::__private::bindings::$world::export!(
            $exported with_types_in $crate::__private::bindings::$world
        );
    };
}
