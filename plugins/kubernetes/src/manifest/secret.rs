//! The secret that images of the operator's registry are pulled with.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::{Registry, metadata};
use crate::name;

/// The secret that an image is pulled with; none for an image from elsewhere, or when the registry asks for neither user nor password.
pub fn for_image(image: &str, registry: &Registry, namespace: &str) -> Option<Value> {
    let Registry { address, user, password } = registry;
    if !registry.has(image) || (user.is_empty() && password.is_empty()) {
        return None;
    }
    let name = name::registry_secret(address);
    Some(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(&name, namespace, Default::default(), Default::default()),
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": BASE64_STANDARD.encode(docker_config(registry))},
    }))
}

/// Docker's configuration for the registry, byte for byte as the reference writes it: an unchanged secret stays unchanged.
fn docker_config(Registry { address, user, password }: &Registry) -> String {
    let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let [address, user, password] = [address, user, password].map(|text| quoted(text));
    format!(
        r#"{{"auths":{{{address}:{{"username":{user},"password":{password},"auth":"{auth}"}}}}}}"#
    )
}

/// A text in JSON, with the letters escaped that Go escapes.
fn quoted(text: &str) -> String {
    Value::from(text)
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standards() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("\u{3ff}\u{3e}?", "z78+Pw=="),
        ] {
            assert_eq!(BASE64_STANDARD.encode(text), encoded, "{text:?}");
        }
    }

    #[test]
    fn only_a_registry_that_asks_for_a_user_has_a_secret() {
        let registry = |address: &str, user: &str, password: &str| {
            let [address, user, password] = [address, user, password].map(str::to_owned);
            Registry { address, user, password }
        };
        assert_eq!(for_image("r/i", &registry("r", "", ""), "default"), None);
        assert_eq!(for_image("/i", &registry("", "u", "p"), "default"), None);
        assert_eq!(for_image("i", &registry("r", "u", "p"), "default"), None);
        assert!(for_image("r/i", &registry("r", "", "p"), "default").is_some());
        let config = docker_config(&registry("r", "a\"b", "<&>"));
        let expected = r#"{"auths":{"r":{"username":"a\"b","password":"\u003c\u0026\u003e","auth":"YSJiOjwmPg=="}}}"#;
        assert_eq!(config, expected);
    }
}
