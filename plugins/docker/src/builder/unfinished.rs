//! The images of builds that no deploy has made the app's yet, in the plugin's durable keys: `builds/<app>`, the name and the host of each.
//!
//! Written down before the image is made, so that one whose platform died before it was deployed is found again: by the app's next build, which has the app to itself as this one had.

use gantry_sdk::containers::{Batch, EngineError, Sequence, Step};
use gantry_sdk::{App, Result, images, log, state};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::keys;
use crate::observe::PATIENCE;

/// Where all of them are.
const ALL: &str = "builds/";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Unfinished {
    image: String,
    node: String,
}

/// An image is about to be made.
pub(super) fn begin(app: &App, host: &Host, image: &str) -> Result<()> {
    change(app, |all| {
        all.retain(|one| one.image != image);
        all.push(Unfinished { image: image.to_owned(), node: host.address.clone() });
    })
}

/// It was not, or is gone. A note that stays only makes the next build look for it.
pub(super) fn end(app: &App, image: &str) {
    if let Err(error) = change(app, |all| all.retain(|one| one.image != image)) {
        warn(app, &error.to_string());
    }
}

/// Removes the images of earlier builds that no deploy has made the app's. What cannot be removed keeps nobody from building, and is tried again with the next.
pub(super) fn clean(app: &App) {
    if let Err(error) = removed(app) {
        warn(app, &error.to_string());
    }
}

/// The same for an app that is removed. What cannot be removed stays noted.
pub(super) fn forget(app: &App) {
    clean(app);
    let forgotten = keys::get::<Vec<Unfinished>>(&key(app)).and_then(|left| match left {
        Some(left) if left.is_empty() => keys::remove(&key(app)),
        Some(_) | None => Ok(()),
    });
    if let Err(error) = forgotten {
        warn(app, &error.to_string());
    }
}

fn removed(app: &App) -> Result<()> {
    let written = state::get(&key(app))?;
    let all: Vec<Unfinished> =
        written.as_ref().map(keys::read_if_readable).transpose()?.unwrap_or_default();
    if all.is_empty() {
        return Ok(());
    }
    let history = images::history(&app.name)?;
    let ends = |one: &Unfinished| {
        let removed = if history.contains(&one.image) { Ok(()) } else { remove(app, one) };
        removed.inspect_err(|error| warn(app, &error.to_string())).is_ok()
    };
    let gone: Vec<Unfinished> = all.into_iter().filter(ends).collect();
    change(app, |all| all.retain(|one| !gone.contains(one)))
}

fn remove(app: &App, Unfinished { image, node }: &Unfinished) -> Result<()> {
    let remove = Sequence::new(node, vec![Step::RemoveImage(image.clone())]).within(PATIENCE);
    let removed = Batch::submit(vec![remove])?.all();
    match removed.into_iter().find_map(|completion| completion.failure) {
        None | Some(EngineError::NotFound(_)) => images::forget(&app.name, image),
        Some(error) => Err(error.into()),
    }
}

/// What nobody can read is not there.
fn change(app: &App, change: impl Fn(&mut Vec<Unfinished>)) -> Result<()> {
    keys::change(&key(app), keys::read_if_readable, |all| {
        change(all);
        Ok(())
    })
}

fn warn(app: &App, why: &str) {
    log::warn("the image of an earlier build stays", &[("app", app.name.as_str()), ("error", why)]);
}

fn key(app: &App) -> String {
    format!("{ALL}{}", app.name)
}
