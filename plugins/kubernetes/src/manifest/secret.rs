//! The secret that images of the operator's registry are pulled with.

use serde_json::{Value, json};

use super::{Registry, metadata};
use crate::name;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

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
        "data": {".dockerconfigjson": base64(docker_config(registry).as_bytes())},
    }))
}

/// Docker's configuration for the registry, byte for byte as the reference writes it: an unchanged secret stays unchanged.
fn docker_config(Registry { address, user, password }: &Registry) -> String {
    let auth = base64(format!("{user}:{password}").as_bytes());
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

/// Standard base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| chunk.get(index).copied().map_or(0, u32::from);
        let group = (at(0) << 16) | (at(1) << 8) | at(2);
        for position in 0..4 {
            let sixbits = usize::try_from((group >> (18 - 6 * position)) & 63).unwrap_or_default();
            let letter = ALPHABET.get(sixbits).copied().map_or('=', char::from);
            // A chunk of n bytes has n + 1 letters.
            text.push(if position <= chunk.len() { letter } else { '=' });
        }
    }
    text
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
            assert_eq!(base64(text.as_bytes()), encoded, "{text:?}");
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
