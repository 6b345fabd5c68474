//! Every integration test, linked once. A module per story; `tidy` checks that no file lies here unrun.

mod api_server_faults;
mod behaviour;
mod builds;
mod docker;
mod docker_flows;
mod docker_plugin;
mod faults;
mod hosts;
mod kubernetes;
mod kubernetes_plugin;
mod node_containers;
mod readme;
mod reference;
mod registry;
mod sdk;
mod shells;
mod tidy;
