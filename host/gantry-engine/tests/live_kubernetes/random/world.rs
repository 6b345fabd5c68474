//! A cluster under the same calls as another, and what it answers without what is its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_engine::call::cluster::{DeleteOptions, Kind, Patch, Selection};
use gantry_engine::cluster::Result;
use gantry_engine::{Cluster, EngineError};
use serde_json::{Value, json};

use super::calls::{Act, Body, Change, Labels, SORTS, Sort, Wanted, Which};

/// The label of what a sequence makes, which nothing of the cluster's own has.
pub(super) const MARK: &str = "gantry.test/random";

/// An answer without what is a cluster's own.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Done,
    Object(Box<Value>),
    Pages(Vec<Vec<Value>>),
    Refused(&'static str, Vec<String>),
}

/// A cluster under the same calls as another.
pub(super) struct World {
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) namespace: String,
    /// In the order in which they were met.
    pub(super) uids: Vec<String>,
    /// The versions that an object had, oldest first.
    pub(super) versions: BTreeMap<String, Vec<String>>,
}

impl World {
    pub(super) fn new(cluster: Arc<dyn Cluster>, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Self { cluster, namespace, uids: Vec::new(), versions: BTreeMap::new() }
    }

    pub(super) async fn begin(&self) {
        let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": {MARK: "space"}}});
        self.cluster.create(&space, false).await.expect("a namespace is made");
    }

    pub(super) fn name(which: Which) -> String {
        format!("o{}", which.name)
    }

    fn object(&self, which: Which, body: &Body) -> Value {
        let mut metadata = json!({"name": Self::name(which), "namespace": self.namespace, "labels": {MARK: "yes"}});
        if let Some(color) = body.color {
            metadata["labels"]["color"] = format!("c{color}").into();
        }
        if let Some(note) = body.note {
            metadata["annotations"] = json!({"gantry.test/note": format!("n{note}")});
        }
        if body.held {
            metadata["finalizers"] = json!(["gantry.test/hold"]);
        }
        if let Some((owner, waits)) = body.owner {
            // The kind of an owner is the one it has, and uids are of ConfigMaps alone; one that never was is a ConfigMap too.
            let uid = self.uids.get(owner).cloned();
            let uid = uid.unwrap_or_else(|| "00000000-0000-4000-8000-000000000000".to_owned());
            metadata["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": self.owner(&uid), "uid": uid, "blockOwnerDeletion": waits}]);
        }
        let kind = which.sort.kind();
        let mut object =
            json!({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata});
        object.as_object_mut().unwrap().extend(which.sort.spec(body));
        object
    }

    /// The name of a ConfigMap that was met.
    fn owner(&self, uid: &str) -> String {
        let name = self.versions.get(uid).and_then(|told| told.first());
        name.cloned().unwrap_or_else(|| "never".to_owned())
    }

    pub(super) async fn act(&mut self, act: &Act) -> Answer {
        self.answer(act).await.unwrap_or_else(|error| {
            if std::env::var_os("RANDOM_TRACE").is_some() {
                println!("    {error}");
            }
            let named = named(&error).iter().map(|field| self.plain(field)).collect();
            Answer::Refused(error.kind(), named)
        })
    }

    /// A text with the numbers of uids in their place.
    fn plain(&self, text: &str) -> String {
        let uids = self.uids.iter().enumerate();
        uids.fold(text.to_owned(), |text, (number, uid)| {
            text.replace(uid, &format!("uid {number}"))
        })
    }

    async fn look(&self, which: Which) -> Option<Value> {
        self.cluster.get(&which.sort.kind(), &self.namespace, &Self::name(which)).await.ok()
    }

    /// A word of an object's metadata, or one that no object has.
    async fn meant(&self, which: Which, wanted: Wanted, key: &str) -> String {
        match wanted {
            Wanted::Any => String::new(),
            Wanted::This => {
                let object = self.look(which).await.unwrap_or_default();
                object["metadata"][key].as_str().unwrap_or_default().to_owned()
            }
            Wanted::Other if key == "uid" => "00000000-0000-4000-8000-000000000001".to_owned(),
            Wanted::Other => "1".to_owned(),
        }
    }

    async fn answer(&mut self, act: &Act) -> Result<Answer> {
        let cluster = Arc::clone(&self.cluster);
        Ok(match act {
            Act::Create(which, body, dry) => {
                let object = cluster.create(&self.object(*which, body), *dry).await?;
                self.object_of(object)
            }
            Act::Apply(which, body, dry, wanted) => {
                let mut object = self.object(*which, body);
                let uid = self.meant(*which, *wanted, "uid").await;
                if !uid.is_empty() {
                    object["metadata"]["uid"] = uid.into();
                }
                let object = cluster.apply(&object, *dry).await?;
                self.object_of(object)
            }
            Act::Get(which) => {
                let object =
                    cluster.get(&which.sort.kind(), &self.namespace, &Self::name(*which)).await?;
                self.object_of(object)
            }
            Act::List(sort, labels, field) => {
                let selector = match labels {
                    Labels::All => String::new(),
                    Labels::Is(color) => format!(",color=c{color}"),
                    Labels::Not(color) => format!(",color!=c{color}"),
                    Labels::In => ",color in (c0, c1)".to_owned(),
                    Labels::NotIn => ",color notin (c0,c2)".to_owned(),
                    Labels::Has => ",color".to_owned(),
                    Labels::HasNot => ",!color".to_owned(),
                    Labels::Wrong => ",color in c1".to_owned(),
                };
                let fields = match (field, sort) {
                    (false, _) => "",
                    // Pods that are to go fail some time or other, as `differences` says.
                    (true, Sort::Pod) => "status.phase!=Running,spec.nodeName=",
                    (true, Sort::Secret) => "type=Opaque",
                    (true, Sort::ConfigMap | Sort::Service | Sort::Deployment) => {
                        "metadata.name!=o1"
                    }
                };
                let selection = Selection {
                    namespace: self.namespace.clone(),
                    labels: format!("{MARK}=yes{selector}"),
                    fields: fields.to_owned(),
                };
                let (mut pages, mut after) = (Vec::new(), String::new());
                loop {
                    let page = cluster.list(&sort.kind(), &selection, 1, &after).await?;
                    pages.push(page.items.into_iter().map(|item| self.told(item)).collect());
                    after = page.next;
                    if after.is_empty() {
                        break;
                    }
                }
                Answer::Pages(pages)
            }
            Act::Patch(which, change, dry) => {
                let (subresource, patch) = self.patch(*which, change).await;
                let name = Self::name(*which);
                let object = cluster
                    .patch(&which.sort.kind(), &self.namespace, &name, subresource, &patch, *dry)
                    .await?;
                self.object_of(object)
            }
            Act::Delete(which, propagation, uid, version, dry) => {
                let versioned = which.sort == Sort::ConfigMap;
                let options = DeleteOptions {
                    propagation: *propagation,
                    grace_seconds: None,
                    uid: self.meant(*which, *uid, "uid").await,
                    // Of the others controllers write the status.
                    resource_version: if versioned {
                        self.meant(*which, *version, "resourceVersion").await
                    } else {
                        String::new()
                    },
                    dry_run: *dry,
                };
                cluster
                    .delete(&which.sort.kind(), &self.namespace, &Self::name(*which), &options)
                    .await?;
                Answer::Done
            }
            Act::Absent => {
                cluster.get(&Kind::new("acme.example/v1", "Odd"), &self.namespace, "o0").await?;
                Answer::Done
            }
        })
    }

    async fn patch(&self, which: Which, change: &Change) -> (&'static str, Patch) {
        let changed = |body: &Body| {
            let mut object = self.object(which, body);
            let map = object.as_object_mut().unwrap();
            map.remove("apiVersion");
            map.remove("kind");
            let metadata = map["metadata"].as_object_mut().unwrap();
            metadata.remove("name");
            metadata.remove("namespace");
            object
        };
        match change {
            Change::Merge(body, wanted) => {
                let mut patch = changed(body);
                // What is not said goes.
                if body.color.is_none() {
                    patch["metadata"]["labels"]["color"] = Value::Null;
                }
                if body.note.is_none() {
                    patch["metadata"]["annotations"] = Value::Null;
                }
                if which.sort == Sort::ConfigMap {
                    let version = self.meant(which, *wanted, "resourceVersion").await;
                    if !version.is_empty() {
                        patch["metadata"]["resourceVersion"] = version.into();
                    }
                    if body.data[0].is_none() {
                        patch["data"]["a"] = Value::Null;
                    }
                }
                ("", Patch::Merge(patch))
            }
            Change::Strategic(body) => ("", Patch::Strategic(changed(body))),
            Change::Json(number) => {
                let steps = match number {
                    0 => json!([{"op": "add", "path": "/metadata/labels/color", "value": "c1"}]),
                    1 => json!([{"op": "remove", "path": "/metadata/labels/color"}]),
                    2 => {
                        json!([{"op": "replace", "path": "/metadata/annotations/gantry.test~1note", "value": "json"}])
                    }
                    3 => {
                        json!([{"op": "test", "path": "/metadata/labels/color", "value": "c1"}, {"op": "add", "path": "/metadata/annotations", "value": {"x": "y"}}])
                    }
                    4 => {
                        json!([{"op": "copy", "from": "/metadata/name", "path": "/metadata/labels/named"}])
                    }
                    _ => {
                        json!([{"op": "move", "from": "/metadata/labels/color", "path": "/metadata/labels/moved"}])
                    }
                };
                ("", Patch::Json(steps))
            }
            Change::Status(number) => {
                let status = match which.sort {
                    Sort::Deployment => {
                        json!({"conditions": [{"type": format!("T{number}"), "status": "True"}]})
                    }
                    Sort::Pod => {
                        json!({"message": format!("m{number}"), "conditions": [{"type": "gantry.test/odd", "status": "False"}]})
                    }
                    Sort::Service => {
                        json!({"conditions": [{"type": format!("T{number}"), "status": "True", "reason": "r", "message": "m", "lastTransitionTime": "2024-01-01T00:00:00Z"}]})
                    }
                    Sort::ConfigMap | Sort::Secret => json!({}),
                };
                let patch = Patch::Merge(json!({"status": status}));
                // A field of a kind that has none is kept in memory, and dropped by a real server.
                let has = !matches!(which.sort, Sort::ConfigMap | Sort::Secret);
                (if *number == 0 && has { "" } else { "status" }, patch)
            }
            Change::Scale(number) => {
                // Of a scale that leaves the number as it is, an API server makes that the number is nobody's who had it by an update: `ToParent` of its `scalehandler.go` looks for
                // managers by the version of the scale.
                let is = self.look(which).await.unwrap_or_default();
                let same = is["spec"]["replicas"] == *number;
                let number = if same { number + 1 } else { *number };
                ("scale", Patch::Merge(json!({"spec": {"replicas": number}})))
            }
            Change::Release => ("", Patch::Merge(json!({"metadata": {"finalizers": null}}))),
            Change::Name => ("", Patch::Merge(json!({"metadata": {"name": "other"}}))),
            Change::Odd => ("", Patch::Merge(json!({"metadata": {"labels": {"-": "a b"}}}))),
        }
    }

    fn object_of(&mut self, object: Value) -> Answer {
        Answer::Object(Box::new(self.told(object)))
    }

    /// An object without what is this cluster's own.
    fn told(&mut self, mut object: Value) -> Value {
        let kind = Kind::of(&object);
        let metadata = object["metadata"].as_object_mut().unwrap();
        if let Some(Value::String(uid)) = metadata.get("uid").cloned() {
            // A dry run has a uid that nothing has after it.
            let stays = metadata.contains_key("resourceVersion");
            if kind.kind == "ConfigMap" && stays && !self.uids.contains(&uid) {
                self.uids.push(uid.clone());
                let name = metadata["name"].as_str().unwrap_or_default().to_owned();
                self.versions.insert(uid.clone(), vec![name]);
            }
            metadata.insert("uid".to_owned(), json!("uid"));
        }
        for key in ["creationTimestamp", "deletionTimestamp", "resourceVersion", "namespace"] {
            if metadata.get(key).is_some_and(|value| !value.is_null()) {
                metadata.insert(key.to_owned(), json!("set"));
            }
        }
        for owner in
            metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten()
        {
            let number = self.uids.iter().position(|uid| owner["uid"] == *uid);
            owner["uid"] = json!(format!("{number:?}"));
        }
        if let Some(entries) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
            // Those of the cluster's own controllers are not about the calls.
            entries.retain(|entry| entry["manager"] == "gantry");
            for entry in entries.iter_mut() {
                entry["time"] = json!("set");
            }
            entries.sort_by_key(|entry| format!("{} {}", entry["operation"], entry["subresource"]));
            // Owners are told apart by their uids.
            *entries = serde_json::from_str(&self.plain(&json!(entries).to_string())).unwrap();
        }
        object
    }

    /// The objects of a sequence that are there, and those that are to go.
    pub(super) async fn view(&self) -> BTreeMap<String, Vec<String>> {
        let mut view = BTreeMap::new();
        for sort in SORTS {
            let selection = Selection {
                namespace: self.namespace.clone(),
                labels: format!("{MARK}=yes"),
                ..Selection::default()
            };
            let page = self.cluster.list(&sort.kind(), &selection, 0, "").await.expect("a list");
            for item in page.items {
                let metadata = &item["metadata"];
                let mut told = vec![(!metadata["deletionTimestamp"].is_null()).to_string()];
                for finalizer in metadata["finalizers"].as_array().into_iter().flatten() {
                    told.push(finalizer.to_string());
                }
                for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
                    told.push(format!(
                        "{:?}",
                        self.uids.iter().position(|uid| owner["uid"] == *uid)
                    ));
                }
                view.insert(format!("{sort:?} {}", metadata["name"]), told);
            }
        }
        view
    }
}

/// What an error names: the fields that are wrong, or those that somebody else has.
fn named(error: &EngineError) -> Vec<String> {
    let mut fields: Vec<String> = match error {
        EngineError::InvalidObject(object) => {
            object.causes.iter().map(|cause| format!("{} {}", cause.field, cause.reason)).collect()
        }
        EngineError::Conflict(text) => {
            let ends = |letter: char| letter.is_whitespace() || letter == '`';
            let words = text.split(ends).map(|word| word.trim_end_matches([',', ':']));
            words.filter(|word| word.starts_with('.')).map(ToOwned::to_owned).collect()
        }
        _ => Vec::new(),
    };
    fields.sort();
    fields.dedup();
    fields
}
