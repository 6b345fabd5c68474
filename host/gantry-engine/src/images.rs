//! The images of apps: names, history, metadata.

use async_trait::async_trait;
use gantry_core::Error;
use gantry_core::image::ImageMetadata;

/// The images of the platform's apps.
#[async_trait]
pub trait Images: Send + Sync {
    /// Reserves the next name of an app's image.
    async fn reserve(&self, app: &str) -> Result<String, Error>;
    /// Makes an image the current one.
    async fn append(&self, app: &str, image: &str) -> Result<(), Error>;
    /// The current image; the name without a version before the first deploy.
    async fn current(&self, app: &str) -> Result<String, Error>;
    /// The images that can be returned to, oldest first.
    async fn history(&self, app: &str) -> Result<Vec<String>, Error>;
    /// What is known of an image.
    async fn metadata(&self, image: &str) -> Result<Option<ImageMetadata>, Error>;
    /// Writes down what is known of an image, from a JSON object.
    async fn save_metadata(&self, image: &str, custom_data: &str) -> Result<(), Error>;
    /// Forgets an image.
    async fn forget(&self, app: &str, image: &str) -> Result<(), Error>;
}
