//! What an API server takes: names, labels, the fields that must be there, and those that stay as they are.
//!
//! These are the rules that a manifest meets in practice, and not all of Kubernetes' validation.

use serde_json::{Map, Value};

use super::kinds::Known;
use crate::call::cluster::Kind;
use crate::{EngineError, InvalidField, Invalidity};

/// What is wrong with an object.
#[derive(Default)]
pub(super) struct Faults(Vec<InvalidField>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, reason: &str, message: impl Into<String>) {
        let (field, message) = (field.into(), message.into());
        self.0.push(InvalidField { field, reason: reason.to_owned(), message });
    }

    fn required(&mut self, field: impl Into<String>) {
        self.add(field, "FieldValueRequired", "Required value");
    }

    fn invalid(&mut self, field: impl Into<String>, value: &str, why: &str) {
        self.add(field, "FieldValueInvalid", format!("Invalid value: {value:?}: {why}"));
    }

    fn forbidden(&mut self, field: impl Into<String>, why: &str) {
        self.add(field, "FieldValueForbidden", format!("Forbidden: {why}"));
    }

    fn immutable(&mut self, field: &str) {
        self.add(field, "FieldValueInvalid", "Invalid value: field is immutable");
    }

    /// As the API server says it, or nothing when nothing is wrong.
    pub(super) fn end(self, kind: &Kind, name: &str) -> Result<(), EngineError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let told: Vec<String> =
            self.0.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        let told = match told.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{kind} {name:?} is invalid: {told}");
        Err(EngineError::InvalidObject(Invalidity { message, causes: self.0 }))
    }
}

// ---- words

fn is_label(text: &str, longest: usize) -> bool {
    let inner =
        |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    let outer = |letter: Option<&u8>| letter.is_some_and(|letter| *letter != b'-');
    let bytes = text.as_bytes();
    text.len() <= longest
        && bytes.iter().all(|letter| inner(*letter))
        && outer(bytes.first())
        && outer(bytes.last())
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| is_label(part, 253))
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |letter: Option<&u8>| letter.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |letter: &u8| letter.is_ascii_alphanumeric() || b"-_.".contains(letter);
    text.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}

/// Whether a text can be the key of a label or of an annotation.
pub(super) fn label_key(key: &str) -> Result<(), String> {
    let (prefix, name) =
        key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_none_or(is_subdomain) && is_qualified(name) {
        return Ok(());
    }
    Err(format!(
        "`{key}` is no key: it must consist of an optional DNS prefix and `/`, and a name of at most 63 letters, digits, `-`, `_` and `.`"
    ))
}

/// Whether a text can be the value of a label.
pub(super) fn label_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_qualified(value) {
        return Ok(());
    }
    Err(format!(
        "`{value}` is no value of a label: it must be empty, or at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at each end"
    ))
}

fn check_name(known: &Known, name: &str, field: &str, faults: &mut Faults) {
    let group = known.kind.group();
    let (fits, rule) = match known.kind.kind.as_str() {
        "Namespace" if group.is_empty() => (is_label(name, 63), "a lowercase RFC 1123 label"),
        "Service" if group.is_empty() => {
            let letter = name.starts_with(|letter: char| letter.is_ascii_lowercase());
            (letter && is_label(name, 63), "a DNS-1035 label")
        }
        _ if group == "rbac.authorization.k8s.io" => {
            let fits =
                name != "." && name != ".." && !name.contains(['/', '%']) && !name.is_empty();
            (fits, "a path segment name")
        }
        _ => (is_subdomain(name), "a lowercase RFC 1123 subdomain"),
    };
    if !fits {
        let why = format!(
            "{rule} must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
        );
        faults.invalid(field, name, &why);
    }
}

// ---- objects

fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

fn word<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

fn map<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(object, pointer).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    at(object, pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// What is wrong with an object, whatever it was before.
pub(super) fn check(known: &Known, object: &Value, faults: &mut Faults) {
    match word(object, "/metadata/name") {
        "" => faults.add(
            "metadata.name",
            "FieldValueRequired",
            "Required value: name or generateName is required",
        ),
        name => check_name(known, name, "metadata.name", faults),
    }
    for (key, value) in map(object, "/metadata/labels") {
        if let Err(why) = label_key(key) {
            faults.invalid("metadata.labels", key, &why);
        }
        match value.as_str() {
            Some(value) => {
                if let Err(why) = label_value(value) {
                    faults.invalid("metadata.labels", value, &why);
                }
            }
            None => faults.invalid("metadata.labels", &value.to_string(), "must be a text"),
        }
    }
    for (key, _) in map(object, "/metadata/annotations") {
        if let Err(why) = label_key(&key.to_lowercase()) {
            faults.invalid("metadata.annotations", key, &why);
        }
    }
    for finalizer in list(object, "/metadata/finalizers").iter().filter_map(Value::as_str) {
        if label_key(finalizer).is_err()
            || known.built_in && !finalizer.contains('/') && !is_standard(finalizer)
        {
            faults.invalid(
                "metadata.finalizers",
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
    for (index, owner) in list(object, "/metadata/ownerReferences").iter().enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if word(owner, &format!("/{key}")).is_empty() {
                faults.add(
                    format!("metadata.ownerReferences[{index}].{key}"),
                    "FieldValueInvalid",
                    "Invalid value: must not be empty",
                );
            }
        }
    }
    if !known.built_in {
        return;
    }
    match (known.kind.group(), known.kind.kind.as_str()) {
        ("apps", "Deployment" | "DaemonSet" | "ReplicaSet" | "StatefulSet") => {
            check_workload(object, faults);
        }
        ("batch", "Job") => check_pod(object, "/spec/template/spec", faults),
        ("batch", "CronJob") => check_pod(object, "/spec/jobTemplate/spec/template/spec", faults),
        ("", "Pod") => check_pod(object, "/spec", faults),
        ("", "Service") => check_service(object, faults),
        (_, _) => {}
    }
}

fn is_standard(finalizer: &str) -> bool {
    ["kubernetes", "orphan", "foregroundDeletion"].contains(&finalizer)
}

fn check_workload(object: &Value, faults: &mut Faults) {
    if let Some(replicas) = at(object, "/spec/replicas").and_then(Value::as_i64)
        && replicas < 0
    {
        faults.add(
            "spec.replicas",
            "FieldValueInvalid",
            format!("Invalid value: {replicas}: must be greater than or equal to 0"),
        );
    }
    let none = Value::Null;
    let labels = at(object, "/spec/template/metadata/labels").unwrap_or(&none);
    match at(object, "/spec/selector") {
        None => faults.required("spec.selector"),
        Some(selector) if !super::selectors::wanted_by(selector, labels) => faults.add(
            "spec.template.metadata.labels",
            "FieldValueInvalid",
            format!("Invalid value: {labels}: `selector` does not match template `labels`"),
        ),
        Some(selector) if selector.as_object().is_some_and(Map::is_empty) => faults.add(
            "spec.selector",
            "FieldValueInvalid",
            "Invalid value: {}: empty selector is invalid for deployment",
        ),
        Some(_) => {}
    }
    check_pod(object, "/spec/template/spec", faults);
}

fn check_pod(object: &Value, pointer: &str, faults: &mut Faults) {
    let field = pointer.trim_start_matches('/').replace('/', ".");
    if list(object, &format!("{pointer}/containers")).is_empty() {
        faults.required(format!("{field}.containers"));
    }
    for of in ["initContainers", "containers"] {
        let containers = list(object, &format!("{pointer}/{of}"));
        for (index, container) in containers.iter().enumerate() {
            let field = format!("{field}.{of}[{index}]");
            let name = word(container, "/name");
            if name.is_empty() {
                faults.required(format!("{field}.name"));
            } else if !is_label(name, 63) {
                faults.invalid(
                    format!("{field}.name"),
                    name,
                    "a lowercase RFC 1123 label is required",
                );
            }
            if containers.iter().take(index).any(|other| word(other, "/name") == name) {
                faults.add(
                    format!("{field}.name"),
                    "FieldValueDuplicate",
                    format!("Duplicate value: {name:?}"),
                );
            }
            // The templates of workloads need one too.
            if word(container, "/image").is_empty() {
                faults.required(format!("{field}.image"));
            }
            for (mount, volume) in list(container, "/volumeMounts").iter().enumerate() {
                let name = word(volume, "/name");
                let volumes = list(object, &format!("{pointer}/volumes"));
                if !volumes.iter().any(|volume| word(volume, "/name") == name) {
                    faults.add(
                        format!("{field}.volumeMounts[{mount}].name"),
                        "FieldValueNotFound",
                        format!("Not found: {name:?}"),
                    );
                }
            }
        }
    }
}

fn check_service(object: &Value, faults: &mut Faults) {
    let ports = list(object, "/spec/ports");
    let needs =
        word(object, "/spec/type") != "ExternalName" && word(object, "/spec/clusterIP") != "None";
    if ports.is_empty() && needs {
        faults.required("spec.ports");
    }
    for (index, port) in ports.iter().enumerate() {
        match port.get("port").and_then(Value::as_i64) {
            Some(1..=65535) => {}
            Some(number) => faults.add(
                format!("spec.ports[{index}].port"),
                "FieldValueInvalid",
                format!("Invalid value: {number}: must be between 1 and 65535, inclusive"),
            ),
            None => faults.required(format!("spec.ports[{index}].port")),
        }
        let name = word(port, "/name");
        if name.is_empty() && ports.len() > 1 {
            faults.required(format!("spec.ports[{index}].name"));
        } else if !name.is_empty()
            && ports.iter().take(index).any(|other| word(other, "/name") == name)
        {
            faults.add(
                format!("spec.ports[{index}].name"),
                "FieldValueDuplicate",
                format!("Duplicate value: {name:?}"),
            );
        }
    }
}

/// What is wrong with a change of an object.
pub(super) fn check_change(known: &Known, before: &Value, after: &Value, faults: &mut Faults) {
    let same = |pointer: &str| before.pointer(pointer) == after.pointer(pointer);
    if at(before, "/metadata/deletionTimestamp").is_some() {
        let old = list(before, "/metadata/finalizers");
        if list(after, "/metadata/finalizers").iter().any(|one| !old.contains(one)) {
            faults.forbidden(
                "metadata.finalizers",
                "no new finalizers can be added if the object is being deleted",
            );
        }
    }
    if !known.built_in {
        return;
    }
    let mut stays = |pointers: &[&str]| {
        for pointer in pointers.iter().filter(|pointer| !same(pointer)) {
            faults.immutable(&pointer.trim_start_matches('/').replace('/', "."));
        }
    };
    match (known.kind.group(), known.kind.kind.as_str()) {
        ("apps", "Deployment" | "DaemonSet" | "ReplicaSet") => stays(&["/spec/selector"]),
        ("apps", "StatefulSet") => {
            let free = [
                "minReadySeconds",
                "ordinals",
                "persistentVolumeClaimRetentionPolicy",
                "replicas",
                "revisionHistoryLimit",
                "template",
                "updateStrategy",
            ];
            if rest(before, "/spec", &free) != rest(after, "/spec", &free) {
                faults.forbidden(
                    "spec",
                    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
                );
            }
        }
        ("batch", "Job") => stays(&["/spec/selector", "/spec/template", "/spec/completionMode"]),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            if !same("/roleRef") {
                faults.add("roleRef", "FieldValueInvalid", "Invalid value: cannot change roleRef");
            }
        }
        ("storage.k8s.io", "StorageClass") => {
            stays(&["/parameters", "/provisioner", "/reclaimPolicy", "/volumeBindingMode"]);
        }
        ("", "Service") => {
            let external = |object| word(object, "/spec/type") == "ExternalName";
            if !external(before) && !external(after) {
                stays(&["/spec/clusterIP"]);
            }
        }
        ("", "ConfigMap" | "Secret") => {
            if at(before, "/immutable").and_then(Value::as_bool) == Some(true) {
                for pointer in ["/immutable", "/data", "/binaryData"] {
                    if !same(pointer) {
                        let field = pointer.trim_start_matches('/');
                        faults.forbidden(field, "field is immutable when `immutable` is set");
                    }
                }
            }
            if !same("/type") {
                faults.immutable("type");
            }
        }
        ("", "PersistentVolumeClaim") => {
            let free = ["resources", "volumeName", "volumeAttributesClassName"];
            if rest(before, "/spec", &free) != rest(after, "/spec", &free) {
                faults.forbidden(
                    "spec",
                    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
                );
            }
        }
        ("", "Pod") => check_pod_change(before, after, faults),
        (_, _) => {}
    }
}

fn check_pod_change(before: &Value, after: &Value, faults: &mut Faults) {
    let kept = |object: &Value| {
        let free = [
            "activeDeadlineSeconds",
            "schedulingGates",
            "terminationGracePeriodSeconds",
            "tolerations",
        ];
        let mut spec = rest(object, "/spec", &free);
        for of in ["containers", "initContainers"] {
            let containers = spec.get_mut(of).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                container.remove("image");
            }
        }
        spec
    };
    let added = |pointer: &str| {
        let old = list(before, pointer);
        list(after, pointer).iter().any(|one| !old.contains(one))
    };
    let lost = |pointer: &str| {
        let new = list(after, pointer);
        list(before, pointer).iter().any(|one| !new.contains(one))
    };
    if added("/spec/schedulingGates") {
        faults.forbidden("spec.schedulingGates", "only deletion is allowed");
    }
    let mut others = kept(before) != kept(after) || lost("/spec/tolerations");
    // Of a pod that no node has yet, a selector may become narrower.
    if others && !list(before, "/spec/schedulingGates").is_empty() {
        let narrower = |object: &Value| {
            let mut spec = kept(object);
            spec.remove("nodeSelector");
            spec
        };
        let wider = map(before, "/spec/nodeSelector").any(|(key, value)| {
            at(after, "/spec/nodeSelector").and_then(|of| of.get(key)) != Some(value)
        });
        others = narrower(before) != narrower(after) || wider || lost("/spec/tolerations");
    }
    if others {
        faults.forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        );
    }
}

/// A map without some of its fields.
fn rest(object: &Value, pointer: &str, without: &[&str]) -> Map<String, Value> {
    let fields = map(object, pointer).filter(|(key, _)| !without.contains(&key.as_str()));
    fields.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds::Kinds;
    use super::*;

    fn faults(object: &Value) -> Vec<String> {
        let kinds = Kinds::default();
        let mut faults = Faults::default();
        check(kinds.get(&Kind::of(object)).unwrap(), object, &mut faults);
        faults.0.into_iter().map(|fault| format!("{} {}", fault.field, fault.reason)).collect()
    }

    fn changed(before: &Value, after: &Value) -> Vec<String> {
        let kinds = Kinds::default();
        let mut faults = Faults::default();
        check_change(kinds.get(&Kind::of(before)).unwrap(), before, after, &mut faults);
        faults.0.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn names_fit_their_kind() {
        let long = "a".repeat(64);
        let rows = [
            (
                "ConfigMap",
                "v1",
                vec!["a", "a-b.c", "0", &long],
                vec!["", "A", "-a", "a-", "a_b", "a..b", "a/b"],
            ),
            ("Namespace", "v1", vec!["a", "a-b"], vec!["a.b", &long, "A"]),
            ("Service", "v1", vec!["a", "a1"], vec!["1a", "a.b", &long]),
            ("Role", "rbac.authorization.k8s.io/v1", vec!["a", "A:b_c"], vec!["a/b", "..", "a%"]),
        ];
        for (kind, version, good, bad) in rows {
            let told = |name: &str| {
                let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": {"ports": [{"port": 1}]}});
                faults(&object)
            };
            for name in good {
                assert_eq!(told(name), Vec::<String>::new(), "{kind} {name}");
            }
            for name in bad {
                assert_eq!(told(name).len(), 1, "{kind} {name}");
            }
        }
    }

    #[test]
    fn an_object_has_what_its_kind_needs() {
        let deployment = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec});
        assert_eq!(
            faults(&deployment(json!({"replicas": -1}))),
            [
                "spec.replicas FieldValueInvalid",
                "spec.selector FieldValueRequired",
                "spec.template.spec.containers FieldValueRequired"
            ]
        );
        assert_eq!(
            faults(&deployment(
                json!({"selector": {"matchLabels": {"a": "1"}}, "template": {"metadata": {"labels": {"a": "2"}}, "spec": {"containers": [
                    {"name": "x"}, {"name": "x", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/"}]},
                ]}}})
            )),
            [
                "spec.template.metadata.labels FieldValueInvalid",
                "spec.template.spec.containers[0].image FieldValueRequired",
                "spec.template.spec.containers[1].name FieldValueDuplicate",
                "spec.template.spec.containers[1].volumeMounts[0].name FieldValueNotFound",
            ]
        );
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {"-": "-"}}, "spec": {"ports": [{"port": 0, "name": "a"}, {"port": 1}]}});
        assert_eq!(
            faults(&service),
            [
                "metadata.labels FieldValueInvalid",
                "metadata.labels FieldValueInvalid",
                "spec.ports[0].port FieldValueInvalid",
                "spec.ports[1].name FieldValueRequired"
            ]
        );
    }

    #[test]
    fn some_fields_stay_as_they_are() {
        let of = |kind: &str, version: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
        let rows = [
            (
                "Deployment",
                "apps/v1",
                json!({"selector": {"a": 1}, "replicas": 1}),
                json!({"selector": {"a": 2}, "replicas": 2}),
                vec!["spec.selector"],
            ),
            (
                "StatefulSet",
                "apps/v1",
                json!({"serviceName": "a", "replicas": 1}),
                json!({"serviceName": "a", "replicas": 2}),
                vec![],
            ),
            (
                "StatefulSet",
                "apps/v1",
                json!({"serviceName": "a"}),
                json!({"serviceName": "b"}),
                vec!["spec"],
            ),
            (
                "Service",
                "v1",
                json!({"clusterIP": "1"}),
                json!({"clusterIP": "2"}),
                vec!["spec.clusterIP"],
            ),
            ("Service", "v1", json!({"clusterIP": "1"}), json!({"type": "ExternalName"}), vec![]),
            (
                "Pod",
                "v1",
                json!({"containers": [{"image": "a"}]}),
                json!({"containers": [{"image": "b"}], "tolerations": [{}]}),
                vec![],
            ),
            ("Pod", "v1", json!({"nodeName": "a"}), json!({"nodeName": "b"}), vec!["spec"]),
        ];
        for (kind, version, before, after, wanted) in rows {
            assert_eq!(
                changed(&of(kind, version, before), &of(kind, version, after)),
                wanted,
                "{kind}"
            );
        }
    }
}
