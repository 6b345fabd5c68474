//! Images of apps: what they are called, which is current, and what is known of each (spec 5.13).

mod custom_data;
mod history;
mod metadata;
mod name;

use serde::{Deserialize, Serialize};

pub use custom_data::{CustomDataError, ImageFiles};
pub use history::{ImageHistory, ImageHistoryError, RollbackError, rollback_image};
pub use metadata::{Healthcheck, Hooks, ImageMetadata, RestartHooks};
pub use name::{ImageNames, LATEST, is_builder_image, split_image_name, version_name};

/// How an app's source becomes an image on a Docker host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildOptions {
    /// The path of the Dockerfile in the source; empty to build on the image of the app's platform.
    pub dockerfile: String,
    /// The arguments of such a build.
    pub args: Vec<(String, String)>,
    /// The tag of the image that is made; the next of the app's builds when empty.
    pub tag: String,
}

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
