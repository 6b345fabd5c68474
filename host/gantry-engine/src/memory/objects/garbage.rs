//! How objects end, and what goes with them: deletion and eviction, finalizers, the garbage collector and the end of namespaces, done at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::machine::{Key, Machine, bump, conflict, items, runs, set, word};
use super::owners::{Manager, Owners, Scope};
use super::selectors::wanted_by;
use crate::EngineError;
use crate::call::cluster::{DeleteOptions, Kind, Propagation};
use crate::cluster::Result;

/// The finalizer of what goes after its dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of what leaves its dependents behind.
pub(super) const ORPHAN: &str = "orphan";

impl Machine {
    pub(super) fn delete(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<()> {
        let (known, key) = self.named(kind, namespace, name)?;
        let Some(live) = self.objects.get(&key).cloned() else { return Ok(()) };
        for (what, wanted, is) in [
            ("UID", &options.uid, word(&live, "uid")),
            ("ResourceVersion", &options.resource_version, word(&live, "resourceVersion")),
        ] {
            if !wanted.is_empty() && wanted != is {
                return Err(conflict(
                    &known,
                    name,
                    &format!(
                        "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}"
                    ),
                ));
            }
        }
        if options.dry_run {
            return Ok(());
        }
        self.mark(&key, options.propagation, options.grace_seconds);
        settle(self);
        Ok(())
    }

    /// Marks an object as one that is to go.
    pub(super) fn mark(&mut self, key: &Key, propagation: Propagation, grace: Option<u32>) {
        let Some(live) = self.objects.get(key).cloned() else { return };
        let mut object = live.clone();
        let own = live.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
        let lingers = self.pods_linger && key.kind == "Pod" && runs(&live) && grace != Some(0);
        let seconds = match (lingers, grace) {
            (false, _) => 0,
            (true, Some(seconds)) => seconds.into(),
            (true, None) => own.unwrap_or(30),
        };
        let first = word(&live, "deletionTimestamp").is_empty();
        if first {
            set(&mut object, "deletionTimestamp", Some(self.now().into()));
            if live.pointer("/metadata/generation").is_some() {
                bump(&mut object);
            }
        }
        if first || seconds == 0 {
            set(&mut object, "deletionGracePeriodSeconds", Some(seconds.into()));
        }
        let mut finalizers: Vec<Value> = items(&live, "/metadata/finalizers").to_vec();
        let last = match propagation {
            Propagation::Background => None,
            Propagation::Foreground => Some(FOREGROUND),
            Propagation::Orphan => Some(ORPHAN),
        };
        finalizers.retain(|one| one != FOREGROUND && one != ORPHAN);
        finalizers.extend(last.map(Value::from));
        let space = key.kind == "Namespace" && !items(&live, "/spec/finalizers").is_empty();
        if finalizers.is_empty() && !space && !(lingers && seconds > 0) {
            self.remove(key);
            return;
        }
        set(
            &mut object,
            "finalizers",
            (!finalizers.is_empty()).then_some(Value::Array(finalizers)),
        );
        if object != live {
            self.put(key.clone(), object);
        }
    }

    pub(super) fn evict(&mut self, namespace: &str, pod: &str, grace: Option<u32>) -> Result<()> {
        let kind = Kind::new("v1", "Pod");
        let (_, key) = self.named(&kind, namespace, pod)?;
        let Some(live) = self.objects.get(&key) else { return Ok(()) };
        let none = json!({});
        let labels = live.pointer("/metadata/labels").unwrap_or(&none);
        let budget = self.objects.iter().find(|(key, budget)| {
            key.kind == "PodDisruptionBudget.policy"
                && key.namespace == namespace
                && budget.pointer("/spec/selector").is_some_and(|of| wanted_by(of, labels))
                && budget.pointer("/status/disruptionsAllowed").and_then(Value::as_i64).unwrap_or(0)
                    <= 0
        });
        if let Some((budget, _)) = budget {
            return Err(EngineError::TooManyRequests {
                text: format!(
                    "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget {} needs more healthy pods",
                    budget.name
                ),
                retry_after: None,
            });
        }
        self.mark(&key, Propagation::Background, grace);
        settle(self);
        Ok(())
    }
}

/// Lets everything go that is to go, until nothing changes any more.
pub(super) fn settle(machine: &mut Machine) {
    while spaces(machine) || dependents(machine) || ends(machine) {}
}

fn deleting(object: &Value) -> bool {
    !word(object, "deletionTimestamp").is_empty()
}

fn has(object: &Value, finalizer: &str) -> bool {
    items(object, "/metadata/finalizers").iter().any(|one| one == finalizer)
}

/// All whose owner this is.
fn owned(machine: &Machine, uid: &str) -> Vec<Key> {
    let owned = |object: &Value| {
        items(object, "/metadata/ownerReferences")
            .iter()
            .any(|owner| owner.get("uid").and_then(Value::as_str) == Some(uid))
    };
    machine.objects.iter().filter(|(_, object)| owned(object)).map(|(key, _)| key.clone()).collect()
}

/// Changes the finalizers or owners of an object.
fn keep(machine: &mut Machine, key: &Key, list: &str, keep: impl Fn(&Value) -> bool) -> bool {
    let Some(live) = machine.objects.get(key) else { return false };
    let kept: Vec<Value> =
        items(live, &format!("/metadata/{list}")).iter().filter(|one| keep(one)).cloned().collect();
    if kept.len() == items(live, &format!("/metadata/{list}")).len() {
        return false;
    }
    let mut object = live.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        if kept.is_empty() {
            metadata.remove(list);
        } else {
            metadata.insert(list.to_owned(), Value::Array(kept));
        }
    }
    // What is gone is nobody's any more.
    let mut owners = Owners::of(live);
    if owners != Owners::default() {
        let version = live.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let collector = Manager::updating("kube-controller-manager", version, "");
        owners.update(live, &object, collector, Scope::All, &machine.now());
        set(&mut object, "managedFields", Some(owners.to_value()));
    }
    machine.put(key.clone(), object);
    true
}

/// Objects that are to go and that nothing holds are gone.
fn ends(machine: &mut Machine) -> bool {
    let lingers = |key: &Key, object: &Value| {
        let seconds =
            object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64);
        machine.pods_linger && key.kind == "Pod" && runs(object) && seconds != Some(0)
    };
    let held = |object: &Value| {
        !items(object, "/metadata/finalizers").is_empty()
            || object.get("kind").is_some_and(|kind| kind == "Namespace")
                && !items(object, "/spec/finalizers").is_empty()
    };
    let gone: Vec<Key> = machine
        .objects
        .iter()
        .filter(|(key, object)| deleting(object) && !held(object) && !lingers(key, object))
        .map(|(key, _)| key.clone())
        .collect();
    for key in &gone {
        machine.remove(key);
    }
    !gone.is_empty()
}

/// A namespace that is to go takes what is in it along, and goes when it is empty.
fn spaces(machine: &mut Machine) -> bool {
    let going: Vec<Key> = machine
        .objects
        .iter()
        .filter(|(key, object)| {
            key.kind == "Namespace"
                && deleting(object)
                && !items(object, "/spec/finalizers").is_empty()
        })
        .map(|(key, _)| key.clone())
        .collect();
    let mut changed = false;
    for space in going {
        let inside: Vec<(Key, bool)> = machine
            .objects
            .iter()
            .filter(|(key, _)| key.namespace == space.name)
            .map(|(key, object)| (key.clone(), deleting(object)))
            .collect();
        for (key, _) in inside.iter().filter(|(_, deleting)| !deleting) {
            machine.mark(key, Propagation::Background, None);
            changed = true;
        }
        let Some(live) = machine.objects.get(&space) else { continue };
        let mut object = live.clone();
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"phase": "Terminating"}));
            if inside.is_empty() {
                map.insert("spec".to_owned(), json!({}));
            }
        }
        if object != *live {
            machine.put(space, object);
            changed = true;
        }
    }
    changed
}

/// `attemptToDeleteItem`, `processDeletingDependentsItem` and `orphanDependents` of `pkg/controller/garbagecollector`.
fn dependents(machine: &mut Machine) -> bool {
    let mut changed = false;
    let going: Vec<(Key, Value)> = machine
        .objects
        .iter()
        .filter(|(_, object)| deleting(object))
        .map(|(key, object)| (key.clone(), object.clone()))
        .collect();
    for (key, object) in going {
        let uid = word(&object, "uid");
        if has(&object, ORPHAN) {
            for dependent in owned(machine, uid) {
                changed |= keep(machine, &dependent, "ownerReferences", |owner| {
                    owner.get("uid").and_then(Value::as_str) != Some(uid)
                });
            }
            changed |= keep(machine, &key, "finalizers", |one| one != ORPHAN);
        } else if has(&object, FOREGROUND) {
            let blocked = owned(machine, uid).into_iter().any(|dependent| {
                machine.objects.get(&dependent).is_some_and(|object| blocks(object, uid))
            });
            if !blocked {
                changed |= keep(machine, &key, "finalizers", |one| one != FOREGROUND);
            }
        }
    }
    let uids = machine.uids();
    let waiting: BTreeSet<String> = machine
        .objects
        .values()
        .filter(|object| deleting(object) && has(object, FOREGROUND))
        .map(|object| word(object, "uid").to_owned())
        .collect();
    let mut verdicts: BTreeMap<Key, Verdict> = BTreeMap::new();
    for (key, object) in &machine.objects {
        let owners = items(object, "/metadata/ownerReferences");
        if owners.is_empty() || deleting(object) {
            continue;
        }
        let of = |owner: &Value, name: &str| {
            owner.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        // Of a kind that the cluster does not know nothing can be said.
        let known = |owner: &Value| {
            machine
                .kinds
                .find(&Kind::new(of(owner, "apiVersion"), of(owner, "kind")).to_string())
                .is_some()
        };
        let absent = |owner: &Value| known(owner) && !uids.contains(&of(owner, "uid"));
        let waits = |owner: &Value| {
            waiting.contains(&of(owner, "uid"))
                && owner.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true)
        };
        let lost: BTreeSet<String> = owners
            .iter()
            .filter(|owner| absent(owner) || waits(owner))
            .map(|owner| of(owner, "uid"))
            .collect();
        if lost.is_empty() {
            continue;
        }
        let verdict = if owners.iter().all(|owner| lost.contains(&of(owner, "uid"))) {
            Verdict::Goes { waited_for: owners.iter().any(waits) }
        } else {
            Verdict::Loses(lost)
        };
        verdicts.insert(key.clone(), verdict);
    }
    for (key, verdict) in verdicts {
        changed = true;
        match verdict {
            Verdict::Loses(lost) => {
                keep(machine, &key, "ownerReferences", |owner| {
                    owner.get("uid").and_then(Value::as_str).is_none_or(|uid| !lost.contains(uid))
                });
            }
            Verdict::Goes { waited_for } => {
                let uid = machine.objects.get(&key).map(|object| word(object, "uid").to_owned());
                let owns = uid.is_some_and(|uid| !owned(machine, &uid).is_empty());
                let propagation = if waited_for && owns {
                    Propagation::Foreground
                } else {
                    Propagation::Background
                };
                machine.mark(&key, propagation, None);
            }
        }
    }
    changed
}

/// What becomes of an object that has lost an owner.
enum Verdict {
    /// It had others.
    Loses(BTreeSet<String>),
    /// It was the last.
    Goes { waited_for: bool },
}

/// Whether an owner that waits for its dependents waits for this one.
fn blocks(object: &Value, uid: &str) -> bool {
    items(object, "/metadata/ownerReferences").iter().any(|owner| {
        owner.get("uid").and_then(Value::as_str) == Some(uid)
            && owner.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true)
    })
}
