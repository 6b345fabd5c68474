//! Volumes of clusters, deleted (spec 7.9). Making them is a part of every deploy of an app that has one.

use gantry_sdk::cluster::DeleteOptions;
use gantry_sdk::{Error, Result};

use crate::calls::insist_on_change;
use crate::home::{Home, kinds};
use crate::name;

/// Deletes what the cluster of a pool keeps for a volume.
///
/// # Errors
///
/// The cluster refuses, or does not answer.
pub(crate) fn delete(volume: &str, pool: &str) -> Result<()> {
    let home = match Home::of_pool(pool) {
        Ok(home) => home,
        // No cluster keeps nothing.
        Err(Error::NotFound(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let options = DeleteOptions::default();
    let persistent = name::volume(volume);
    insist_on_change(|| {
        home.client.delete(&kinds::persistent_volume(), "", &persistent, &options)
    })?;
    let claim = name::volume_claim(volume);
    let kind = kinds::persistent_volume_claim();
    Ok(insist_on_change(|| home.client.delete(&kind, home.namespace(), &claim, &options))?)
}
