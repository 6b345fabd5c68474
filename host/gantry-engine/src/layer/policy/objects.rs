//! What a plugin may do with the objects of clusters: what is granted, in its namespaces, to its own.
//!
//! A call needs the grant for its kind and verb, a namespace of the plugin's, and what the object itself reaches for. Then it needs the object to be the plugin's own, unless the grant says
//! that others' are fine too. The cluster is asked whose an object is before it is changed, and the change names the object's uid, so that nobody can put another in its place between the
//! question and the deed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::try_join_all;
use gantry_core::policy::object::{Reference, needed, needed_by_operations, references};
use gantry_core::policy::{Grant, Verb};
use serde_json::{Value, json};

use crate::call::cluster::{ClusterCall, Kind, Patch, say, word};
use crate::layer::Next;
use crate::layer::identity::objects::{is_own, keep_marks, keep_operation, narrow};
use crate::layer::journal::objects::Place;
use crate::{Call, EngineError, Error, Reply, Request, Response, Scope};

/// Kinds whose objects are in no namespace. Of a kind that is not here, an object without a namespace may be anywhere.
const CLUSTER_WIDE: &[(&str, &str)] = &[
    ("", "Node"),
    ("", "PersistentVolume"),
    ("", "Namespace"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("node.k8s.io", "RuntimeClass"),
    ("networking.k8s.io", "IngressClass"),
];

/// So many of the objects that one names are looked at together.
const TOGETHER: usize = 16;

/// So many own objects of one owner are remembered; then it starts over.
const CAPACITY: usize = 65_536;

/// Own objects that were seen, with their uid. Only positive answers are kept, and a change names the uid: that of an object which has gone is refused by the cluster.
#[derive(Debug, Default)]
pub(super) struct OwnObjects {
    // Held for a look or an insert, never across an await.
    seen: Mutex<HashMap<(String, Place), String>>,
}

impl OwnObjects {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, Place), String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uid(&self, scope: &Scope, place: &Place) -> Option<String> {
        self.lock().get(&(owner(scope), place.clone())).cloned()
    }

    fn insert(&self, scope: &Scope, place: Place, uid: &str) {
        let mut seen = self.lock();
        if seen.len() >= CAPACITY {
            seen.clear();
        }
        seen.insert((owner(scope), place), uid.to_owned());
    }

    fn forget(&self, scope: &Scope, place: &Place) {
        self.lock().remove(&(owner(scope), place.clone()));
    }
}

fn owner(scope: &Scope) -> String {
    // No name of a provisioner has a line feed.
    format!("{}\n{}", scope.provisioner, scope.instance)
}

/// What a call does, to objects of which kind, in which namespace.
struct Deed {
    verb: Verb,
    kind: Kind,
    namespace: String,
    /// The object it names; none when it names many.
    name: Option<String>,
}

fn deed(call: &ClusterCall) -> Deed {
    let of = |verb, kind: &Kind, namespace: &str, name: Option<&str>| Deed {
        verb,
        kind: kind.clone(),
        namespace: namespace.to_owned(),
        name: name.map(str::to_owned),
    };
    let pod = |verb, namespace: &str, pod: &str| of(verb, &pod_kind(), namespace, Some(pod));
    match call {
        ClusterCall::Get { kind, namespace, name } => of(Verb::Read, kind, namespace, Some(name)),
        ClusterCall::List { kind, selection, .. } | ClusterCall::Watch { kind, selection } => {
            of(Verb::Read, kind, &selection.namespace, None)
        }
        ClusterCall::Create { object, .. } | ClusterCall::Apply { object, .. } => {
            let place = Place::of("", object);
            of(Verb::Write, &Kind::of(object), &place.namespace, Some(&place.name))
        }
        ClusterCall::Patch { kind, namespace, name, .. }
        | ClusterCall::PutBack { kind, namespace, name }
        | ClusterCall::Delete { kind, namespace, name, .. } => {
            of(Verb::Write, kind, namespace, Some(name))
        }
        ClusterCall::Logs { namespace, pod: name, .. } => pod(Verb::Logs, namespace, name),
        ClusterCall::Exec { namespace, pod: name, .. }
        | ClusterCall::ExecSession { namespace, pod: name, .. }
        | ClusterCall::Attach { namespace, pod: name, .. }
        | ClusterCall::AttachSession { namespace, pod: name, .. }
        | ClusterCall::PortForward { namespace, pod: name, .. } => pod(Verb::Exec, namespace, name),
        ClusterCall::Evict { namespace, pod: name, .. } => pod(Verb::Write, namespace, name),
    }
}

fn pod_kind() -> Kind {
    Kind::new("v1", "Pod")
}

fn denied(call: &ClusterCall, why: impl std::fmt::Display) -> EngineError {
    EngineError::Denied(format!("`{}` is refused: {why}", call.name()))
}

/// Whether the namespace is in the plugin's reach without a grant of its own.
fn in_reach(kind: &Kind, namespace: &str, own: &str) -> bool {
    if namespace.is_empty() {
        return CLUSTER_WIDE.contains(&(kind.group(), &kind.kind));
    }
    namespace == own
}

/// The grants that a call needs before anybody asks whose an object is.
fn needs(call: &ClusterCall, deed: &Deed, own_namespace: &str) -> Vec<Grant> {
    let mut grants = vec![Grant::Objects(deed.verb, deed.kind.to_string())];
    if !in_reach(&deed.kind, &deed.namespace, own_namespace) {
        let namespace = if deed.namespace.is_empty() { "*" } else { &deed.namespace };
        grants.push(Grant::Namespace(namespace.to_owned()));
    }
    let kind = &deed.kind.kind;
    if let ClusterCall::Create { object, .. } | ClusterCall::Apply { object, .. } = call {
        grants.extend(needed(kind, object));
    } else if let ClusterCall::Patch { patch, .. } = call {
        grants.extend(match patch {
            Patch::Merge(document) | Patch::Strategic(document) => needed(kind, document),
            Patch::Json(operations) => needed_by_operations(kind, operations),
        });
    }
    grants
}

/// Refuses a patch of what is no part of an object: `proxy`, for one, is the way to a pod or a machine.
fn refuse_subresource(call: &ClusterCall) -> Result<(), EngineError> {
    const PARTS: &[&str] = &["", "status", "scale", "resize", "ephemeralcontainers"];
    let ClusterCall::Patch { subresource, .. } = call else { return Ok(()) };
    if PARTS.contains(&subresource.as_str()) {
        return Ok(());
    }
    Err(EngineError::Invalid(format!("`{subresource}` is not a part that can be patched")))
}

/// Polices a call to a cluster and sends it on.
pub(super) async fn call(
    own: &OwnObjects,
    scope: &Arc<Scope>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let Request { call, input, output, given_up } = request;
    let Call::Cluster { cluster, mut call } = call else {
        return next.send(scope, Request { call, input, output, given_up }).await;
    };
    refuse_subresource(&call)?;
    let deed = deed(&call);
    let given = next.chain.backends().clusters.cluster(&scope.provisioner, &cluster)?;
    for grant in needs(&call, &deed, &given.info.namespace) {
        scope.grants.check(&grant).map_err(|denial| denied(&call, denial))?;
    }
    let foreign = Grant::ForeignObjects(deed.verb, deed.kind.to_string());
    let anybodys = scope.grants.check(&foreign).is_ok();
    let asking = Asking { own, scope, cluster: &cluster, next: &next };
    asking.judge_references(&call, &deed).await?;
    let place =
        deed.name.as_ref().map(|name| Place::new(&cluster, &deed.kind, &deed.namespace, name));
    let absent_is_done = matches!(
        *call,
        ClusterCall::Delete { .. } | ClusterCall::PutBack { .. } | ClusterCall::Evict { .. }
    );
    if let ClusterCall::List { selection, .. } | ClusterCall::Watch { selection, .. } = &mut *call {
        if !anybodys {
            narrow(scope, selection);
        }
    } else if let Some(place) = &place
        && !matches!(*call, ClusterCall::Get { .. } | ClusterCall::Create { .. })
    {
        match asking.known(place, &call) {
            Some(known) => pin(&mut call, &known, true)?,
            None => match asking.look(place).await? {
                Some(object) => {
                    if !anybodys {
                        asking.admit(place, &object, &foreign).map_err(|why| denied(&call, why))?;
                    }
                    pin(&mut call, &object, is_own(scope, &object))?;
                }
                None if absent_is_done => return Ok(Reply::Done.into()),
                None if matches!(*call, ClusterCall::Apply { .. }) => pin_absent(&mut call),
                None => return Err(absent(place).into()),
            },
        }
    }
    // Of these, what is there now may be another than what was looked at.
    let read = matches!(*call, ClusterCall::Get { .. } | ClusterCall::PutBack { .. });
    let gone = matches!(*call, ClusterCall::Delete { .. } | ClusterCall::PutBack { .. });
    let only_asks = only_asks(&call);
    let asked = call.name();
    let call = Call::Cluster { cluster: cluster.clone(), call };
    let request = Request { call, input, output, given_up };
    let answer = next.clone().send(scope, request).await;
    if let Some(place) = &place {
        match &answer {
            Ok(Response { reply: Reply::Object(object), .. }) => {
                // The uid of what would be made is nobody's.
                if is_own(scope, object) && !only_asks {
                    own.insert(scope, place.clone(), word(object, "uid"));
                } else if read && !anybodys {
                    asking.admit(place, object, &foreign).map_err(|denial| {
                        EngineError::Denied(format!("`{asked}` is refused: {denial}"))
                    })?;
                }
            }
            Err(Error::Engine(EngineError::NotFound(_) | EngineError::Conflict(_))) => {
                own.forget(scope, place);
            }
            Ok(_) if gone && !only_asks => own.forget(scope, place),
            Ok(_) | Err(_) => {}
        }
    }
    answer
}

/// Whether a call only asks whether it could be done.
fn only_asks(call: &ClusterCall) -> bool {
    match call {
        ClusterCall::Create { dry_run, .. }
        | ClusterCall::Apply { dry_run, .. }
        | ClusterCall::Patch { dry_run, .. } => *dry_run,
        ClusterCall::Delete { options, .. } => options.dry_run,
        ClusterCall::Get { .. }
        | ClusterCall::List { .. }
        | ClusterCall::Watch { .. }
        | ClusterCall::Logs { .. }
        | ClusterCall::Exec { .. }
        | ClusterCall::ExecSession { .. }
        | ClusterCall::Attach { .. }
        | ClusterCall::AttachSession { .. }
        | ClusterCall::PortForward { .. }
        | ClusterCall::PutBack { .. }
        | ClusterCall::Evict { .. } => false,
    }
}

/// Whether a call changes an object in a way that the ledger may have to take back, or deletes one that something may take the place of.
fn changes(call: &ClusterCall) -> bool {
    if let ClusterCall::Delete { options, .. } = call {
        return !options.dry_run;
    }
    matches!(
        call,
        ClusterCall::Apply { dry_run: false, .. } | ClusterCall::Patch { dry_run: false, .. }
    )
}

fn absent(place: &Place) -> EngineError {
    EngineError::NotFound(format!("{place} is not there"))
}

/// Names the object that is meant in the call that changes it. Its marks stay as they are: that of the operation that made it, and those of somebody else.
///
/// # Errors
/// `conflict` when the call itself means another.
fn pin(call: &mut ClusterCall, object: &Value, own: bool) -> Result<(), EngineError> {
    let uid = word(object, "uid").to_owned();
    if uid.is_empty() {
        return Ok(());
    }
    let same = |wanted: &str| {
        if wanted.is_empty() || wanted == uid {
            return Ok(());
        }
        Err(EngineError::Conflict(format!("the object has the uid `{uid}`, and not `{wanted}`")))
    };
    if let ClusterCall::Apply { object: wanted, .. } = call {
        same(word(wanted, "uid"))?;
        if own {
            keep_operation(wanted, object);
        } else {
            keep_marks(wanted, object);
        }
        say(wanted, "uid", &uid);
    } else if let ClusterCall::Delete { options, .. } = call {
        same(&options.uid)?;
        options.uid = uid;
    } else if let ClusterCall::Patch { patch, .. } = call {
        match patch {
            Patch::Merge(document @ Value::Object(_))
            | Patch::Strategic(document @ Value::Object(_)) => {
                same(word(document, "uid"))?;
                say(document, "uid", &uid);
            }
            Patch::Json(Value::Array(operations)) => {
                // At the end, where none of the plugin's own takes it away.
                operations.push(json!({"op": "add", "path": "/metadata/uid", "value": uid}));
            }
            // The cluster refuses what is no patch.
            Patch::Merge(_) | Patch::Strategic(_) | Patch::Json(_) => {}
        }
    }
    Ok(())
}

/// Says in an apply that nothing is there: no object has this version, so it makes one or is a conflict.
fn pin_absent(call: &mut ClusterCall) {
    if let ClusterCall::Apply { object, .. } = call {
        say(object, "resourceVersion", "1");
    }
}

/// Questions to the cluster about whose an object is.
struct Asking<'a> {
    own: &'a OwnObjects,
    scope: &'a Arc<Scope>,
    cluster: &'a str,
    next: &'a Next,
}

impl Asking<'_> {
    /// What is known of an own object without a question: its uid, and its marks when the operation found it there. None where a look is needed: for what was never seen, for the ledger before
    /// an object is first changed, and for what is done to pods, which names no uid.
    fn known(&self, place: &Place, call: &ClusterCall) -> Option<Value> {
        if call.pod().is_some() {
            return None;
        }
        let uid = self.own.uid(self.scope, place)?;
        match self.scope.ledger.objects().before(place) {
            Some(Some(before)) if word(&before, "uid") == uid => Some(before),
            None if changes(call) => None,
            Some(_) | None => Some(json!({"metadata": {"uid": uid}})),
        }
    }

    /// An object as it is, with its marks, if there is one; the ledger takes note of what was there.
    async fn look(&self, place: &Place) -> Result<Option<Value>, Error> {
        let found = match self.next.clone().send(self.scope, place.get().into()).await {
            Ok(Response { reply: Reply::Object(object), .. }) => Some(object),
            Ok(_) => return Err(EngineError::Failed("no answer to a get".to_owned()).into()),
            Err(Error::Engine(EngineError::NotFound(_))) => None,
            Err(error) => return Err(error),
        };
        self.scope.ledger.objects().found(self.scope, place, found.as_ref());
        Ok(found)
    }

    /// Lets an object pass that is the scope's own, or any with the grant for it.
    fn admit(&self, place: &Place, object: &Value, foreign: &Grant) -> Result<(), String> {
        if is_own(self.scope, object) {
            self.own.insert(self.scope, place.clone(), word(object, "uid"));
            return Ok(());
        }
        self.scope.grants.check(foreign).map_err(|denial| {
            format!("{place} is not of the provisioner `{}`: {denial}", self.scope.provisioner)
        })
    }

    /// Lets pods name what is not there, with the grant to read what anybody makes of it.
    fn admit_absent(&self, place: &Place, foreign: &Grant) -> Result<(), String> {
        self.scope.grants.check(foreign).map_err(|denial| {
            format!(
                "{place} is not there, and whoever makes it gives it to these pods: make what pods \
                 are given before them; else {denial}"
            )
        })
    }

    /// Lets an object pass that names nothing of others for its pods. What is not there is nobody's; but what comes into pods may be made by somebody else later, and is theirs then.
    async fn judge_references(&self, call: &ClusterCall, deed: &Deed) -> Result<(), Error> {
        let named =
            if let ClusterCall::Create { object, .. } | ClusterCall::Apply { object, .. } = call {
                references(&deed.kind.kind, object)
            } else if let ClusterCall::Patch {
                patch: Patch::Merge(document) | Patch::Strategic(document),
                ..
            } = call
            {
                references(&deed.kind.kind, document)
            } else {
                Vec::new()
            };
        for some in named.chunks(TOGETHER) {
            let judged = some.iter().map(|reference| self.judge_reference(call, deed, reference));
            try_join_all(judged).await?;
        }
        Ok(())
    }

    /// The same for one that is named. It is looked at each time: a name says nothing of the uid that an own object had.
    async fn judge_reference(
        &self,
        call: &ClusterCall,
        deed: &Deed,
        reference: &Reference,
    ) -> Result<(), Error> {
        let kind = Kind::new("v1", reference.kind);
        let foreign = Grant::ForeignObjects(Verb::Read, kind.to_string());
        if self.scope.grants.check(&foreign).is_ok() {
            return Ok(());
        }
        let wide = CLUSTER_WIDE.contains(&("", reference.kind));
        let namespace = if wide { "" } else { &deed.namespace };
        let place = Place::new(self.cluster, &kind, namespace, &reference.name);
        match self.look(&place).await? {
            Some(object) => {
                self.admit(&place, &object, &foreign).map_err(|why| denied(call, why))?;
            }
            None if reference.handed => {
                self.admit_absent(&place, &foreign).map_err(|why| denied(call, why))?;
            }
            None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::identity::OPERATION;

    fn words(call: &ClusterCall) -> Vec<String> {
        needs(call, &deed(call), "apps").iter().map(Grant::to_string).collect()
    }

    #[test]
    fn a_call_needs_its_kind_its_verb_and_its_namespace() {
        let kind = || Kind::new("apps/v1", "Deployment");
        let get = |kind: Kind, namespace: &str| ClusterCall::Get {
            kind,
            namespace: namespace.to_owned(),
            name: "web".to_owned(),
        };
        assert_eq!(words(&get(kind(), "apps")), ["cluster:read:Deployment.apps"]);
        assert_eq!(
            words(&get(kind(), "others")),
            ["cluster:read:Deployment.apps", "cluster:namespace:others"]
        );
        assert_eq!(
            words(&get(kind(), "")),
            ["cluster:read:Deployment.apps", "cluster:namespace:*"]
        );
        assert_eq!(words(&get(Kind::new("v1", "Node"), "")), ["cluster:read:Node"]);
        let evict = ClusterCall::Evict {
            namespace: "apps".to_owned(),
            pod: "p".to_owned(),
            grace_seconds: None,
        };
        assert_eq!(words(&evict), ["cluster:write:Pod"]);
        let apply = ClusterCall::Apply {
            object: json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "apps"},
                "spec": {"hostNetwork": true},
            }),
            dry_run: false,
        };
        assert_eq!(words(&apply), ["cluster:write:Pod", "containers:host-network"]);
    }

    #[test]
    fn a_change_names_the_object_that_was_judged() {
        let object = json!({"metadata": {"uid": "u1", "labels": {OPERATION: "first"}}});
        let mut apply = ClusterCall::Apply {
            object: json!({"metadata": {"name": "web", "labels": {OPERATION: "second"}}}),
            dry_run: false,
        };
        pin(&mut apply, &object, true).unwrap();
        let ClusterCall::Apply { object: pinned, .. } = apply else { panic!("still an apply") };
        assert_eq!(
            pinned,
            json!({"metadata": {"name": "web", "uid": "u1", "labels": {OPERATION: "first"}}})
        );
        let patch = |patch| ClusterCall::Patch {
            kind: pod_kind(),
            namespace: String::new(),
            name: String::new(),
            subresource: String::new(),
            patch,
            dry_run: false,
        };
        let mut merge = patch(Patch::Merge(json!({"spec": {}})));
        pin(&mut merge, &object, true).unwrap();
        assert_eq!(merge, patch(Patch::Merge(json!({"spec": {}, "metadata": {"uid": "u1"}}))));
        let mut operations = patch(Patch::Json(json!([])));
        pin(&mut operations, &object, true).unwrap();
        let named = json!([{"op": "add", "path": "/metadata/uid", "value": "u1"}]);
        assert_eq!(operations, patch(Patch::Json(named)));
    }
}
