//! Builds of a Dockerfile: the engine follows it, with the source as its context.

use std::collections::BTreeSet;

use gantry_sdk::containers;
use gantry_sdk::streams::Reader;
use gantry_sdk::{App, BuildOptions, Error, Result, images, operation};

use super::{discard, discard_failed, final_name, publish, unfinished};
use crate::failure::Failure;
use crate::placing;

/// Builds an image as a Dockerfile says, and gives its name.
pub(super) fn build(app: &App, source: Reader, options: &BuildOptions) -> Result<String> {
    let target = final_name(app, options)?;
    // Where the layers of the last build are; without one, a host that answers.
    let wanted = match images::current(&app.name) {
        Err(Error::NotFound(_)) => target.clone(),
        current => current?,
    };
    let host = placing::host_with(app, &wanted, &[], &BTreeSet::new())?;
    operation::progress(&headline(&options.dockerfile));
    unfinished::begin(app, &host, &target)?;
    let wanted = containers::BuildOptions {
        name: target.clone(),
        dockerfile: options.dockerfile.clone(),
        args: options.args.clone(),
        cache: true,
    };
    if let Err(error) = host.client.build_image(&wanted, source, &operation::output()) {
        discard_failed(app, &host, &target, &error);
        return Err(Failure::engine(&host.address, error).error);
    }
    let go = if operation::cancelled() { Err(Failure::cancelled()) } else { Ok(()) };
    match go.and_then(|()| publish(&host, &target)) {
        Ok(()) => Ok(target),
        Err(failure) => {
            discard(app, &host, &target);
            Err(failure.error)
        }
    }
}

fn headline(dockerfile: &str) -> String {
    format!("\n---- Building the image of {dockerfile} ----\n")
}
