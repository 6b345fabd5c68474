//! Which kinds a cluster has, and where they are: asked for once for each group and version, and once more when a kind is unknown, since kinds may be added while we run.
//!
//! Nothing becomes part of an address here that could be a way to another one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use super::wire::encode;
use crate::EngineError;
use crate::call::cluster::Kind;

/// How the objects of a kind are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// Its name in addresses.
    plural: String,
    /// Whether its objects live in namespaces.
    namespaced: bool,
}

/// The kinds of a group and version.
pub(super) type Kinds = BTreeMap<String, Resource>;

/// What is known so far, by group and version.
#[derive(Default)]
pub(super) struct Discovery {
    // Held for a look or an insert, never across an await.
    known: Mutex<BTreeMap<String, Arc<Kinds>>>,
}

impl Discovery {
    /// What was said of a group and version, if it was asked for.
    pub(super) fn known(&self, api_version: &str) -> Option<Arc<Kinds>> {
        self.lock().get(api_version).cloned()
    }

    pub(super) fn learn(&self, api_version: &str, kinds: Kinds) -> Arc<Kinds> {
        let kinds = Arc::new(kinds);
        self.lock().insert(api_version.to_owned(), Arc::clone(&kinds));
        kinds
    }

    pub(super) fn forget(&self, api_version: &str) {
        self.lock().remove(api_version);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Kinds>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No such kind.
pub(super) fn unknown(kind: &Kind) -> EngineError {
    let Kind { api_version, kind } = kind;
    EngineError::NotFound(format!("the cluster has no kind `{kind}` in `{api_version}`"))
}

/// What a cluster answers to the question for a group and version (`metav1.APIResourceList`).
pub(super) fn read(body: &[u8]) -> Option<Kinds> {
    #[derive(Deserialize)]
    struct List {
        resources: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        name: String,
        kind: String,
        namespaced: bool,
    }
    let list: List = serde_json::from_slice(body).ok()?;
    let mut kinds = Kinds::new();
    // A name with a slash is a subresource, whose kind may be that of another resource.
    for one in list.resources.into_iter().filter(|one| !one.name.contains('/')) {
        let resource = Resource { plural: one.name, namespaced: one.namespaced };
        kinds.entry(one.kind).or_insert(resource);
    }
    Some(kinds)
}

/// The address of a group and version.
pub(super) fn group_path(kind: &Kind) -> Result<String, EngineError> {
    let Kind { api_version, kind: name } = kind;
    if api_version.is_empty() || name.is_empty() {
        return Err(EngineError::Invalid(format!(
            "an object says its `apiVersion` and its `kind`, and these are `{api_version}` and `{name}`"
        )));
    }
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
            && part.bytes().any(|byte| byte != b'.')
    };
    match api_version.split_once('/') {
        None if part(api_version) => Ok(format!("/api/{api_version}")),
        Some((group, version)) if part(group) && part(version) => {
            Ok(format!("/apis/{group}/{version}"))
        }
        _ => Err(EngineError::Invalid(format!("`{api_version}` is no group and version"))),
    }
}

impl Resource {
    /// The address of its objects in a namespace, or in all of them when that is empty.
    pub(super) fn objects(&self, kind: &Kind, namespace: &str) -> Result<String, EngineError> {
        let mut path = group_path(kind)?;
        if !namespace.is_empty() {
            if !self.namespaced {
                return Err(EngineError::Invalid(format!(
                    "a {kind} lives in no namespace, and `{namespace}` is named"
                )));
            }
            path.push_str("/namespaces/");
            path.push_str(&word("namespace", namespace)?);
        }
        path.push('/');
        path.push_str(&self.plural);
        Ok(path)
    }

    /// The address where an object is made.
    pub(super) fn home(&self, kind: &Kind, namespace: &str) -> Result<String, EngineError> {
        if self.namespaced && namespace.is_empty() {
            return Err(EngineError::Invalid(format!(
                "a {kind} lives in a namespace, and none is named"
            )));
        }
        self.objects(kind, namespace)
    }

    /// The address of an object, or of a subresource of it.
    pub(super) fn object(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
    ) -> Result<String, EngineError> {
        let mut path = self.home(kind, namespace)?;
        path.push('/');
        path.push_str(&word("name", name)?);
        if !subresource.is_empty() {
            path.push('/');
            path.push_str(&word("subresource", subresource)?);
        }
        Ok(path)
    }
}

/// The address of a pod, or of a subresource of it.
pub(super) fn pod(namespace: &str, pod: &str, subresource: &str) -> Result<String, EngineError> {
    let pods = Resource { plural: "pods".to_owned(), namespaced: true };
    pods.object(&Kind::new("v1", "Pod"), namespace, pod, subresource)
}

/// A part of an address, as Kubernetes checks it (`IsValidPathSegmentName`).
fn word(what: &str, text: &str) -> Result<String, EngineError> {
    if text.is_empty() {
        return Err(EngineError::Invalid(format!("no {what} is given")));
    }
    if matches!(text, "." | "..") || text.contains(['/', '%']) {
        return Err(EngineError::Invalid(format!("`{text}` is no {what} of an object")));
    }
    let mut encoded = String::with_capacity(text.len());
    encode(text, &mut encoded);
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(namespaced: bool) -> Resource {
        Resource { plural: "things".to_owned(), namespaced }
    }

    #[test]
    fn a_kind_is_where_its_cluster_says() {
        let body = br#"{"kind": "APIResourceList", "resources": [
            {"name": "deployments/status", "kind": "Deployment", "namespaced": true},
            {"name": "deployments", "kind": "Deployment", "namespaced": true, "verbs": []},
            {"name": "nodes", "singularName": "node", "kind": "Node", "namespaced": false},
            {"name": "deployments/scale", "kind": "Scale", "group": "autoscaling", "namespaced": true}
        ]}"#;
        let kinds = read(body).unwrap();
        assert_eq!(kinds.keys().collect::<Vec<_>>(), ["Deployment", "Node"]);
        assert_eq!(kinds["Deployment"].plural, "deployments");
        assert!(!kinds["Node"].namespaced);
        assert_eq!(read(b"404 page not found"), None);
    }

    #[test]
    fn an_object_has_an_address() {
        let (core, apps) = (Kind::new("v1", "Thing"), Kind::new("apps.example/v1beta1", "Thing"));
        let (inside, outside) = (resource(true), resource(false));
        for (address, expected) in [
            (inside.objects(&core, ""), "/api/v1/things"),
            (inside.objects(&core, "shop"), "/api/v1/namespaces/shop/things"),
            (outside.object(&core, "", "a", ""), "/api/v1/things/a"),
            (
                inside.object(&apps, "shop", "a", "status"),
                "/apis/apps.example/v1beta1/namespaces/shop/things/a/status",
            ),
            // Roles have such names.
            (outside.object(&core, "", "system:node?", ""), "/api/v1/things/system%3Anode%3F"),
            (pod("shop", "a", "log"), "/api/v1/namespaces/shop/pods/a/log"),
        ] {
            assert_eq!(address.unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let (core, inside, outside) = (Kind::new("v1", "Thing"), resource(true), resource(false));
        for (address, why) in [
            (inside.home(&core, ""), "a Thing lives in a namespace, and none is named"),
            (outside.home(&core, "shop"), "a Thing lives in no namespace, and `shop` is named"),
            (outside.objects(&core, "shop"), "lives in no namespace"),
            (inside.object(&core, "shop", "", ""), "no name is given"),
            (inside.object(&core, "shop", "..", ""), "`..` is no name"),
            (inside.object(&core, "a/b", "a", ""), "`a/b` is no namespace"),
            (inside.object(&core, "shop", "a%2fb", ""), "`a%2fb` is no name"),
            (inside.object(&core, "shop", "a", "../b"), "`../b` is no subresource"),
            (pod("", "a", "log"), "a Pod lives in a namespace"),
            (group_path(&Kind::new("", "Thing")), "its `apiVersion`"),
            (group_path(&Kind::new("v1", "")), "its `kind`"),
            (group_path(&Kind::new("../v1", "Thing")), "no group and version"),
            (group_path(&Kind::new("a/b/c", "Thing")), "no group and version"),
            (group_path(&Kind::new("apps/", "Thing")), "no group and version"),
            (group_path(&Kind::new("v1?", "Thing")), "no group and version"),
        ] {
            let error = address.unwrap_err();
            assert_eq!(error.kind(), "invalid");
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
