//! Every integration test, linked once. A module per story; `tidy` checks that no file lies here unrun.

mod docker;
mod docker_flows;
mod docker_plugin;
mod faults;
mod hosts;
mod kubernetes;
mod kubernetes_faults;
mod kubernetes_plugin;
mod readme;
mod sdk;
mod tidy;
