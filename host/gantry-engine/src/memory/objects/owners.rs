//! Who has which fields of an object, and what a change makes of it (`merge/update.go` of structured-merge-diff, `managedfields` of apimachinery).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::EngineError;
use crate::cluster::Result;
use crate::managed::typed::{compared, merged};
use crate::managed::{Element, FieldSet, without};

/// Somebody who changes objects, in one way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    /// By apply, or by any other change.
    pub(super) applies: bool,
    pub(super) name: String,
    /// The version by which it speaks of the object; empty for those who apply.
    api_version: String,
    pub(super) subresource: String,
}

/// What one has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Share {
    fields: FieldSet,
    api_version: String,
    time: String,
}

/// Who has which fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owners {
    shares: BTreeMap<Manager, Share>,
}

impl Manager {
    pub(super) fn applying(name: &str) -> Self {
        Self {
            applies: true,
            name: name.to_owned(),
            api_version: String::new(),
            subresource: String::new(),
        }
    }

    pub(super) fn updating(name: &str, api_version: &str, subresource: &str) -> Self {
        Self {
            applies: false,
            name: name.to_owned(),
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

/// As conflicts name it.
impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if !self.applies {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

impl Owners {
    /// Those that an object tells of.
    pub(super) fn of(object: &Value) -> Self {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let shares = entries.into_iter().flatten().filter_map(|entry| {
            let word =
                |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let applies = word("operation") == "Apply";
            let manager = Manager {
                applies,
                name: word("manager"),
                api_version: if applies { String::new() } else { word("apiVersion") },
                subresource: word("subresource"),
            };
            let fields = FieldSet::parse(entry.get("fieldsV1")?)?;
            Some((manager, Share { fields, api_version: word("apiVersion"), time: word("time") }))
        });
        Self { shares: shares.collect() }
    }

    /// Writes them down: those who apply first, and then who came first.
    pub(super) fn to_value(&self) -> Value {
        let mut shares: Vec<_> = self.shares.iter().collect();
        shares.sort_by_key(|(manager, share)| (!manager.applies, &share.time, &manager.name));
        let entries = shares.into_iter().map(|(manager, share)| {
            let mut entry = json!({
                "manager": manager.name,
                "operation": if manager.applies { "Apply" } else { "Update" },
                "apiVersion": share.api_version,
                "time": share.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": share.fields.to_fields(),
            });
            if let Some(map) = entry.as_object_mut()
                && !manager.subresource.is_empty()
            {
                map.insert("subresource".to_owned(), manager.subresource.clone().into());
            }
            entry
        });
        Value::Array(entries.collect())
    }

    /// Whether somebody has a field.
    pub(super) fn has(&self, path: &[&str]) -> bool {
        let mut field = FieldSet::default();
        field.insert(
            &path.iter().map(|name| Element::Field((*name).to_owned())).collect::<Vec<_>>(),
        );
        self.shares.values().any(|share| !share.fields.intersection(&field).is_empty())
    }

    /// Takes note of a change that is no apply. What it changes becomes its own alone.
    pub(super) fn update(
        &mut self,
        before: &Value,
        after: &Value,
        manager: Manager,
        scope: Scope,
        now: &str,
    ) {
        let told = compared(before, after);
        let (added, changed, removed) =
            (scope.of(&told.added), scope.of(&told.changed), scope.of(&told.removed));
        let taken = added.union(&changed);
        let before = self.shares.get(&manager).cloned();
        for (other, share) in &mut self.shares {
            if *other != manager {
                share.fields = share.fields.difference(&taken).difference(&removed);
            }
        }
        let had = before.as_ref().map(|share| share.fields.clone()).unwrap_or_default();
        let fields = scope.of(&had.difference(&removed).union(&taken));
        let api_version = manager.api_version.clone();
        self.give(manager, fields, before, &api_version, now);
    }

    /// Takes note of an apply, and gives the object that comes of it.
    ///
    /// # Errors
    /// `conflict` when it would change what is somebody else's.
    pub(super) fn apply(
        &mut self,
        live: &Value,
        config: &Value,
        name: &str,
        scope: Scope,
        now: &str,
    ) -> Result<Value> {
        let manager = Manager::applying(name);
        let api_version =
            config.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
        let before = self.shares.get(&manager).cloned();
        let last = before.as_ref().map(|share| share.fields.clone()).unwrap_or_default();
        let fields = scope.of(&FieldSet::of(config));
        self.give(manager.clone(), fields, before, &api_version, now);
        let object = self.pruned(&merged(live, config)?, &last);

        let told = compared(live, &object);
        let taken = scope.of(&told.added.union(&told.changed));
        let removed = scope.of(&told.removed);
        let mut conflicts = Vec::new();
        for (other, share) in &mut self.shares {
            if *other == manager {
                continue;
            }
            let fields = share.fields.intersection(&taken);
            conflicts.extend(fields.paths().into_iter().map(|path| (other.clone(), path)));
            share.fields = share.fields.difference(&removed);
        }
        if !conflicts.is_empty() {
            return Err(EngineError::Conflict(told_of(&conflicts)));
        }
        self.shares.retain(|_, share| !share.fields.is_empty());
        Ok(object)
    }

    fn give(
        &mut self,
        manager: Manager,
        fields: FieldSet,
        before: Option<Share>,
        api_version: &str,
        now: &str,
    ) {
        let time = match before {
            Some(before) if before.fields == fields && before.api_version == api_version => {
                before.time
            }
            Some(_) | None => now.to_owned(),
        };
        let share = Share { fields, api_version: api_version.to_owned(), time };
        self.shares.insert(manager, share);
        self.shares.retain(|_, share| !share.fields.is_empty());
    }

    /// What was applied the last time, and is neither applied now nor anybody's, goes.
    fn pruned(&self, merged: &Value, last: &FieldSet) -> Value {
        if last.is_empty() {
            return merged.clone();
        }
        let last = last.with_ways();
        let pruned = FieldSet::of(&without(merged, &last)).with_ways();
        let all = FieldSet::of(merged).with_ways();
        let everybody = self
            .shares
            .values()
            .fold(FieldSet::default(), |all, share| all.union(&share.fields))
            .with_ways();
        // What went with the fields, but belongs to somebody, comes back.
        let pruned = without(merged, &all.difference(&pruned.union(&everybody)));
        // And so does what went with them and was never ours.
        let pruned = FieldSet::of(&pruned).with_ways();
        without(merged, &all.difference(&pruned).intersection(&last))
    }
}

/// Which fields a change can be about at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All.
    All,
    /// All but the status, which is a subresource.
    AllButStatus,
    /// The status alone.
    Status,
}

impl Scope {
    fn of(self, fields: &FieldSet) -> FieldSet {
        let path = |path: &[&str]| {
            path.iter().map(|name| Element::Field((*name).to_owned())).collect::<Vec<_>>()
        };
        let mut status = FieldSet::default();
        status.insert(&path(&["status"]));
        // `stripSet` of `managedfields/internal/stripmeta.go`, whose members alone go.
        let mut stripped = FieldSet::default();
        for name in ["apiVersion", "kind", "metadata"] {
            stripped.insert(&path(&[name]));
        }
        for name in [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "generation",
            "managedFields",
            "resourceVersion",
        ] {
            stripped.insert(&path(&["metadata", name]));
        }
        let fields = fields.difference(&stripped);
        match self {
            Self::All => fields,
            Self::AllButStatus => fields.outside(&status),
            Self::Status => fields.inside(&status),
        }
    }
}

/// `getConflictMessage` of `managedfields/internal/conflict.go`.
fn told_of(conflicts: &[(Manager, Vec<Element>)]) -> String {
    let spelled = |path: &[Element]| path.iter().map(ToString::to_string).collect::<String>();
    if let [(manager, path)] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {manager}: {}", spelled(path));
    }
    let mut by_manager: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (manager, path) in conflicts {
        by_manager.entry(manager.to_string()).or_default().push(format!("- {}", spelled(path)));
    }
    let lines: Vec<String> = by_manager
        .into_iter()
        .flat_map(|(manager, paths)| {
            std::iter::once(format!("conflicts with {manager}:")).chain(paths)
        })
        .collect();
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: &Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
    }

    fn nothing() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}})
    }

    /// Two managers apply in turns: who, what, and what comes of it.
    fn turns(turns: &[(&str, Value, std::result::Result<Value, &str>)]) {
        let (mut live, mut owners) = (nothing(), Owners::default());
        for (number, (who, spec, wanted)) in turns.iter().enumerate() {
            let mut next = owners.clone();
            match next.apply(&live, &object(spec), who, Scope::AllButStatus, "now") {
                Ok(object) => {
                    assert_eq!(Ok(object["spec"].clone()), *wanted, "turn {number}");
                    (live, owners) = (object, next);
                }
                Err(error) => {
                    assert_eq!(error.to_string(), wanted.clone().unwrap_err(), "turn {number}")
                }
            }
        }
    }

    #[test]
    fn what_an_apply_no_longer_says_goes_unless_it_is_somebody_elses() {
        turns(&[
            (
                "a",
                json!({"replicas": 1, "paused": true}),
                Ok(json!({"replicas": 1, "paused": true})),
            ),
            ("a", json!({"replicas": 2}), Ok(json!({"replicas": 2}))),
            (
                "b",
                json!({"replicas": 2, "minReadySeconds": 3}),
                Ok(json!({"replicas": 2, "minReadySeconds": 3})),
            ),
            // Shared: the first says no more of it, and the other still does.
            (
                "a",
                json!({"paused": true}),
                Ok(json!({"replicas": 2, "minReadySeconds": 3, "paused": true})),
            ),
            ("b", json!({"minReadySeconds": 3}), Ok(json!({"minReadySeconds": 3, "paused": true}))),
        ]);
    }

    #[test]
    fn items_of_lists_come_and_go_with_who_applies_them() {
        let containers =
            |containers: Value| json!({"template": {"spec": {"containers": containers}}});
        turns(&[
            (
                "a",
                containers(json!([{"name": "x", "image": "1"}, {"name": "y", "image": "1"}])),
                Ok(containers(json!([{"name": "x", "image": "1"}, {"name": "y", "image": "1"}]))),
            ),
            (
                "b",
                containers(json!([{"name": "x", "tty": true}])),
                Ok(containers(
                    json!([{"name": "x", "image": "1", "tty": true}, {"name": "y", "image": "1"}]),
                )),
            ),
            (
                "a",
                containers(json!([{"name": "y", "image": "2"}])),
                Ok(containers(json!([{"name": "x", "tty": true}, {"name": "y", "image": "2"}]))),
            ),
            (
                "b",
                json!({"paused": true}),
                Ok(
                    json!({"template": {"spec": {"containers": [{"name": "y", "image": "2"}]}}, "paused": true}),
                ),
            ),
        ]);
    }

    #[test]
    fn a_field_of_another_is_a_conflict_in_the_servers_words() {
        turns(&[
            (
                "kubectl",
                json!({"replicas": 1, "paused": true}),
                Ok(json!({"replicas": 1, "paused": true})),
            ),
            (
                "gantry",
                json!({"replicas": 2}),
                Err("Apply failed with 1 conflict: conflict with \"kubectl\": .spec.replicas"),
            ),
            (
                "gantry",
                json!({"replicas": 2, "paused": false}),
                Err(
                    "Apply failed with 2 conflicts: conflicts with \"kubectl\":\n- .spec.paused\n- .spec.replicas",
                ),
            ),
            ("gantry", json!({"replicas": 1}), Ok(json!({"replicas": 1, "paused": true}))),
        ]);
        let mut owners = Owners::default();
        let live =
            object(&json!({"template": {"spec": {"containers": [{"name": "web", "image": "1"}]}}}));
        let manager = Manager::updating("kubectl-set", "apps/v1", "");
        owners.update(&nothing(), &live, manager, Scope::AllButStatus, "now");
        let config =
            object(&json!({"template": {"spec": {"containers": [{"name": "web", "image": "2"}]}}}));
        let told = owners.apply(&live, &config, "gantry", Scope::AllButStatus, "now").unwrap_err();
        assert_eq!(
            told.to_string(),
            "Apply failed with 1 conflict: conflict with \"kubectl-set\" using apps/v1: .spec.template.spec.containers[name=\"web\"].image"
        );
        let scaled = Manager::updating("hpa", "apps/v1", "scale");
        assert_eq!(scaled.to_string(), "\"hpa\" with subresource \"scale\" using apps/v1");
    }

    #[test]
    fn an_update_takes_what_it_changes() {
        let mut owners = Owners::default();
        let live = owners
            .apply(
                &nothing(),
                &object(&json!({"replicas": 1, "paused": true})),
                "gantry",
                Scope::AllButStatus,
                "1",
            )
            .unwrap();
        let mut after = live.clone();
        after["spec"] = json!({"replicas": 3, "paused": true});
        after["status"] = json!({"replicas": 3});
        owners.update(
            &live,
            &after,
            Manager::updating("hpa", "apps/v1", ""),
            Scope::AllButStatus,
            "2",
        );
        let told = owners.to_value();
        assert_eq!(told[0]["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
        assert_eq!(told[1]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
        assert_eq!(told[1]["manager"], "hpa");
        let mut with = after.clone();
        with["metadata"]["managedFields"] = told.clone();
        assert_eq!(Owners::of(&with).to_value(), told);
    }
}
