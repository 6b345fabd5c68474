//! Says hello in blue: version 1.0.0 of a plugin that `hello_green` is the next version of.

const COLOUR: &str = "blue";
const VERSION: &str = "1.0.0";

include!("hello/source.rs");
