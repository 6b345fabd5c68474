//! What the lists and maps of Kubernetes' own kinds are: a set, a map with keys, or one value that is replaced as a whole.
//!
//! From the `x-kubernetes-list-type`, `x-kubernetes-list-map-keys`, `x-kubernetes-map-type`, `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key` of
//! `api/openapi-spec/swagger.json` of Kubernetes 1.34. What is not in the table is what it is by default: a list is one value, a map has a value a key. For kinds that are not Kubernetes' own
//! only the metadata is known.

use serde_json::Value;

use super::Element;
use crate::call::cluster::Kind;

/// How a value is told apart into the fields that somebody may own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As its own sort has it: a map is the sum of its fields, and all else is one value.
    Plain,
    /// One value, even where it is a map.
    Atomic,
    /// A list of maps that are told apart by these fields.
    Keyed(&'static [&'static str]),
    /// The same, where each of the maps is one value.
    KeyedAtoms(&'static [&'static str]),
    /// A list of values that are in it or not.
    Set,
}

/// How a strategic merge patch treats a list or a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// As its own sort has it: maps are merged, and all else is replaced.
    Plain,
    /// Lists of maps that have the same value here are merged.
    MergeBy(&'static str),
    /// Values are added to the list.
    MergeValues,
    /// Even a map is replaced.
    Replace,
}

/// A place in an object: the names of the fields on the way, whatever items of lists it leads through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    up: Option<&'a Self>,
    name: &'a str,
    kind: &'a str,
    ours: bool,
}

impl<'a> Place<'a> {
    /// The object itself.
    pub(crate) fn of(kind: &'a Kind) -> Self {
        let group = kind.group();
        // Only Kubernetes' own groups have no dot, or end so.
        let ours = !group.contains('.') || group.ends_with(".k8s.io");
        Self { up: None, name: "", kind: &kind.kind, ours }
    }

    /// A field of it.
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Self { up: Some(self), name, kind: self.kind, ours: self.ours }
    }

    /// What the value here is.
    pub(crate) fn shape(&self) -> Shape {
        self.find(SHAPES).unwrap_or(Shape::Plain)
    }

    /// What a strategic merge patch does here.
    pub(crate) fn strategy(&self) -> Strategy {
        if let Some(strategy) = self.find(STRATEGIES) {
            return strategy;
        }
        match self.shape() {
            Shape::Keyed(keys) | Shape::KeyedAtoms(keys) => {
                keys.first().map_or(Strategy::Plain, |key| Strategy::MergeBy(key))
            }
            Shape::Set | Shape::Plain | Shape::Atomic => Strategy::Plain,
        }
    }

    fn find<T: Copy>(&self, rows: &[Row<T>]) -> Option<T> {
        let row = rows.iter().find(|row| {
            (row.kind.is_empty() || (self.ours && row.kind == self.kind))
                && (self.ours || row.path.starts_with("metadata."))
                && self.ends_with(row.path)
        });
        row.map(|row| row.what)
    }

    /// Whether the last names on the way are these.
    fn ends_with(&self, path: &str) -> bool {
        let mut at = Some(self);
        path.rsplit('.').all(|name| match at {
            Some(place) if place.name == name => {
                at = place.up;
                true
            }
            Some(_) | None => false,
        })
    }
}

impl Shape {
    /// What tells an item of such a list from the others; none where nothing does.
    pub(crate) fn element(self, item: &Value) -> Option<Element> {
        match self {
            Self::Keyed(keys) | Self::KeyedAtoms(keys) => {
                let mut found = serde_json::Map::new();
                for key in keys {
                    match (item.get(key), *key) {
                        (Some(value), _) => drop(found.insert((*key).to_owned(), value.clone())),
                        (None, "protocol") => {
                            drop(found.insert("protocol".to_owned(), "TCP".into()))
                        }
                        (None, _) => {}
                    }
                }
                (!found.is_empty()).then(|| Element::key(&found))
            }
            Self::Set => (!item.is_object() && !item.is_array() && !item.is_null())
                .then(|| Element::Value(item.to_string())),
            Self::Plain | Self::Atomic => None,
        }
    }

    /// What the items of such a list are.
    pub(crate) fn item(self) -> Self {
        match self {
            Self::KeyedAtoms(_) => Self::Atomic,
            Self::Keyed(_) | Self::Set | Self::Plain | Self::Atomic => Self::Plain,
        }
    }

    /// Whether a list of this shape has items of their own.
    pub(crate) fn is_list(self) -> bool {
        match self {
            Self::Keyed(_) | Self::KeyedAtoms(_) | Self::Set => true,
            Self::Plain | Self::Atomic => false,
        }
    }
}

struct Row<T> {
    /// The kind it is about; empty for all.
    kind: &'static str,
    /// The last names on the way.
    path: &'static str,
    what: T,
}

const fn row<T>(kind: &'static str, path: &'static str, what: T) -> Row<T> {
    Row { kind, path, what }
}

/// The first row that fits counts.
const SHAPES: &[Row<Shape>] = &[
    // Of every object.
    row("", "metadata.ownerReferences", Shape::KeyedAtoms(&["uid"])),
    row("", "metadata.finalizers", Shape::Set),
    // Pods, wherever they are described.
    row("", "containers.ports", Shape::Keyed(&["containerPort", "protocol"])),
    row("", "initContainers.ports", Shape::Keyed(&["containerPort", "protocol"])),
    row("", "ephemeralContainers.ports", Shape::Keyed(&["containerPort", "protocol"])),
    row("", "containers", Shape::Keyed(&["name"])),
    row("", "initContainers", Shape::Keyed(&["name"])),
    row("", "ephemeralContainers", Shape::Keyed(&["name"])),
    row("", "env", Shape::Keyed(&["name"])),
    row("", "valueFrom.configMapKeyRef", Shape::Atomic),
    row("", "valueFrom.secretKeyRef", Shape::Atomic),
    row("", "valueFrom.fieldRef", Shape::Atomic),
    row("", "valueFrom.fileKeyRef", Shape::Atomic),
    row("", "valueFrom.resourceFieldRef", Shape::Atomic),
    row("", "volumeMounts", Shape::Keyed(&["mountPath"])),
    row("", "volumeDevices", Shape::Keyed(&["devicePath"])),
    row("", "resources.claims", Shape::Keyed(&["name"])),
    row("", "spec.volumes", Shape::Keyed(&["name"])),
    row("ServiceAccount", "imagePullSecrets", Shape::Atomic),
    row("", "imagePullSecrets", Shape::KeyedAtoms(&["name"])),
    row("", "spec.hostAliases", Shape::Keyed(&["ip"])),
    row("", "spec.resourceClaims", Shape::Keyed(&["name"])),
    row("", "spec.schedulingGates", Shape::Keyed(&["name"])),
    row("", "spec.topologySpreadConstraints", Shape::Keyed(&["topologyKey", "whenUnsatisfiable"])),
    row("", "topologySpreadConstraints.labelSelector", Shape::Atomic),
    row("", "nodeSelector", Shape::Atomic),
    row("", "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", Shape::Atomic),
    row("", "nodeAffinity.required", Shape::Atomic),
    row("", "secretRef", Shape::Atomic),
    row("", "nodePublishSecretRef", Shape::Atomic),
    row("", "nodeStageSecretRef", Shape::Atomic),
    row("", "nodeExpandSecretRef", Shape::Atomic),
    row("", "controllerPublishSecretRef", Shape::Atomic),
    row("", "controllerExpandSecretRef", Shape::Atomic),
    row("", "spec.dataSource", Shape::Atomic),
    row("Pod", "status.podIPs", Shape::Keyed(&["ip"])),
    row("Pod", "status.resourceClaimStatuses", Shape::Keyed(&["name"])),
    // Selectors and references.
    row("", "spec.selector", Shape::Atomic),
    row("", "spec.podSelector", Shape::Atomic),
    row("Job", "status.conditions", Shape::Atomic),
    row("", "status.conditions", Shape::Keyed(&["type"])),
    row("", "roleRef", Shape::Atomic),
    row("Service", "spec.ports", Shape::Keyed(&["port", "protocol"])),
    row("ServiceAccount", "secrets", Shape::KeyedAtoms(&["name"])),
    row("Node", "status.addresses", Shape::Keyed(&["type"])),
    row("Node", "spec.podCIDRs", Shape::Set),
    row("Event", "involvedObject", Shape::Atomic),
    row("Event", "regarding", Shape::Atomic),
    row("Event", "related", Shape::Atomic),
    row("Binding", "target", Shape::Atomic),
    row("ResourceQuota", "spec.scopeSelector", Shape::Atomic),
    row("Ingress", "defaultBackend.service.port", Shape::Atomic),
    row("Ingress", "defaultBackend.resource", Shape::Atomic),
    row("Job", "uncountedTerminatedPods.failed", Shape::Set),
    row("Job", "uncountedTerminatedPods.succeeded", Shape::Set),
    row("CSIDriver", "spec.volumeLifecycleModes", Shape::Set),
    row("CSINode", "spec.drivers", Shape::Keyed(&["name"])),
    row("CSIStorageCapacity", "nodeTopology", Shape::Atomic),
    // Admission.
    row("", "webhooks", Shape::Keyed(&["name"])),
    row("", "webhooks.namespaceSelector", Shape::Atomic),
    row("", "webhooks.objectSelector", Shape::Atomic),
    row("", "matchConditions", Shape::Keyed(&["name"])),
    row("ValidatingAdmissionPolicy", "spec.matchConstraints", Shape::Atomic),
    row("ValidatingAdmissionPolicy", "spec.paramKind", Shape::Atomic),
    row("ValidatingAdmissionPolicy", "spec.variables", Shape::KeyedAtoms(&["name"])),
    row("ValidatingAdmissionPolicyBinding", "spec.matchResources", Shape::Atomic),
    row("ValidatingAdmissionPolicyBinding", "spec.paramRef", Shape::Atomic),
    row("ValidatingAdmissionPolicyBinding", "spec.validationActions", Shape::Set),
];

/// Where a strategic merge patch does not follow the shape.
const STRATEGIES: &[Row<Strategy>] = &[
    row("", "metadata.finalizers", Strategy::MergeValues),
    row("Node", "spec.podCIDRs", Strategy::MergeValues),
    row("Job", "status.conditions", Strategy::MergeBy("type")),
    row("Pod", "status.hostIPs", Strategy::MergeBy("ip")),
    row("PodDisruptionBudget", "spec.selector", Strategy::Replace),
    row("", "resources.claims", Strategy::Plain),
];
