//! Says hello in green: version 2.0.0 of the plugin that `hello_blue` is the first version of.

const COLOUR: &str = "green";
const VERSION: &str = "2.0.0";

include!("hello/source.rs");
