#![doc = include_str!("../README.md")]

pub mod abilities;
pub mod apps;
#[doc(hidden)]
pub mod bindings;
pub mod cluster;
pub mod config;
pub mod containers;
mod convert;
mod describe;
mod export;
pub mod images;
pub mod labels;
pub mod limiter;
pub mod log;
pub mod operation;
pub mod raw;
pub mod routers;
pub mod state;
pub mod streams;

pub use abilities::{
    AppFilter, Availability, ClusterBuilder, Deployer, DockerBuilder, Exec, Healing, ImageCleaner,
    Lifecycle, Logs, NodeContainers, NodeHealth, NodePage, NodeRebalance, Nodes, Plugin,
    Provisioner, Rollback, Shell, Sleep, Source, TailOptions, UnitFinder, UnitKill, UnitPage,
    UnitStatus, Volumes,
};
pub use describe::{Description, GrantRequest, LimitRequest};
pub use gantry_core;
pub use gantry_core::image::{BuildOptions, InspectedImage};
pub use gantry_core::{
    App, AppRouter, EnvVar, Error, LabelSet, Labels, Settings, ShellOptions, Status, Unit, Volume,
    VolumeBind, commands, container, image, quote,
};

/// The result of everything a plugin does.
pub type Result<T> = core::result::Result<T, Error>;

/// For the code that [`export!`] writes.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings;
    pub use crate::export::Adapter;
}
