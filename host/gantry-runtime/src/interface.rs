//! The interfaces that a plugin may export, and where their functions are in a component. One table has them all.

use std::collections::BTreeSet;
use std::fmt;

use wasmtime::AsContextMut;
use wasmtime::component::{Instance, InstancePre};

use crate::bindings::exports::gantry::provision as wit;
use crate::call::CallState;

macro_rules! interfaces {
    ($($(#[$doc:meta])* $interface:ident = $module:ident, $name:literal;)*) => {
        /// An interface that a plugin may export.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Interface {
            /// Who the plugin is. Mandatory.
            Plugin,
            /// The contract that every provisioner keeps. Mandatory.
            Provisioner,
            $($(#[$doc])* $interface,)*
        }

        impl Interface {
            /// All of them; the mandatory ones first.
            pub const ALL: &'static [Self] =
                &[Self::Plugin, Self::Provisioner, $(Self::$interface,)*];

            /// The interface as the WIT package names it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    Self::Plugin => "plugin",
                    Self::Provisioner => "provisioner",
                    $(Self::$interface => $name,)*
                }
            }

            /// Whether a component without it is no plugin.
            #[must_use]
            pub fn is_mandatory(self) -> bool {
                match self {
                    Self::Plugin | Self::Provisioner => true,
                    $(Self::$interface => false,)*
                }
            }
        }

        /// Where the functions of a component are. An interface that the component does not export is none.
        pub(crate) struct Exports {
            pub(crate) plugin: wit::plugin::GuestIndices,
            pub(crate) provisioner: wit::provisioner::GuestIndices,
            $(pub(crate) $module: Option<wit::$module::GuestIndices>,)*
        }

        impl Exports {
            /// Finds the functions of the interfaces that a component has.
            pub(crate) fn find(
                pre: &InstancePre<CallState>,
                has: &BTreeSet<Interface>,
            ) -> wasmtime::Result<Self> {
                Ok(Self {
                    plugin: wit::plugin::GuestIndices::new(pre)?,
                    provisioner: wit::provisioner::GuestIndices::new(pre)?,
                    $($module: has
                        .contains(&Interface::$interface)
                        .then(|| wit::$module::GuestIndices::new(pre))
                        .transpose()?,)*
                })
            }

            /// Looks every function up in an instance once.
            pub(crate) fn prove(
                &self,
                mut store: impl AsContextMut,
                instance: &Instance,
            ) -> wasmtime::Result<()> {
                self.plugin.load(&mut store, instance)?;
                self.provisioner.load(&mut store, instance)?;
                $(if let Some(found) = &self.$module {
                    found.load(&mut store, instance)?;
                })*
                Ok(())
            }
        }
    };
}

interfaces! {
    /// Deploys of images.
    Deployer = deployer, "deployer";
    /// Return to an image deployed before.
    Rollback = rollback, "rollback";
    /// Commands in units.
    Exec = exec, "exec";
    /// Log lines of units.
    Logs = logs, "logs";
    /// Start of the platform.
    Lifecycle = lifecycle, "lifecycle";
    /// Units that end until somebody asks for the app.
    Sleep = sleep, "sleep";
    /// A terminal in a unit.
    Shell = shell, "shell";
    /// Whose a unit is.
    UnitFinder = unit_finder, "unit-finder";
    /// What others say of units.
    UnitStatus = unit_status, "unit-status";
    /// Units that are ended one by one.
    UnitKill = unit_kill, "unit-kill";
    /// Which apps have units that are so or so.
    AppFilter = app_filter, "app-filter";
    /// The machines of pools.
    Nodes = nodes, "nodes";
    /// How machines did of late.
    NodeHealth = node_health, "node-health";
    /// Units spread anew over the machines of pools.
    NodeRebalance = node_rebalance, "node-rebalance";
    /// Containers that run once on every node.
    NodeContainers = node_containers, "node-containers";
    /// Units and machines that died, and their replacement.
    Healing = healing, "healing";
    /// Storage of apps.
    Volumes = volumes, "volumes";
    /// Images that nobody needs any more.
    ImageCleaner = image_cleaner, "image-cleaner";
    /// Builds of images on Docker hosts.
    DockerBuilder = docker_builder, "docker-builder";
    /// Builds of images inside a cluster.
    ClusterBuilder = cluster_builder, "cluster-builder";
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
