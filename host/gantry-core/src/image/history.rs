//! Which images an app has had, and which it runs.

use serde::{Deserialize, Serialize};

use super::ImageNames;

/// How many images stay valid when the operator does not say (`docker:image-history-size`).
const DEFAULT_SIZE: usize = 10;

/// The images of one app, oldest first, and the numbers given out for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageHistory {
    /// The images that were deployed.
    pub images: Vec<String>,
    /// How many numbers were given out. A number is never given twice.
    pub reserved: u64,
}

/// There is a history and nothing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no images available for app")]
pub struct ImageHistoryError;

impl ImageHistory {
    /// How many images stay valid: what is configured, or 10.
    #[must_use]
    pub fn size(configured: Option<i64>) -> usize {
        configured
            .filter(|size| *size != 0)
            .and_then(|size| usize::try_from(size).ok())
            .unwrap_or(DEFAULT_SIZE)
    }

    /// Gives out the next number and the name for it.
    pub fn reserve(&mut self, names: &ImageNames, app: &str) -> String {
        self.reserved = self.reserved.saturating_add(1);
        names.app_version(app, self.reserved)
    }

    /// Makes an image the current one. One that is there already moves to the end.
    pub fn append(&mut self, image: &str) {
        self.images.retain(|known| known != image);
        self.images.push(image.to_owned());
    }

    /// Takes an image out. Taking out an unknown one changes nothing.
    pub fn remove(&mut self, image: &str) {
        self.images.retain(|known| known != image);
    }

    /// The current image: the last one, or the name without a tag when none was deployed yet.
    ///
    /// # Errors
    ///
    /// A history without images for which no number was ever given out: something emptied it.
    pub fn current(
        history: Option<&Self>,
        names: &ImageNames,
        app: &str,
    ) -> Result<String, ImageHistoryError> {
        match history {
            None => Ok(names.app_base(app)),
            Some(Self { images, reserved }) => match images.last() {
                Some(image) => Ok(image.clone()),
                None if *reserved > 0 => Ok(names.app_base(app)),
                None => Err(ImageHistoryError),
            },
        }
    }

    /// The images that can be returned to: the last `size` ones, oldest first.
    #[must_use]
    pub fn valid(&self, size: usize) -> &[String] {
        let start = self.images.len().saturating_sub(size);
        self.images.get(start..).unwrap_or_default()
    }
}

/// Why there is nothing to return to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// The app has no images.
    #[error("Image {image} not found in app {}", crate::quote(.app))]
    ImageNotFound {
        /// What was asked for.
        image: String,
        /// The app.
        app: String,
    },
    /// None of them is meant.
    #[error("Invalid version: {0}")]
    InvalidVersion(String),
}

/// The image that a version means: the first of the valid ones whose name ends with it.
///
/// # Errors
///
/// No images, or none that ends so.
pub fn rollback_image<'a>(
    app: &str,
    valid: &'a [String],
    version: &str,
) -> Result<&'a str, RollbackError> {
    if valid.is_empty() {
        return Err(RollbackError::ImageNotFound {
            image: version.to_owned(),
            app: app.to_owned(),
        });
    }
    valid
        .iter()
        .find(|image| image.ends_with(version))
        .map(String::as_str)
        .ok_or_else(|| RollbackError::InvalidVersion(version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(images: &[&str]) -> ImageHistory {
        let images = images.iter().map(|image| (*image).to_owned()).collect();
        ImageHistory { images, reserved: 9 }
    }

    #[test]
    fn a_version_is_the_first_valid_image_that_ends_with_it() {
        let history = history(&["r/app-a:v1", "r/app-a:v2", "r/app-a:v12"]);
        let valid = history.valid(10);
        assert_eq!(rollback_image("a", valid, "v2").unwrap(), "r/app-a:v2");
        assert_eq!(rollback_image("a", valid, "2").unwrap(), "r/app-a:v2");
        assert_eq!(rollback_image("a", valid, "r/app-a:v12").unwrap(), "r/app-a:v12");
        let error = rollback_image("a", valid, "v3").unwrap_err().to_string();
        assert_eq!(error, "Invalid version: v3");
        let error = rollback_image("a", &[], "v3").unwrap_err().to_string();
        assert_eq!(error, r#"Image v3 not found in app "a""#);
    }

    #[test]
    fn only_the_last_images_are_valid() {
        let history = history(&["1", "2", "3"]);
        assert_eq!(history.valid(2), ["2", "3"]);
        assert_eq!(history.valid(10), ["1", "2", "3"]);
        assert!(history.valid(0).is_empty());
    }

    #[test]
    fn ten_images_are_valid_unless_configured() {
        for (configured, size) in [(None, 10), (Some(0), 10), (Some(-1), 10), (Some(3), 3)] {
            assert_eq!(ImageHistory::size(configured), size);
        }
    }

    #[test]
    fn a_history_that_somebody_emptied_has_no_current_image() {
        let names = ImageNames::default();
        let empty = ImageHistory::default();
        let error = ImageHistory::current(Some(&empty), &names, "a").unwrap_err();
        assert_eq!(error.to_string(), "no images available for app");
    }
}
