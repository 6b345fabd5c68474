//! What objects are called (spec 7.2).
//!
//! No name is cut: one that is too long is the cluster's to refuse.

/// A text as part of a name: what is no letter, digit, dot or dash becomes a dash, and letters become small.
pub fn clean(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '-';
    text.chars()
        .map(|letter| if plain(letter) { letter.to_ascii_lowercase() } else { '-' })
        .collect()
}

/// The Deployment of a process, its Service and its container.
pub fn deployment(app: &str, process: &str) -> String {
    clean(&format!("{app}-{process}"))
}

/// The headless Service of a process, and the subdomain of its pods.
pub fn headless_service(app: &str, process: &str) -> String {
    clean(&format!("{app}-{process}-units"))
}

/// The service account of an app.
pub fn app_account(app: &str) -> String {
    clean(&format!("app-{app}"))
}

/// The service account of a node container.
pub fn node_container_account(node_container: &str) -> String {
    clean(&format!("node-container-{node_container}"))
}

/// The pod that deploys; `version` is the app's current one (`v1`).
pub fn deploy_pod(app: &str, version: &str) -> String {
    clean(&format!("{app}-{version}-deploy"))
}

/// The pod that builds; an empty suffix is left out.
pub fn build_pod(app: &str, version: &str, suffix: &str) -> String {
    if suffix.is_empty() {
        clean(&format!("{app}-{version}-build"))
    } else {
        clean(&format!("{app}-{version}-build-{suffix}"))
    }
}

/// The pod that runs one command.
pub fn isolated_pod(app: &str) -> String {
    clean(&format!("{app}-isolated-run"))
}

/// The same for one of several that may run at once: with the end of the operation's id, which is enough to tell them apart and short enough for a container's name.
pub fn run_of(name: &str, operation: &str) -> String {
    const TOLD_APART: usize = 8;
    let id = clean(operation);
    match id.get(id.len().saturating_sub(TOLD_APART)..) {
        Some(end) if !end.is_empty() => format!("{name}-{end}"),
        Some(_) | None => name.to_owned(),
    }
}

/// The DaemonSet of a node container on the nodes of a pool, or of all pools when that is empty.
pub fn daemon_set(node_container: &str, pool: &str) -> String {
    if pool.is_empty() {
        clean(&format!("node-container-{node_container}-all"))
    } else {
        clean(&format!("node-container-{node_container}-pool-{pool}"))
    }
}

/// The persistent volume of a volume, and what pods call it. Not cleaned, as in the reference: a volume is named by people, and two of them must not become one.
pub fn volume(volume: &str) -> String {
    format!("{volume}-tsuru")
}

/// The claim to a volume. Not cleaned either.
pub fn volume_claim(volume: &str) -> String {
    format!("{volume}-tsuru-claim")
}

/// The secret of a registry.
pub fn registry_secret(registry: &str) -> String {
    clean(&format!("registry-{registry}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_cannot_have_is_a_dash() {
        for (text, cleaned) in [
            ("", ""),
            ("My_App", "my-app"),
            ("a.b-c9", "a.b-c9"),
            ("é漢😀", "---"),
            ("a b/c:d", "a-b-c-d"),
            ("-", "-"),
        ] {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
    }

    #[test]
    fn runs_are_told_apart_by_their_operation() {
        for (operation, name) in [
            ("", "web-isolated-run"),
            ("01", "web-isolated-run-01"),
            ("01K8ZZZZZZ_ABCDEFGH", "web-isolated-run-abcdefgh"),
        ] {
            assert_eq!(run_of(&isolated_pod("web"), operation), name);
        }
    }

    #[test]
    fn a_long_name_stays_long() {
        assert_eq!(deployment(&"a".repeat(100), "web").len(), 104);
    }
}
