//! One context of a kubeconfig, resolved to where a cluster is and who we are there.
//!
//! What runs a program for its credentials, or goes another way than straight to the API server, cannot be carried to a daemon and is refused. No message has a word of the file but names.

use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::api::Secret;
use crate::near;

/// Where a cluster is and who we are there. Nothing where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Where its API server answers.
    pub(super) addresses: Vec<String>,
    /// Its certificate authority, as PEM.
    pub(super) ca_cert: Option<String>,
    /// The certificate that we show, as PEM.
    pub(super) client_cert: Option<String>,
    /// The key of that certificate.
    pub(super) client_key: Option<Secret>,
    /// The token that we show.
    pub(super) token: Option<Secret>,
    /// The namespace of the context.
    pub(super) namespace: Option<String>,
}

/// Why a kubeconfig cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Why.
    pub(super) why: String,
    /// What to type next.
    pub(super) hint: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    current_context: Option<String>,
    clusters: Vec<NamedCluster>,
    contexts: Vec<NamedContext>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    #[serde(default)]
    cluster: ClusterEntry,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct ClusterEntry {
    server: Option<String>,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    #[serde(default)]
    context: ContextEntry,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContextEntry {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: UserEntry,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct UserEntry {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
}

/// What to type when a context cannot be carried to a daemon.
const BY_HAND: &str = "name the place instead: `--address URL --ca-cert FILE --token-file FILE`";

fn wrong<T>(why: impl Into<String>, hint: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { why: why.into(), hint: hint.into() })
}

/// Resolves a context, the current one when it is empty. `read` reads the files that the kubeconfig names, relative to its own folder.
pub(super) fn resolve(
    text: &str,
    context: &str,
    read: impl Fn(&Path) -> io::Result<String>,
) -> Result<Resolved, Wrong> {
    let Ok(file) = serde_saphyr::from_str::<File>(text) else {
        // The reader's own words show the lines around, and they may be keys.
        return wrong("it is not the YAML of a kubeconfig", "`kubectl config view` reads it too");
    };
    let known = || file.contexts.iter().map(|one| one.name.as_str());
    let name = match (context, file.current_context.as_deref()) {
        ("", None | Some("")) => {
            return wrong(
                "it has no `current-context`, and no context was named",
                format!(
                    "add `--context CONTEXT`; there is `{}`",
                    known().collect::<Vec<_>>().join("`, `")
                ),
            );
        }
        ("", Some(current)) => current,
        (named, _) => named,
    };
    let Some(NamedContext { context, .. }) = file.contexts.iter().find(|one| one.name == name)
    else {
        let hint = match near::nearest(name, known()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("there is `{}`", known().collect::<Vec<_>>().join("`, `")),
        };
        return wrong(format!("it has no context `{name}`"), hint);
    };
    let cluster = file.clusters.iter().find(|one| one.name == context.cluster);
    let Some(NamedCluster { cluster, .. }) = cluster else {
        return wrong(format!("it has no cluster `{}`", context.cluster), BY_HAND);
    };
    let mut resolved = Resolved {
        namespace: context.namespace.clone().filter(|namespace| !namespace.is_empty()),
        ..Resolved::default()
    };
    place(&mut resolved, cluster, &read)?;
    if context.user.is_empty() {
        return Ok(resolved);
    }
    let Some(NamedUser { user, .. }) = file.users.iter().find(|one| one.name == context.user)
    else {
        return wrong(format!("it has no user `{}`", context.user), BY_HAND);
    };
    identity(&mut resolved, user, &context.user, &read)?;
    Ok(resolved)
}

fn place(
    resolved: &mut Resolved,
    cluster: &ClusterEntry,
    read: &impl Fn(&Path) -> io::Result<String>,
) -> Result<(), Wrong> {
    let Some(server) = cluster.server.clone().filter(|server| !server.is_empty()) else {
        return wrong("its cluster has no `server`", BY_HAND);
    };
    for (given, what) in [
        (cluster.proxy_url.is_some(), "goes through a proxy (`proxy-url`)"),
        (
            cluster.tls_server_name.is_some(),
            "has another name in its certificate (`tls-server-name`)",
        ),
        (
            cluster.insecure_skip_tls_verify == Some(true),
            "is not verified (`insecure-skip-tls-verify`)",
        ),
    ] {
        if given {
            return wrong(format!("its cluster {what}, which is not supported"), BY_HAND);
        }
    }
    resolved.addresses = vec![server];
    let data = cluster.certificate_authority_data.as_deref();
    let path = cluster.certificate_authority.as_deref();
    resolved.ca_cert = contents("certificate-authority", data, path, read)?;
    Ok(())
}

fn identity(
    resolved: &mut Resolved,
    user: &UserEntry,
    name: &str,
    read: &impl Fn(&Path) -> io::Result<String>,
) -> Result<(), Wrong> {
    for (given, what) in [
        (user.exec.is_some(), "runs a program for its credentials (`exec`)"),
        (user.auth_provider.is_some(), "has its credentials from an `auth-provider`"),
        (user.impersonate.is_some(), "speaks as somebody else (`as`)"),
        (
            user.username.is_some() || user.password.is_some(),
            "has a password, which Kubernetes does not take since its version 1.19",
        ),
    ] {
        if given {
            return wrong(
                format!("its user `{name}` {what}; a daemon cannot do that"),
                "make a service account and show its token: `kubectl create token NAME > FILE`, then `--address URL --ca-cert FILE --token-file FILE`",
            );
        }
    }
    let token = match (&user.token, &user.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(path)) => contents("tokenFile", None, Some(path), read)?,
        (None, None) => None,
    };
    let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    if let Some(token) = token {
        // As kubectl has it, the token counts.
        resolved.token = Some(Secret::new(token));
        return Ok(());
    }
    let data = user.client_certificate_data.as_deref();
    let path = user.client_certificate.as_deref();
    resolved.client_cert = contents("client-certificate", data, path, read)?;
    let (data, path) = (user.client_key_data.as_deref(), user.client_key.as_deref());
    resolved.client_key = contents("client-key", data, path, read)?.map(Secret::new);
    Ok(())
}

/// What a field holds, itself or in the file that it names; its data counts.
fn contents(
    field: &str,
    data: Option<&str>,
    path: Option<&str>,
    read: &impl Fn(&Path) -> io::Result<String>,
) -> Result<Option<String>, Wrong> {
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        let text = base64(data).and_then(|bytes| String::from_utf8(bytes).ok());
        return match text {
            Some(text) => Ok(Some(text)),
            None => wrong(format!("its `{field}-data` is not text in base64"), BY_HAND),
        };
    }
    let Some(path) = path.filter(|path| !path.is_empty()) else { return Ok(None) };
    match read(Path::new(path)) {
        Ok(text) => Ok(Some(text)),
        Err(error) => wrong(format!("its `{field}` `{path}` cannot be read: {error}"), BY_HAND),
    }
}

/// Reads base64 as kubeconfigs hold it; blanks and line feeds are none of it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0_u32);
    let mut letters = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    for letter in letters.by_ref() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    letters.all(|letter| letter == b'=').then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_files(path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("certs/ca.pem") => Ok("ca in a file".to_owned()),
            Some("token") => Ok("s3cr3t\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    const FILE: &str = "
apiVersion: v1
kind: Config
current-context: north
clusters:
- name: one
  cluster: {server: 'https://one:6443', certificate-authority-data: Y2E=}
- name: two
  cluster: {server: 'https://two:6443', certificate-authority: certs/ca.pem}
- name: round
  cluster: {server: 'https://r', proxy-url: 'http://p'}
- name: blind
  cluster: {server: 'https://b', insecure-skip-tls-verify: true}
contexts:
- name: north
  context: {cluster: one, user: cert, namespace: shop}
- name: south
  context: {cluster: two, user: token}
- name: file
  context: {cluster: two, user: file}
- name: nobody
  context: {cluster: one, user: ''}
- name: lost
  context: {cluster: none, user: cert}
- name: ghost
  context: {cluster: one, user: none}
- name: round
  context: {cluster: round, user: cert}
- name: blind
  context: {cluster: blind, user: cert}
- name: exec
  context: {cluster: one, user: exec}
- name: provider
  context: {cluster: one, user: provider}
- name: basic
  context: {cluster: one, user: basic}
- name: torn
  context: {cluster: one, user: torn}
- name: away
  context: {cluster: one, user: away}
users:
- name: cert
  user: {client-certificate-data: Y2VydA==, client-key-data: a2V5}
- name: token
  user: {token: s3cr3t}
- name: file
  user: {tokenFile: token}
- name: exec
  user: {exec: {command: aws, args: [s3cr3t]}}
- name: provider
  user: {auth-provider: {name: gcp}}
- name: basic
  user: {username: ann, password: s3cr3t}
- name: torn
  user: {client-certificate-data: '???', client-key-data: a2V5}
- name: away
  user: {client-certificate: nowhere.pem, client-key-data: a2V5}
";

    #[test]
    fn a_context_is_an_address_an_authority_and_somebody() {
        let resolved = resolve(FILE, "", no_files).unwrap();
        let expected = Resolved {
            addresses: vec!["https://one:6443".into()],
            ca_cert: Some("ca".into()),
            client_cert: Some("cert".into()),
            client_key: Some(Secret::new("key")),
            token: None,
            namespace: Some("shop".into()),
        };
        assert_eq!(resolved, expected);
        for context in ["south", "file"] {
            let resolved = resolve(FILE, context, no_files).unwrap();
            assert_eq!(resolved.ca_cert.as_deref(), Some("ca in a file"));
            assert_eq!(resolved.token, Some(Secret::new("s3cr3t")), "{context}");
        }
        let nobody = resolve(FILE, "nobody", no_files).unwrap();
        assert_eq!((nobody.token, nobody.client_cert), (None, None));
    }

    #[test]
    fn what_cannot_be_carried_to_a_daemon_is_refused_with_the_reason_and_without_a_secret() {
        let without = FILE.replace("current-context: north", "");
        for (file, context, why) in [
            (FILE, "nroth", "no context `nroth`"),
            (&without, "", "no `current-context`"),
            (FILE, "lost", "no cluster `none`"),
            (FILE, "ghost", "no user `none`"),
            (FILE, "round", "through a proxy"),
            (FILE, "blind", "not verified"),
            (FILE, "exec", "runs a program"),
            (FILE, "provider", "`auth-provider`"),
            (FILE, "basic", "a password"),
            (FILE, "torn", "`client-certificate-data` is not"),
            (FILE, "away", "`nowhere.pem` cannot be read"),
            ("users: [{name: u, user: {token: s3cr3t\n  : ]", "", "not the YAML"),
        ] {
            let wrong = resolve(file, context, no_files).unwrap_err();
            assert!(wrong.why.contains(why), "{wrong:?}");
            assert!(!wrong.why.contains("s3cr3t") && !wrong.hint.is_empty(), "{wrong:?}");
        }
        let near = resolve(FILE, "nroth", no_files).unwrap_err();
        assert_eq!(near.hint, "did you mean `north`?");
    }

    #[test]
    fn base64_is_that_of_everybody() {
        for (text, plain) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9v\n  YmFy", "foobar")]
        {
            assert_eq!(base64(text).as_deref(), Some(plain.as_bytes()), "{text}");
        }
        assert_eq!(base64("+//+"), Some(vec![0xfb, 0xff, 0xfe]));
        for bad in ["*", "Zg==x", "Z g=a"] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }
}
