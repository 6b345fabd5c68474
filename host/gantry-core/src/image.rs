//! Images of apps: what they are called, which is current, and what is known of each (spec 5.13).

mod custom_data;
mod history;
mod metadata;
mod name;

pub use custom_data::{CustomDataError, ImageFiles};
pub use history::{ImageHistory, ImageHistoryError, RollbackError, rollback_image};
pub use metadata::{Healthcheck, Hooks, ImageMetadata, RestartHooks};
pub use name::{ImageNames, is_builder_image, split_image_name, version_name};

/// An image, looked into by whoever pushed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectedImage {
    /// Docker's JSON about it.
    pub image: String,
    /// Its Procfile; empty when it has none.
    pub procfile: String,
    /// Its tsuru.yaml, as JSON; empty when it has none.
    pub tsuru_yaml: String,
}
