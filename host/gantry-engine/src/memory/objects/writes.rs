//! How objects come to be and change: create, apply, patch, and what a test does as somebody else.

use serde_json::{Map, Value, json};

use super::kinds::Known;
use super::machine::{Key, Machine, absent, bump, conflict, items, set, word};
use super::owners::{Manager, Owners, Scope};
use super::patches::patched;
use super::rules::{self, Faults};
use super::{defaults, garbage};
use crate::EngineError;
use crate::call::cluster::{Kind, Patch};
use crate::cluster::Result;

/// What the API server alone says of an object.
const SERVERS: [&str; 7] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "uid",
];

const MOVED_ON: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

fn uid_differs(wanted: &str, is: &str) -> String {
    format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {is}")
}

impl Machine {
    pub(super) fn create(&mut self, object: &Value, manager: &str, dry_run: bool) -> Result<Value> {
        let kind = Kind::of(object);
        let mut object = object.clone();
        let generated = word(&object, "generateName").to_owned();
        if word(&object, "name").is_empty() && !generated.is_empty() {
            let base: String = generated.chars().take(58).collect();
            let name = format!("{base}{}", self.suffix());
            set(&mut object, "name", Some(name.into()));
        }
        let (known, key) = self.place(&kind, word(&object, "namespace"), word(&object, "name"))?;
        if !word(&object, "resourceVersion").is_empty() {
            return Err(EngineError::Invalid(
                "resourceVersion should not be set on objects to be created".to_owned(),
            ));
        }
        self.has_room(&known, &key)?;
        for key in SERVERS {
            set(&mut object, key, None);
        }
        let scope = if known.status { Scope::AllButStatus } else { Scope::All };
        if known.status {
            remove_status(&mut object);
        }
        defaults::fill(&known, &mut object);
        defaults::tidy(&known, &mut object);
        let mut owners = Owners::default();
        let updating = Manager::updating(manager, &kind.api_version, "");
        owners.update(&blank(&object), &object, updating, scope, &self.now());
        self.begin(&known, key, object, &owners, dry_run)
    }

    /// Whether something can be made in a namespace.
    fn has_room(&self, known: &Known, key: &Key) -> Result<()> {
        if !known.namespaced {
            return Ok(());
        }
        let space = Key {
            kind: "Namespace".to_owned(),
            namespace: String::new(),
            name: key.namespace.clone(),
        };
        match self.objects.get(&space) {
            None => Err(EngineError::NotFound(format!("namespaces {:?} not found", key.namespace))),
            Some(space) if !word(space, "deletionTimestamp").is_empty() => {
                Err(EngineError::Forbidden(format!(
                    "{} {:?} is forbidden: unable to create new content in namespace {} because it is being terminated",
                    known.resource(),
                    key.name,
                    key.namespace
                )))
            }
            Some(_) => Ok(()),
        }
    }

    /// Puts an object where none was.
    fn begin(
        &mut self,
        known: &Known,
        key: Key,
        mut object: Value,
        owners: &Owners,
        dry_run: bool,
    ) -> Result<Value> {
        let mut faults = Faults::default();
        rules::check(known, &object, &mut faults);
        faults.end(&known.kind, &key.name)?;
        if self.objects.contains_key(&key) {
            return Err(EngineError::Conflict(format!(
                "{} {:?} already exists",
                known.resource(),
                key.name
            )));
        }
        let uid = self.uid();
        set(&mut object, "uid", Some(uid.into()));
        set(&mut object, "creationTimestamp", Some(self.now().into()));
        if known.counts {
            set(&mut object, "generation", Some(1.into()));
        }
        set(&mut object, "managedFields", Some(owners.to_value()));
        let [number, _] = self.number();
        defaults::begin(known, &mut object, number);
        if dry_run {
            return Ok(object);
        }
        let object = self.put(key, object);
        garbage::settle(self);
        Ok(object)
    }

    pub(super) fn apply(&mut self, object: &Value, manager: &str, dry_run: bool) -> Result<Value> {
        let kind = Kind::of(object);
        let (known, key) = self.named(&kind, word(object, "namespace"), word(object, "name"))?;
        if !items(object, "/metadata/managedFields").is_empty() {
            return Err(EngineError::Invalid("metadata.managedFields must be nil".to_owned()));
        }
        let live = self.objects.get(&key).cloned();
        let mut config = object.clone();
        for key in SERVERS {
            set(&mut config, key, None);
        }
        let scope = if known.status { Scope::AllButStatus } else { Scope::All };
        if known.status {
            remove_status(&mut config);
        }
        let (uid, version) = (word(object, "uid"), word(object, "resourceVersion"));
        let Some(live) = live else {
            self.has_room(&known, &key)?;
            if !uid.is_empty() {
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                return Err(conflict(&known, &key.name, &why));
            }
            let mut empty = blank(&config);
            for (name, value) in [("name", &key.name), ("namespace", &key.namespace)] {
                if !value.is_empty() {
                    set(&mut empty, name, Some(value.clone().into()));
                }
            }
            let mut owners = Owners::default();
            let mut object = owners.apply(&empty, &config, manager, scope, &self.now())?;
            defaults::fill(&known, &mut object);
            defaults::tidy(&known, &mut object);
            return self.begin(&known, key, object, &owners, dry_run);
        };
        let mut owners = Owners::of(&live);
        let mut object = owners.apply(&live, &config, manager, scope, &self.now())?;
        if !version.is_empty() && version != word(&live, "resourceVersion") {
            return Err(conflict(&known, &key.name, MOVED_ON));
        }
        if !uid.is_empty() && uid != word(&live, "uid") {
            return Err(conflict(&known, &key.name, &uid_differs(uid, word(&live, "uid"))));
        }
        defaults::fill(&known, &mut object);
        self.go_on(&known, key, &live, object, &owners, dry_run)
    }

    /// Puts an object where one was.
    fn go_on(
        &mut self,
        known: &Known,
        key: Key,
        live: &Value,
        mut object: Value,
        owners: &Owners,
        dry_run: bool,
    ) -> Result<Value> {
        for name in SERVERS {
            set(&mut object, name, live.get("metadata").and_then(|of| of.get(name)).cloned());
        }
        defaults::tidy(known, &mut object);
        defaults::keep(known, live, &mut object);
        let mut faults = Faults::default();
        rules::check_change(known, live, &object, &mut faults);
        rules::check(known, &object, &mut faults);
        faults.end(&known.kind, &key.name)?;
        set(&mut object, "managedFields", Some(owners.to_value()));
        if object == *live {
            return Ok(object);
        }
        // A Deployment hands its annotations on to its ReplicaSets.
        let noted = known.kind.to_string() == "Deployment.apps"
            && live.pointer("/metadata/annotations") != object.pointer("/metadata/annotations");
        if known.counts && (noted || wanted(live) != wanted(&object)) {
            bump(&mut object);
        }
        if dry_run {
            return Ok(object);
        }
        let object = self.put(key, object);
        garbage::settle(self);
        Ok(object)
    }

    pub(super) fn patch(
        &mut self,
        kind: &Kind,
        (namespace, name): (&str, &str),
        subresource: &str,
        patch: &Patch,
        manager: &str,
        dry_run: bool,
    ) -> Result<Value> {
        let (known, key) = self.named(kind, namespace, name)?;
        let live = self.objects.get(&key).cloned().ok_or_else(|| absent(&known, name))?;
        if matches!(patch, Patch::Strategic(_)) && !known.built_in {
            return Err(EngineError::Invalid(format!(
                "the kind `{kind}` takes no strategic merge patches"
            )));
        }
        match subresource {
            odd if odd.contains(['/', '%']) => {
                Err(EngineError::Invalid(format!("`{odd}` is no subresource of an object")))
            }
            "" => {
                let after = patched(&live, patch)?;
                self.update(&known, key, &live, after, (manager, ""), dry_run)
            }
            "status" if known.status => {
                let after = patched(&live, patch)?;
                self.update(&known, key, &live, after, (manager, "status"), dry_run)
            }
            "scale" if known.scale => {
                let scale = patched(&scale_of(&live), patch)?;
                let mut after = live.clone();
                let version = word(&scale, "resourceVersion").to_owned();
                set(&mut after, "resourceVersion", Some(version.into()));
                if let Some(spec) = after.get_mut("spec").and_then(Value::as_object_mut) {
                    let replicas = scale.pointer("/spec/replicas").cloned();
                    spec.insert("replicas".to_owned(), replicas.unwrap_or_else(|| 0.into()));
                }
                let after = self.update(&known, key, &live, after, (manager, "scale"), dry_run)?;
                Ok(scale_of(&after))
            }
            other => Err(EngineError::NotFound(format!(
                "the kind `{kind}` has no subresource `{other}`"
            ))),
        }
    }

    /// Changes an object, or a subresource of it.
    fn update(
        &mut self,
        known: &Known,
        key: Key,
        live: &Value,
        mut after: Value,
        (manager, subresource): (&str, &str),
        dry_run: bool,
    ) -> Result<Value> {
        let name = &key.name;
        for (what, is) in [("name", name), ("namespace", &key.namespace)] {
            if word(&after, what) != is {
                return Err(EngineError::Invalid(format!(
                    "the {what} of the object ({}) does not match the {what} on the URL ({is})",
                    word(&after, what)
                )));
            }
        }
        if Kind::of(&after) != known.kind {
            return Err(EngineError::Invalid(format!(
                "the kind of the object ({}) does not match the expected kind ({})",
                Kind::of(&after),
                known.kind
            )));
        }
        let (uid, version) = (word(&after, "uid"), word(&after, "resourceVersion"));
        if !version.is_empty() && version != word(live, "resourceVersion") {
            return Err(conflict(known, name, MOVED_ON));
        }
        if !uid.is_empty() && uid != word(live, "uid") {
            return Err(conflict(known, name, &uid_differs(uid, word(live, "uid"))));
        }
        let scope = match subresource {
            "status" => {
                let status = after.get("status").cloned();
                after = live.clone();
                put_status(&mut after, status);
                Scope::Status
            }
            _ if known.status => {
                put_status(&mut after, live.get("status").cloned());
                Scope::AllButStatus
            }
            _ => Scope::All,
        };
        defaults::fill(known, &mut after);
        defaults::tidy(known, &mut after);
        let mut owners = Self::owners(live, &after, subresource);
        let updating = Manager::updating(manager, &known.kind.api_version, subresource);
        // Of what is nobody's no account is begun (`managedfields/internal/skipnonapplied.go`), and in a scale only the number of replicas can be somebody's.
        let told = match subresource {
            "scale" => owners.has(&["spec", "replicas"]),
            _ => owners != Owners::default(),
        };
        if told {
            let mut shown = after.clone();
            let replicas = shown.pointer("/spec/replicas").cloned();
            if subresource == "scale"
                && replicas == Some(0.into())
                && let Some(spec) = shown.get_mut("spec").and_then(Value::as_object_mut)
            {
                // A scale does not say that it is none.
                spec.remove("replicas");
            }
            owners.update(live, &shown, updating, scope, &self.now());
        }
        self.go_on(known, key, live, after, &owners, dry_run)
    }

    /// Who has which fields before a change: whoever changes an object may say so, and `[{}]` is that nobody has any (`decodeLiveOrNew` of `managedfields/fieldmanager.go`).
    fn owners(live: &Value, after: &Value, subresource: &str) -> Owners {
        let said = Owners::of(after);
        let nobodys = *items(after, "/metadata/managedFields") == [json!({})];
        let heeded = subresource.is_empty() && (nobodys || said != Owners::default());
        if heeded { said } else { Owners::of(live) }
    }

    /// Changes an object as somebody else: what is wanted of it, and its status.
    pub(super) fn edit(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        manager: &str,
        edit: impl FnOnce(&mut Value),
    ) -> Result<Value> {
        let (known, key) = self.named(kind, namespace, name)?;
        let live = self.objects.get(&key).cloned().ok_or_else(|| absent(&known, name))?;
        let mut after = live.clone();
        edit(&mut after);
        set(&mut after, "resourceVersion", None);
        let status = after.get("status").cloned();
        let told = self.update(&known, key.clone(), &live, after, (manager, ""), false)?;
        let live = match self.objects.get(&key) {
            Some(live) if known.status && live.get("status") != status.as_ref() => live.clone(),
            Some(_) | None => return Ok(told),
        };
        let mut after = live.clone();
        put_status(&mut after, status);
        self.update(&known, key, &live, after, (manager, "status"), false)
    }
}

fn remove_status(object: &mut Value) {
    put_status(object, None);
}

fn put_status(object: &mut Value, status: Option<Value>) {
    if let Some(map) = object.as_object_mut() {
        match status {
            Some(status) => drop(map.insert("status".to_owned(), status)),
            None => drop(map.remove("status")),
        }
    }
}

/// The part of an object that is wanted of it: what changes its generation when it changes.
fn wanted(object: &Value) -> Map<String, Value> {
    let fields = object.as_object().into_iter().flat_map(Map::iter);
    let fields = fields.filter(|(key, _)| *key != "metadata" && *key != "status");
    fields.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// An object of which nothing is known yet: the maps that every Go value of its type has, and that nobody owns therefore.
fn blank(like: &Value) -> Value {
    fn empty(like: &Value, names: &[&str]) -> Value {
        let has = |name: &&&str| like.get(**name).is_some();
        let fields = names.iter().filter(has).map(|name| {
            let like = like.get(*name).unwrap_or(&Value::Null);
            let value = match *name {
                "spec" => empty(
                    like,
                    &["template", "strategy", "updateStrategy", "containers", "jobTemplate"],
                ),
                "template" | "jobTemplate" => empty(like, &["metadata", "spec"]),
                "containers" => Value::Null,
                _ => json!({}),
            };
            ((*name).to_owned(), value)
        });
        Value::Object(fields.collect())
    }
    let mut blank = empty(like, &["metadata", "spec", "status"]);
    if let Some(map) = blank.as_object_mut() {
        for key in ["apiVersion", "kind"] {
            map.extend(like.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        map.entry("metadata").or_insert_with(|| json!({}));
    }
    blank
}

/// The number of replicas of an object as a subresource.
fn scale_of(object: &Value) -> Value {
    let mut metadata = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get("metadata").and_then(|of| of.get(key)) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    // As Go writes it: without what is zero, where it may be left out.
    let wanted = object.pointer("/spec/replicas").filter(|replicas| **replicas != 0);
    let spec: Map<_, _> =
        wanted.into_iter().map(|wanted| ("replicas".to_owned(), wanted.clone())).collect();
    let is = object.pointer("/status/replicas").cloned().unwrap_or_else(|| 0.into());
    let labels = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": metadata,
        "spec": spec,
        "status": {"replicas": is, "selector": selector.join(",")},
    })
}
