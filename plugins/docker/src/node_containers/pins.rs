//! Images pinned to their digest, by name of the node container and pool: a JSON record for each name, `node-container-pins/<name>`.

use std::collections::{BTreeMap, BTreeSet};

use gantry_sdk::{Result, log};
use serde::{Deserialize, Serialize};

use crate::keys;

/// What an image was pinned to. It counts as long as the configuration says the same image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pin {
    image: String,
    pinned: String,
}

type ByPool = BTreeMap<String, Pin>;

/// Those of some node containers.
#[derive(Debug, Default)]
pub(super) struct Pins {
    by_name: BTreeMap<String, ByPool>,
    /// Names whose pins are not written down yet.
    changed: BTreeSet<String>,
}

impl Pins {
    /// Reads those of these names.
    pub(super) fn read(names: &BTreeSet<&str>) -> Result<Self> {
        let mut pins = Self::default();
        for name in names {
            if let Some(written) = keys::get(&key(name))? {
                pins.by_name.insert((*name).to_owned(), written);
            }
        }
        Ok(pins)
    }

    /// What an image is pinned to in a pool.
    pub(super) fn get(&self, name: &str, pool: &str, image: &str) -> Option<&str> {
        let pin = self.by_name.get(name)?.get(pool)?;
        (pin.image == image).then_some(pin.pinned.as_str())
    }

    /// Pins an image.
    pub(super) fn set(&mut self, name: &str, pool: &str, image: &str, pinned: String) {
        let pin = Pin { image: image.to_owned(), pinned };
        self.by_name.entry(name.to_owned()).or_default().insert(pool.to_owned(), pin);
        self.changed.insert(name.to_owned());
    }

    /// Writes down what is not yet. What cannot be written is only logged: the machine after this one pulls the image itself.
    pub(super) fn save(&mut self) {
        for name in std::mem::take(&mut self.changed) {
            let Some(pins) = self.by_name.get(&name) else { continue };
            let saved = change(&name, |written| written.extend(pins.clone()));
            if let Err(error) = saved {
                let fields = [("node container", name.as_str()), ("error", &error.to_string())];
                log::warn("the digest of an image is not written down", &fields);
            }
        }
    }

    /// Forgets what is pinned for a pool, or for all of them when it is empty.
    pub(super) fn forget(name: &str, pool: &str) -> Result<()> {
        change(name, |written| written.retain(|of, _| !pool.is_empty() && of != pool))
    }
}

/// Changes what is written down of a name, whoever else does.
fn change(name: &str, change: impl Fn(&mut ByPool)) -> Result<()> {
    keys::change(&key(name), keys::read, |pins| {
        change(pins);
        Ok(())
    })
}

fn key(name: &str) -> String {
    format!("node-container-pins/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_of_one_name_one_pool_and_one_image() {
        let mut pins = Pins::default();
        pins.set("bs", "p", "bs", "bs@sha256:1".to_owned());
        assert_eq!(pins.get("bs", "p", "bs"), Some("bs@sha256:1"));
        for (name, pool, image) in [("bs", "p", "bs:latest"), ("bs", "", "bs"), ("x", "p", "bs")] {
            assert_eq!(pins.get(name, pool, image), None, "{name} {pool} {image}");
        }
    }
}
