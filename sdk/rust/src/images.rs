//! The images of apps: their names, their history, and what is known of each.

use gantry_core::image::ImageMetadata;
use serde_json::Value;

use crate::Result;
use crate::bindings::gantry::provision::images as imported;

/// Reserves the next name for an image of the app. A number is never given twice.
///
/// # Errors
///
/// The platform does not answer.
pub fn reserve(app: &str) -> Result<String> {
    Ok(imported::reserve(app)?)
}

/// Makes an image the app's current one. One that is in the history already moves to its end.
///
/// # Errors
///
/// The platform does not answer.
pub fn append(app: &str, image: &str) -> Result<()> {
    Ok(imported::append(app, image)?)
}

/// The app's current image; the name without a version before the first deploy.
///
/// # Errors
///
/// There is a history and nothing in it, or the platform does not answer.
pub fn current(app: &str) -> Result<String> {
    Ok(imported::current(app)?)
}

/// The app's images that can be returned to, oldest first.
///
/// # Errors
///
/// The platform does not answer.
pub fn history(app: &str) -> Result<Vec<String>> {
    Ok(imported::history(app)?)
}

/// What is known of an image; none when nobody told.
///
/// # Errors
///
/// The platform does not answer.
pub fn metadata(image: &str) -> Result<Option<ImageMetadata>> {
    Ok(imported::get_metadata(image)?.map(ImageMetadata::from))
}

/// Writes down what is known of an image: an object with `processes` or `procfile`, and optionally `exposedPort`, `hooks` and `healthcheck`.
///
/// # Errors
///
/// `Conflict` when something else was written down before; `InvalidArgument` for an object that cannot be read.
pub fn save_metadata(image: &str, custom_data: &Value) -> Result<()> {
    Ok(imported::save_metadata(image, &custom_data.to_string())?)
}

/// Forgets an image: what is known of it and its place in the history. Forgetting an unknown one succeeds.
///
/// # Errors
///
/// The platform does not answer.
pub fn forget(app: &str, image: &str) -> Result<()> {
    Ok(imported::forget(app, image)?)
}
