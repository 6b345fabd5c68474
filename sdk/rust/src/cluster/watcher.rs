use std::time::Duration;

use serde_json::Value;

use super::client::object;
use super::{Result, imported};

/// What happens to the objects of some kinds. Dropping it ends it.
#[derive(Debug)]
pub struct Watcher(imported::Watcher);

/// What happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is there and looks like this.
    Applied(Value),
    /// It is gone; of how it looked last, only `metadata` is sure to be there.
    Deleted(Value),
    /// All that was there when the watch began has been told.
    Listed,
}

impl Watcher {
    pub(super) fn new(watcher: imported::Watcher) -> Self {
        Self(watcher)
    }

    /// The next event with the target it is of, counted from 0, or none when there is none within this time.
    ///
    /// # Errors
    ///
    /// The watch broke in a way that the host cannot mend, or the request was cancelled.
    pub fn next(&self, time: Duration) -> Result<Option<(u32, Change)>> {
        let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let Some(event) = self.0.next(milliseconds)? else {
            return Ok(None);
        };
        let change = match event.change {
            imported::Change::Applied(text) => Change::Applied(object(&text)?),
            imported::Change::Deleted(text) => Change::Deleted(object(&text)?),
            imported::Change::Listed => Change::Listed,
        };
        Ok(Some((event.target, change)))
    }
}
