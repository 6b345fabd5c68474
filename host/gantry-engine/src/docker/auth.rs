//! What registries ask for. It stays in the host: a plugin names an image, never a password.

use std::collections::BTreeMap;
use std::fmt;

use bollard::auth::DockerCredentials;

/// Docker's name for the registry of images without one.
const HUB: &str = "docker.io";

/// Who the host is to registries, by the registry's host.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    by_registry: BTreeMap<String, Credentials>,
}

#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: String,
    password: String,
}

impl Auth {
    /// Nobody to every registry.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The same, and this user to a registry (`registry.example:5000`, `docker.io`).
    #[must_use]
    pub fn with(
        mut self,
        registry: impl Into<String>,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        let credentials = Credentials { user: user.into(), password: password.into() };
        self.by_registry.insert(registry.into(), credentials);
        self
    }

    /// What the registry of an image is told.
    pub(super) fn of_image(&self, image: &str) -> Option<DockerCredentials> {
        let registry = registry(image);
        let credentials = self.by_registry.get(registry)?;
        Some(DockerCredentials {
            username: Some(credentials.user.clone()),
            password: Some(credentials.password.clone()),
            serveraddress: Some(registry.to_owned()),
            ..DockerCredentials::default()
        })
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_registry.keys()).finish()
    }
}

/// The registry of an image: the part before the first slash when it looks like a host.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => HUB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_of_an_image_is_its_host() {
        for (image, host) in [
            ("busybox", HUB),
            ("tsuru/python:v1", HUB),
            ("localhost/app", "localhost"),
            ("localhost:5000/app:v1", "localhost:5000"),
            ("registry.example/team/app@sha256:00", "registry.example"),
        ] {
            assert_eq!(registry(image), host, "{image}");
        }
    }

    #[test]
    fn a_password_is_not_in_what_is_printed() {
        let auth = Auth::none().with("registry.example", "ann", "open sesame");
        assert_eq!(format!("{auth:?}"), r#"{"registry.example"}"#);
        let told = auth.of_image("registry.example/app").unwrap();
        assert_eq!(told.password.as_deref(), Some("open sesame"));
        assert!(auth.of_image("busybox").is_none());
    }
}
