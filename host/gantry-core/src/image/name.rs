//! How images are called.

use crate::settings::Settings;

/// The repository namespace when none is configured and, for builders, no team owns the app.
const DEFAULT_NAMESPACE: &str = "tsuru";

/// Makes the names of images: `[<registry>/]<namespace>/app-<app>:v<number>` and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageNames {
    /// The registry (`docker:registry`); none when empty.
    pub registry: String,
    /// The namespace (`docker:repository-namespace`); the default when empty.
    pub namespace: String,
}

impl ImageNames {
    /// Reads the configuration.
    #[must_use]
    pub fn from_settings(settings: &(impl Settings + ?Sized)) -> Self {
        Self {
            registry: settings.string("docker:registry"),
            namespace: settings.string("docker:repository-namespace"),
        }
    }

    /// The name of an app's images without a tag; what an app that was never deployed is said to run.
    #[must_use]
    pub fn app_base(&self, app: &str) -> String {
        self.in_namespace(DEFAULT_NAMESPACE, &format!("app-{app}"))
    }

    /// The name of an app's image with this number; the first is 1.
    #[must_use]
    pub fn app_version(&self, app: &str, number: u64) -> String {
        format!("{}:v{number}", self.app_base(app))
    }

    /// Whether an image has a name that was made for an app: its own, and not one that somebody deployed by its name.
    #[must_use]
    pub fn is_of_app(&self, image: &str, app: &str) -> bool {
        let version =
            image.strip_prefix(&self.app_base(app)).and_then(|tag| tag.strip_prefix(":v"));
        version.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    }

    /// The name of an image that a build leaves, before it becomes the image with the number after `reserved`. An empty `tag` is made of that number; the namespace is the
    /// team's unless one is configured.
    #[must_use]
    pub fn builder(&self, app: &str, team_owner: &str, tag: &str, reserved: u64) -> String {
        let default_namespace = if team_owner.is_empty() { DEFAULT_NAMESPACE } else { team_owner };
        let repository = self.in_namespace(default_namespace, &format!("app-{app}"));
        if tag.is_empty() {
            format!("{repository}:v{}-builder", reserved.saturating_add(1))
        } else {
            format!("{repository}:{tag}")
        }
    }

    /// The name of a platform's image.
    #[must_use]
    pub fn platform(&self, platform: &str) -> String {
        format!("{}:latest", self.in_namespace(DEFAULT_NAMESPACE, platform))
    }

    fn in_namespace(&self, default_namespace: &str, name: &str) -> String {
        let namespace =
            if self.namespace.is_empty() { default_namespace } else { self.namespace.as_str() };
        if self.registry.is_empty() {
            format!("{namespace}/{name}")
        } else {
            format!("{}/{namespace}/{name}", self.registry)
        }
    }
}

/// The name of an app's current version when `reserved` numbers were given out: `v1` before the first.
#[must_use]
pub fn version_name(reserved: u64) -> String {
    format!("v{}", reserved.max(1))
}

/// The tag that means the newest image, and that a name without one has.
pub const LATEST: &str = "latest";

/// Splits a name into repository and tag: at the last colon, unless that belongs to a registry's port. A missing tag is [`LATEST`].
#[must_use]
pub fn split_image_name(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        Some(_) | None => (name, LATEST),
    }
}

/// Whether this is what a build left, still to be made into an image of the app.
#[must_use]
pub fn is_builder_image(name: &str) -> bool {
    name.ends_with("-builder")
}
