//! The images of builds that no deploy has made the app's yet, in the plugin's durable keys: `builds/<app>`, the name and the host of each.
//!
//! Written down before the image is made, so that one whose platform died before it was deployed is found again: by the app's next build, which has the app to itself as this one had.

use gantry_sdk::containers::{Batch, EngineError, Sequence, Step};
use gantry_sdk::state::{self, Entry};
use gantry_sdk::{App, Error, Result, images, log};
use serde::{Deserialize, Serialize};

use crate::host::Host;
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
    let entry = state::get(&key(app))?;
    let mut all = read(entry.as_ref());
    all.retain(|one| one.image != image);
    all.push(Unfinished { image: image.to_owned(), node: host.address.clone() });
    write(app, entry.as_ref(), &all)
}

/// It was not, or is gone. A note that stays only makes the next build look for it.
pub(super) fn end(app: &App, image: &str) {
    let result = state::get(&key(app)).and_then(|entry| {
        let mut all = read(entry.as_ref());
        all.retain(|one| one.image != image);
        write(app, entry.as_ref(), &all)
    });
    if let Err(error) = result {
        warn(app, &error.to_string());
    }
}

/// Removes the images of earlier builds that no deploy has made the app's. What cannot be removed keeps nobody from building, and is tried again with the next.
pub(super) fn clean(app: &App) {
    if let Err(error) = removed(app) {
        warn(app, &error.to_string());
    }
}

fn removed(app: &App) -> Result<()> {
    let Some(entry) = state::get(&key(app))? else { return Ok(()) };
    let history = images::history(&app.name)?;
    let mut all = read(Some(&entry));
    all.retain(|one| {
        if history.contains(&one.image) {
            return false;
        }
        let result = remove(app, one);
        if let Err(error) = &result {
            warn(app, &error.to_string());
        }
        result.is_err()
    });
    write(app, Some(&entry), &all)
}

fn remove(app: &App, Unfinished { image, node }: &Unfinished) -> Result<()> {
    let remove = Sequence::new(node, vec![Step::RemoveImage(image.clone())]).within(PATIENCE);
    let removed = Batch::submit(vec![remove])?.all();
    match removed.into_iter().find_map(|completion| completion.failure) {
        None | Some(EngineError::NotFound(_)) => images::forget(&app.name, image),
        Some(error) => Err(error.into()),
    }
}

/// What is written down. What nobody can read is not there.
fn read(entry: Option<&Entry>) -> Vec<Unfinished> {
    entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()).unwrap_or_default()
}

fn write(app: &App, before: Option<&Entry>, all: &[Unfinished]) -> Result<()> {
    let version = before.map(|entry| entry.version);
    match (all.is_empty(), version) {
        (true, None) => Ok(()),
        (true, Some(version)) => state::delete_if(&key(app), version),
        (false, version) => {
            let value = serde_json::to_vec(all).map_err(|error| Error::Other(error.to_string()))?;
            state::put_if(&key(app), &value, version).map(drop)
        }
    }
}

fn warn(app: &App, why: &str) {
    log::warn("the image of an earlier build stays", &[("app", app.name.as_str()), ("error", why)]);
}

fn key(app: &App) -> String {
    format!("{ALL}{}", app.name)
}
