//! The kinds that a cluster in memory knows: the built-in ones of Kubernetes 1.34 in their stored version, and those that a test adds.

use std::collections::BTreeMap;

use crate::EngineError;
use crate::call::cluster::Kind;
use crate::cluster::Result;

/// A kind.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) kind: Kind,
    /// Its name in addresses and messages, without the group.
    plural: String,
    pub(super) namespaced: bool,
    /// Whether its status is a subresource.
    pub(super) status: bool,
    /// Whether it has a number of replicas as a subresource.
    pub(super) scale: bool,
    /// Whether it counts the changes of what is wanted of it in `metadata.generation`.
    pub(super) counts: bool,
    pub(super) built_in: bool,
}

impl Known {
    /// As messages name the resource: `deployments.apps`.
    pub(super) fn resource(&self) -> String {
        match self.kind.group() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Kinds {
    /// By group and kind, as a kind is displayed.
    known: BTreeMap<String, Known>,
}

impl Default for Kinds {
    fn default() -> Self {
        let known = BUILT_IN.iter().map(|(api_version, kind, plural, traits)| {
            let kind = Kind::new(*api_version, *kind);
            let has = |letter: char| traits.contains(letter);
            let known = Known {
                plural: (*plural).to_owned(),
                namespaced: has('n'),
                status: has('s'),
                scale: has('r'),
                counts: has('g'),
                built_in: true,
                kind: kind.clone(),
            };
            (kind.to_string(), known)
        });
        Self { known: known.collect() }
    }
}

impl Kinds {
    pub(super) fn add(&mut self, kind: Kind, namespaced: bool) {
        let plural = format!("{}s", kind.kind.to_lowercase());
        let known = Known {
            kind: kind.clone(),
            plural,
            namespaced,
            status: false,
            scale: false,
            counts: true,
            built_in: false,
        };
        self.known.insert(kind.to_string(), known);
    }

    /// A kind.
    ///
    /// # Errors
    /// `not-found` when it is not known.
    pub(super) fn get(&self, kind: &Kind) -> Result<&Known> {
        if kind.api_version.is_empty() || kind.kind.is_empty() {
            return Err(EngineError::Invalid(
                "an object says its `apiVersion` and its `kind`".to_owned(),
            ));
        }
        self.known.get(&kind.to_string()).filter(|known| known.kind == *kind).ok_or_else(|| {
            EngineError::NotFound(format!(
                "the cluster has no kind `{}` of `{}`",
                kind.kind, kind.api_version
            ))
        })
    }

    /// A kind by its group and its name.
    pub(super) fn find(&self, text: &str) -> Option<&Known> {
        self.known.get(text)
    }
}

/// The field selectors that a kind has beside `metadata.name` and `metadata.namespace`, from `registry/*/strategy.go` (`ToSelectableFields`).
pub(super) fn selectable(kind: &Kind) -> &'static [&'static str] {
    match (kind.group(), kind.kind.as_str()) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "Namespace") => &["status.phase"],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("", "ReplicationController") | ("apps", "ReplicaSet") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        (_, _) => &[],
    }
}

/// The version, the kind, its plural, and a letter for each of: `n`amespaced, has a `s`tatus, a number of `r`eplicas, a `g`eneration.
const BUILT_IN: &[(&str, &str, &str, &str)] = &[
    ("v1", "ConfigMap", "configmaps", "n"),
    ("v1", "Endpoints", "endpoints", "n"),
    ("v1", "Event", "events", "n"),
    ("v1", "LimitRange", "limitranges", "n"),
    ("v1", "Namespace", "namespaces", "s"),
    ("v1", "Node", "nodes", "s"),
    ("v1", "PersistentVolume", "persistentvolumes", "s"),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", "ns"),
    ("v1", "Pod", "pods", "nsg"),
    ("v1", "PodTemplate", "podtemplates", "ng"),
    ("v1", "ReplicationController", "replicationcontrollers", "nsrg"),
    ("v1", "ResourceQuota", "resourcequotas", "ns"),
    ("v1", "Secret", "secrets", "n"),
    ("v1", "Service", "services", "ns"),
    ("v1", "ServiceAccount", "serviceaccounts", "n"),
    (
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        "g",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        "g",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        "sg",
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        "g",
    ),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", "sg"),
    ("apiregistration.k8s.io/v1", "APIService", "apiservices", "s"),
    ("apps/v1", "ControllerRevision", "controllerrevisions", "n"),
    ("apps/v1", "DaemonSet", "daemonsets", "nsg"),
    ("apps/v1", "Deployment", "deployments", "nsrg"),
    ("apps/v1", "ReplicaSet", "replicasets", "nsrg"),
    ("apps/v1", "StatefulSet", "statefulsets", "nsrg"),
    ("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "ns"),
    ("batch/v1", "CronJob", "cronjobs", "nsg"),
    ("batch/v1", "Job", "jobs", "nsg"),
    ("certificates.k8s.io/v1", "CertificateSigningRequest", "certificatesigningrequests", "s"),
    ("coordination.k8s.io/v1", "Lease", "leases", "n"),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", "ng"),
    ("events.k8s.io/v1", "Event", "events", "n"),
    ("networking.k8s.io/v1", "Ingress", "ingresses", "nsg"),
    ("networking.k8s.io/v1", "IngressClass", "ingressclasses", "g"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", "ng"),
    ("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", ""),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", "nsg"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", ""),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", ""),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", "n"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", "n"),
    ("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", "g"),
    ("storage.k8s.io/v1", "CSIDriver", "csidrivers", ""),
    ("storage.k8s.io/v1", "CSINode", "csinodes", ""),
    ("storage.k8s.io/v1", "CSIStorageCapacity", "csistoragecapacities", "n"),
    ("storage.k8s.io/v1", "StorageClass", "storageclasses", ""),
    ("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments", "s"),
];
