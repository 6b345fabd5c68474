//! The Kubernetes provisioner, as a plugin: apps as objects on a cluster (spec section 7).
//!
//! The first group of files decides in pure functions that tests call natively: what an app becomes as objects, what to do next of a change, what an object that came back says. Objects are JSON
//! in the API versions of today, whole, so that a server-side apply can send them.
//!
//! | file | for |
//! |---|---|
//! | `cluster`, `name` | what the operator says about a cluster; what objects are called |
//! | `manifest`, `probe`, `volume` | the objects of a process of an app, of its builds and its commands |
//! | `process` | more, fewer, restarted, started and stopped units: labels, and the steps of a change |
//! | `rollout`, `completion` | waiting for units, and for pods that run once |
//! | `unit`, `command`, `node` | what pods and nodes say; where commands run; nodes that are added and changed |
//! | `node_container` | what runs on every node |
//! | `object`, `quantity` | JSON of the cluster: objects, amounts |
//!
//! The second group calls:
//!
//! | file | for |
//! |---|---|
//! | `exports` | the functions of the contract, each handed to the file that does it |
//! | `twins` | names that two processes come to |
//! | `home`, `calls`, `failures` | the cluster of an app; calls that are made until they are answered; many parts of which each is tried |
//! | `change`, `service`, `image`, `build` | changes of an app, of one process of it; what is known of images, and what makes them |
//! | `wait` | one watch over all that a change waits for |
//! | `query`, `exec`, `machines`, `daemons`, `storage` | questions, commands and logs, nodes, node containers, volumes |

mod build;
mod calls;
mod change;
pub mod cluster;
pub mod command;
pub mod completion;
mod daemons;
mod exec;
mod exports;
mod failures;
mod home;
mod image;
mod machines;
pub mod manifest;
pub mod name;
pub mod node;
pub mod node_container;
pub mod object;
pub mod probe;
pub mod process;
pub mod quantity;
mod query;
pub mod rollout;
mod service;
mod storage;
mod twins;
pub mod unit;
pub mod volume;
mod wait;

pub use exports::Kubernetes;

/// What this provisioner is called in labels.
pub const PROVISIONER: &str = "kubernetes";

/// What comes before every key of a label here.
pub const PREFIX: &str = "tsuru.io/";
