//! The imports as wit-bindgen makes them, unwrapped: for what the other modules lack, and for tests that must see the border itself. It follows the generator's versions,
//! so prefer the wrappers.

pub use crate::bindings::gantry::provision::{
    apps, config, containers, images, labels, limiter, log, operation, routers, state, streams,
    types,
};
