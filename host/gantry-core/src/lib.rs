//! The words and the rules of provisioning, pure: no I/O, no clock, no task.
//!
//! The host and the plugins share this crate (the SDK re-exports what plugins need), so they can never disagree about a label, a status or the environment of a unit.
//! Every rule follows the reference, tsuru's Go package `provision` of April 2018; where it differs on purpose, the item says so.

pub mod app;
pub mod commands;
pub mod container;
pub mod create;
pub mod deploy;
pub mod env;
pub mod error;
mod go;
pub mod healing;
pub mod health;
pub mod image;
pub mod labels;
pub mod name;
pub mod node;
pub mod policy;
pub mod record;
pub mod settings;
pub mod status;
pub mod unit;
pub mod url;
pub mod yaml;

pub use app::{App, AppRouter, EnvVar, Volume, VolumeBind};
pub use error::Error;
pub use go::quote;
pub use labels::{LabelSet, Labels, RouterTypes};
pub use settings::Settings;
pub use status::Status;
pub use unit::{ShellOptions, Unit};
