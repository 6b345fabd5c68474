//! How many units apps use, as it is written down: what a provisioner tells of its own app stands, and what is seen of its units counts only when it told nothing.
//!
//! A provisioner may know of units that do not exist while they are at rest; whoever counts those that are there would forget them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::{Store, StoreError};

/// The counts of a store.
#[derive(Clone)]
pub(crate) struct Counts {
    store: Arc<Store>,
    // A std mutex: held for a look or an insert, never across an await.
    told: Arc<Mutex<BTreeSet<String>>>,
}

impl Counts {
    /// The counts of a store.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, told: Arc::default() }
    }

    /// A change of an app begins, or is over: what was told before it is not of it.
    pub(crate) fn begin(&self, app: &str) {
        self.of_change().remove(app);
    }

    /// Whether the provisioner has told the count of an app in the change that is under way.
    pub(crate) fn is_told(&self, app: &str) -> bool {
        self.of_change().contains(app)
    }

    /// Writes down what the provisioner of an app tells, if it may use so many; gives what it may use otherwise, or nothing when there is no such app.
    pub(crate) async fn tell(
        &self,
        app: &str,
        units: u32,
    ) -> Result<Option<Result<(), u32>>, StoreError> {
        let written = self.store.set_units_in_use(app, units).await?;
        if written == Some(Ok(())) {
            self.of_change().insert(app.to_owned());
        }
        Ok(written)
    }

    /// Writes down what is seen of the units of an app, unless its provisioner has told. The units are there or gone already: that it cannot be written is for the log.
    pub(crate) async fn see(&self, app: &str, units: u32) {
        if self.is_told(app) {
            return;
        }
        match self.store.set_units_in_use(app, units).await {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(_)) | None) => tracing::warn!(app, units, "more units than its quota"),
            Err(error) => {
                tracing::error!(
                    app,
                    error = &error as &dyn std::error::Error,
                    "could not count units"
                );
            }
        }
    }

    fn of_change(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
