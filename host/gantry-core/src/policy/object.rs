//! What an object of a cluster needs: the grants for what reaches the machine, and what of others it names.
//!
//! A pod is a container by another name, so the same grants hold for both. Every place where an object says how a pod is made is looked at, also in a patch, where the rest of the object is missing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Grant, Verb, bind_source};

/// A kind whose objects say how pods are made, and where.
const PODS: &[(&str, &[&str])] = &[
    ("Pod", &["spec"]),
    ("PodTemplate", &["template", "spec"]),
    ("Deployment", &["spec", "template", "spec"]),
    ("DaemonSet", &["spec", "template", "spec"]),
    ("StatefulSet", &["spec", "template", "spec"]),
    ("ReplicaSet", &["spec", "template", "spec"]),
    ("ReplicationController", &["spec", "template", "spec"]),
    ("Job", &["spec", "template", "spec"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
];

/// Where a secret says whose token it is to hold.
const ACCOUNT_OF_SECRET: &[&str] =
    &["metadata", "annotations", "kubernetes.io/service-account.name"];

/// Annotations of a pod that are profiles of its containers in older words: API servers copy them into the fields, AppArmor's up to now (`applyAppArmorVersionSkew` in the pod's strategy of
/// Kubernetes 1.34), seccomp's up to 1.26.
const PROFILES: &[&str] = &[
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/pod",
];

/// The way to the specification of the pods that an object of this kind makes.
#[must_use]
pub fn pod_spec(kind: &str) -> Option<&'static [&'static str]> {
    PODS.iter().find(|(known, _)| *known == kind).map(|(_, path)| *path)
}

/// The way to the annotations of the pods that an object of this kind makes.
fn pod_annotations(kind: &str) -> Option<Vec<&'static str>> {
    let (_, pod) = pod_spec(kind)?.split_last()?;
    Some(pod.iter().copied().chain(["metadata", "annotations"]).collect())
}

/// What is at the end of a way through an object.
#[must_use]
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |object, key| object.get(key))
}

/// The grants that making or changing this object needs, beyond the one for its kind.
#[must_use]
pub fn needed(kind: &str, object: &Value) -> Vec<Grant> {
    let mut needed = BTreeSet::new();
    if let Some(spec) = pod_spec(kind).and_then(|path| at(object, path)) {
        pod(spec, &mut needed);
    }
    if let Some(annotations) = pod_annotations(kind).and_then(|path| at(object, &path))
        && unconfines(annotations)
    {
        needed.insert(Grant::SecurityOptions);
    }
    if let Some(spec) = object.get("spec") {
        // A volume of the cluster that is a folder of a machine.
        if kind == "PersistentVolume" {
            for source in ["hostPath", "local"] {
                if let Some(source) = spec.get(source) {
                    needed.insert(bind(source.get("path")));
                }
            }
        }
        // Addresses that the cluster takes from whoever has them.
        if kind == "Service" && !empty(spec.get("externalIPs")) {
            needed.insert(Grant::HostNetwork);
        }
    }
    needed.into_iter().collect()
}

/// The places that the operations of a JSON patch name: how each it is written, and the fields on the way. What stands before the first slash is no part of it, as for API servers.
pub fn places(operations: &Value) -> impl Iterator<Item = (&str, Vec<String>)> {
    items(Some(operations)).iter().flat_map(places_of)
}

/// The same of one operation.
fn places_of(operation: &Value) -> impl Iterator<Item = (&str, Vec<String>)> {
    let written = ["path", "from"].map(|key| operation.get(key)).into_iter().flatten();
    written.filter_map(Value::as_str).map(|place| {
        let fields = place.split('/').skip(1);
        (place, fields.map(|field| field.replace("~1", "/").replace("~0", "~")).collect())
    })
}

/// What a change of single fields (a JSON patch) needs: nobody can tell what comes of one that touches how pods are made, what else reaches the machine, or what is given of other objects.
#[must_use]
pub fn needed_by_operations(kind: &str, operations: &Value) -> Vec<Grant> {
    let foreign = |kind: &str| Grant::ForeignObjects(Verb::Read, kind.to_owned());
    let machine = || Grant::Binds("/".to_owned());
    let mut delicate: Vec<(&[&str], Grant)> = match kind {
        "Service" => vec![(&["spec", "externalIPs"], Grant::HostNetwork)],
        "PersistentVolume" => {
            vec![(&["spec", "hostPath"], machine()), (&["spec", "local"], machine())]
        }
        "PersistentVolumeClaim" => vec![
            (&["spec", "volumeName"], foreign("PersistentVolume")),
            (&["spec", "dataSource"], foreign("PersistentVolumeClaim")),
            (&["spec", "dataSourceRef"], foreign("PersistentVolumeClaim")),
        ],
        "StatefulSet" => vec![
            (&["spec", "volumeClaimTemplates"], foreign("PersistentVolume")),
            (&["spec", "volumeClaimTemplates"], foreign("PersistentVolumeClaim")),
        ],
        "Secret" => vec![(ACCOUNT_OF_SECRET, foreign("ServiceAccount"))],
        _ => Vec::new(),
    };
    delicate.extend(pod_spec(kind).map(|path| (path, Grant::Privileged)));
    let mut needed = BTreeSet::new();
    if let Some(annotations) = pod_annotations(kind)
        && items(Some(operations)).iter().any(|operation| unconfines_at(&annotations, operation))
    {
        needed.insert(Grant::SecurityOptions);
    }
    for (_, place) in places(operations) {
        // Below it, or above it with all that is in it.
        let touched = |way: &[&str]| way.iter().zip(&place).all(|(one, other)| one == other);
        let touched = delicate.iter().filter(|(way, _)| touched(way));
        needed.extend(touched.map(|(_, grant)| grant.clone()));
    }
    needed.into_iter().collect()
}

/// Whether an annotation of a pod is the profile of a container.
fn is_profile(annotation: &str) -> bool {
    PROFILES.iter().any(|profile| annotation.starts_with(profile))
}

/// Whether a pod's annotations have a profile that is not the default of the container's runtime.
fn unconfines(annotations: &Value) -> bool {
    const DEFAULTS: [&str; 2] = ["runtime/default", "docker/default"];
    annotations.as_object().into_iter().flatten().any(|(key, profile)| {
        // Null, in a patch, takes one away.
        let default = profile.as_str().is_some_and(|profile| DEFAULTS.contains(&profile));
        is_profile(key) && !default && !profile.is_null()
    })
}

/// Whether an operation of a JSON patch touches a profile in a pod's annotations, or all that is in them. Of all that is set at once it is seen what it is.
fn unconfines_at(annotations: &[&str], operation: &Value) -> bool {
    let word = |key: &str| operation.get(key).and_then(Value::as_str);
    let sets = matches!(word("op"), Some("add" | "replace"));
    places_of(operation).any(|(_, place)| {
        if !annotations.iter().zip(&place).all(|(one, other)| one == other) {
            return false;
        }
        match place.get(annotations.len()) {
            Some(annotation) => is_profile(annotation),
            None if sets && place.len() == annotations.len() => {
                operation.get("value").is_none_or(unconfines)
            }
            None => true,
        }
    })
}

fn pod(spec: &Value, needed: &mut BTreeSet<Grant>) {
    let is = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
    if is(spec.get("hostNetwork")) {
        needed.insert(Grant::HostNetwork);
    }
    if is(spec.get("hostPID")) || is(spec.get("hostIPC")) {
        needed.insert(Grant::HostPid);
    }
    let context = spec.get("securityContext");
    if !empty(context.and_then(|context| context.get("sysctls"))) {
        needed.insert(Grant::Privileged);
    }
    if host_process(context) {
        needed.insert(Grant::Privileged);
    }
    security_options(context, needed);
    for volume in items(spec.get("volumes")) {
        if let Some(path) = volume.get("hostPath") {
            needed.insert(bind(path.get("path")));
        }
    }
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    for container in containers.iter().flat_map(|key| items(spec.get(key))) {
        let context = container.get("securityContext");
        let of = |key: &str| context.and_then(|context| context.get(key));
        let unmasked =
            of("procMount").and_then(Value::as_str).is_some_and(|word| word != "Default");
        if is(of("privileged")) || unmasked || host_process(context) {
            needed.insert(Grant::Privileged);
        }
        if !empty(of("capabilities").and_then(|all| all.get("add"))) {
            needed.insert(Grant::Capabilities);
        }
        security_options(context, needed);
        for port in items(container.get("ports")) {
            if port.get("hostPort").and_then(Value::as_u64).unwrap_or(0) != 0 {
                needed.insert(Grant::HostNetwork);
            }
        }
    }
}

/// Whether a container is no more than a process of the machine: what `privileged` is on Windows.
fn host_process(context: Option<&Value>) -> bool {
    let process = context.and_then(|context| at(context, &["windowsOptions", "hostProcess"]));
    process.and_then(Value::as_bool).unwrap_or(false)
}

/// What weakens the walls around a container.
fn security_options(context: Option<&Value>, needed: &mut BTreeSet<Grant>) {
    let of = |key: &str| context.and_then(|context| context.get(key));
    let unconfined = ["seccompProfile", "appArmorProfile"].iter().any(|key| {
        let kind = of(key).and_then(|profile| profile.get("type")).and_then(Value::as_str);
        kind.is_some_and(|kind| kind != "RuntimeDefault")
    });
    if unconfined || !empty(of("seLinuxOptions")) {
        needed.insert(Grant::SecurityOptions);
    }
}

/// An object in the same namespace, or in none, that an object is given something of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind, of the core group.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether what is in it comes into pods, also when it is made after them: the kubelet gives it to whoever names it.
    pub handed: bool,
}

/// What an object, or the pods that it makes, is given of other objects: a pod that names another's secret reads it, a claim that names another's reads what is in that, and a secret that is an
/// account's holds its token.
#[must_use]
pub fn references(kind: &str, object: &Value) -> Vec<Reference> {
    let mut found = BTreeMap::new();
    let mut add = |handed: bool, kind: &'static str, name: Option<&Value>| {
        if let Some(name) = name.and_then(Value::as_str).filter(|name| !name.is_empty()) {
            *found.entry((kind, name.to_owned())).or_insert(false) |= handed;
        }
    };
    match (kind, object.get("spec")) {
        ("PersistentVolumeClaim", Some(spec)) => claim(spec, &mut add),
        ("StatefulSet", Some(spec)) => {
            for template in items(spec.get("volumeClaimTemplates")) {
                claim(template.get("spec").unwrap_or(&Value::Null), &mut add);
            }
        }
        ("Secret", _) => {
            add(false, "ServiceAccount", at(object, ACCOUNT_OF_SECRET));
        }
        _ => {}
    }
    if let Some(spec) = pod_spec(kind).and_then(|path| at(object, path)) {
        pod_references(spec, &mut add);
    }
    found.into_iter().map(|((kind, name), handed)| Reference { kind, name, handed }).collect()
}

/// What a claim takes, and what it is filled with. A source of another kind than these, such as a snapshot, is of a controller that says itself who may.
fn claim(spec: &Value, add: &mut impl FnMut(bool, &'static str, Option<&Value>)) {
    add(false, "PersistentVolume", spec.get("volumeName"));
    for source in ["dataSource", "dataSourceRef"] {
        let source = spec.get(source).filter(|source| {
            source.get("kind").and_then(Value::as_str) == Some("PersistentVolumeClaim")
        });
        add(false, "PersistentVolumeClaim", source.and_then(|source| source.get("name")));
    }
}

fn pod_references(spec: &Value, add: &mut impl FnMut(bool, &'static str, Option<&Value>)) {
    for key in ["serviceAccountName", "serviceAccount"] {
        // The account that every pod has who names none.
        add(false, "ServiceAccount", spec.get(key).filter(|name| *name != "default"));
    }
    // The kubelet pulls with them, and shows them to no container.
    for secret in items(spec.get("imagePullSecrets")) {
        add(false, "Secret", secret.get("name"));
    }
    for volume in items(spec.get("volumes")) {
        add(true, "Secret", at(volume, &["secret", "secretName"]));
        add(true, "ConfigMap", at(volume, &["configMap", "name"]));
        add(false, "PersistentVolumeClaim", at(volume, &["persistentVolumeClaim", "claimName"]));
        if let Some(spec) = at(volume, &["ephemeral", "volumeClaimTemplate", "spec"]) {
            claim(spec, add);
        }
        for source in items(at(volume, &["projected", "sources"])) {
            add(true, "Secret", at(source, &["secret", "name"]));
            add(true, "ConfigMap", at(source, &["configMap", "name"]));
        }
        // Drivers of many kinds, which all name the secret that they are to use in the same way.
        for source in volume.as_object().into_iter().flat_map(|volume| volume.values()) {
            for key in ["secretRef", "nodePublishSecretRef"] {
                add(true, "Secret", at(source, &[key, "name"]));
            }
            // Azure's has it in a word.
            add(true, "Secret", source.get("secretName"));
        }
    }
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    for container in containers.iter().flat_map(|key| items(spec.get(key))) {
        for source in items(container.get("envFrom")) {
            add(true, "Secret", at(source, &["secretRef", "name"]));
            add(true, "ConfigMap", at(source, &["configMapRef", "name"]));
        }
        for env in items(container.get("env")) {
            add(true, "Secret", at(env, &["valueFrom", "secretKeyRef", "name"]));
            add(true, "ConfigMap", at(env, &["valueFrom", "configMapKeyRef", "name"]));
        }
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(object)) => object.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => false,
    }
}

fn bind(path: Option<&Value>) -> Grant {
    let path = path.and_then(Value::as_str).filter(|path| path.starts_with('/'));
    Grant::Binds(path.and_then(bind_source).unwrap_or_else(|| "/".to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_pod(spec: Value) -> Vec<String> {
        let pod = needed("Pod", &json!({"spec": spec.clone()}));
        let deployment = needed("Deployment", &json!({"spec": {"template": {"spec": spec}}}));
        assert_eq!(pod, deployment);
        pod.iter().map(Grant::to_string).collect()
    }

    #[test]
    fn a_plain_pod_needs_nothing() {
        let spec = json!({
            "securityContext": {"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "web", "image": "i", "ports": [{"containerPort": 80}],
                "securityContext": {"capabilities": {"drop": ["ALL"]}, "privileged": false}}],
        });
        assert!(of_pod(spec).is_empty());
    }

    #[test]
    fn what_in_a_pod_reaches_the_machine_needs_the_grant_of_a_container() {
        let container = |extra: Value| {
            let mut container = json!({"name": "web"});
            container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            json!({"initContainers": [container]})
        };
        let context = |context: Value| container(json!({"securityContext": context}));
        for (spec, grant) in [
            (json!({"hostNetwork": true}), "containers:host-network"),
            (container(json!({"ports": [{"hostPort": 80}]})), "containers:host-network"),
            (json!({"hostPID": true}), "containers:host-pid"),
            (json!({"hostIPC": true}), "containers:host-pid"),
            (context(json!({"privileged": true})), "containers:privileged"),
            (context(json!({"procMount": "Unmasked"})), "containers:privileged"),
            (json!({"securityContext": {"sysctls": [{"name": "x"}]}}), "containers:privileged"),
            (context(json!({"windowsOptions": {"hostProcess": true}})), "containers:privileged"),
            (
                json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
                "containers:privileged",
            ),
            (context(json!({"capabilities": {"add": ["NET_ADMIN"]}})), "containers:capabilities"),
            (
                context(json!({"seccompProfile": {"type": "Unconfined"}})),
                "containers:security-options",
            ),
            (
                json!({"securityContext": {"seLinuxOptions": {"type": "x"}}}),
                "containers:security-options",
            ),
            (json!({"volumes": [{"hostPath": {"path": "/etc/"}}]}), "containers:binds:/etc"),
            (json!({"volumes": [{"hostPath": {"path": "/a/../etc"}}]}), "containers:binds:/"),
            (json!({"volumes": [{"hostPath": {}}]}), "containers:binds:/"),
        ] {
            assert_eq!(of_pod(spec.clone()), [grant], "{spec}");
        }
    }

    #[test]
    fn a_profile_in_the_annotations_of_a_pod_needs_what_the_field_does() {
        const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/web";
        const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/web";
        const OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
        for (key, profile, weak) in [
            (APP_ARMOR, json!("unconfined"), true),
            (APP_ARMOR, json!("localhost/weak"), true),
            (APP_ARMOR, json!("runtime/default"), false),
            (APP_ARMOR, json!(null), false),
            (SECCOMP, json!("unconfined"), true),
            (SECCOMP, json!("docker/default"), false),
            (OF_POD, json!("unconfined"), true),
            (OF_POD, json!("runtime/default"), false),
            ("note", json!("unconfined"), false),
        ] {
            let metadata = json!({"annotations": {(key): profile}});
            let template = json!({"metadata": metadata});
            let job = json!({"spec": {"template": template}});
            let expected: &[_] = if weak { &[Grant::SecurityOptions] } else { &[] };
            for (kind, object) in [
                ("Pod", template.clone()),
                ("PodTemplate", json!({"template": template})),
                ("Deployment", json!({"spec": {"template": template}})),
                ("CronJob", json!({"spec": {"jobTemplate": job}})),
            ] {
                assert_eq!(needed(kind, &object), expected, "{kind} {metadata}");
            }
            // Nobody hands them on to pods.
            assert!(needed("Deployment", &template).is_empty());
            assert!(needed("Service", &template).is_empty());

            let whole =
                json!([{"op": "add", "path": "/metadata/annotations", "value": {(key): profile}}]);
            assert_eq!(needed_by_operations("Pod", &whole), expected, "{metadata}");
            assert!(needed_by_operations("Deployment", &whole).is_empty());
        }
        let app_armor = "/metadata/annotations/container.apparmor.security.beta.kubernetes.io~1web";
        for (operation, weak) in [
            (json!({"op": "add", "path": app_armor, "value": "unconfined"}), true),
            (json!({"op": "copy", "from": "/metadata/labels/x", "path": app_armor}), true),
            (
                json!({"op": "copy", "from": "/metadata/labels", "path": "/metadata/annotations"}),
                true,
            ),
            (json!({"op": "add", "path": "/metadata", "value": {}}), true),
            (json!({"op": "add", "path": "/metadata/annotations/note", "value": "x"}), false),
            (json!({"op": "add", "path": "/metadata/labels/x", "value": "x"}), false),
        ] {
            let needed = needed_by_operations("Pod", &json!([operation]));
            assert_eq!(needed.contains(&Grant::SecurityOptions), weak, "{operation}");
        }
        let of_template = json!([{"op": "add", "path": format!("/spec/template{app_armor}")}]);
        assert_eq!(needed_by_operations("Job", &of_template), [Grant::SecurityOptions]);
    }

    #[test]
    fn what_else_reaches_the_machine_needs_it_too() {
        let words = |kind: &str, object: Value| -> Vec<String> {
            needed(kind, &object).iter().map(Grant::to_string).collect()
        };
        let volume = json!({"spec": {"local": {"path": "/srv"}}});
        assert_eq!(words("PersistentVolume", volume), ["containers:binds:/srv"]);
        let service = json!({"spec": {"externalIPs": ["10.0.0.1"]}});
        assert_eq!(words("Service", service), ["containers:host-network"]);
        let job =
            json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"hostPID": true}}}}}});
        assert_eq!(words("CronJob", job), ["containers:host-pid"]);
    }

    #[test]
    fn single_fields_of_a_pod_need_everything() {
        let touching = |kind: &str, path: &str| {
            !needed_by_operations(kind, &json!([{"op": "add", "path": path}])).is_empty()
        };
        for (kind, path, touches) in [
            ("Deployment", "/spec/template/spec/containers/0/image", true),
            ("Deployment", "/spec/template", true),
            ("Deployment", "/spec", true),
            ("Deployment", "", true),
            ("Deployment", "/spec/replicas", false),
            ("Deployment", "/spec/template/specs", false),
            ("Pod", "/spec/x", true),
            ("Pod", "/metadata/labels/x", false),
            ("Node", "/spec/unschedulable", false),
            // What stands before the first slash is passed over.
            ("Deployment", "x/spec/template/spec/hostNetwork", true),
            ("Deployment", "x", true),
            ("Service", "/spec/externalIPs", true),
            ("Service", "/spec/externalIPs/0", true),
            ("Service", "/spec", true),
            ("Service", "/spec/ports", false),
            ("PersistentVolume", "/spec/hostPath/path", true),
            ("PersistentVolume", "/spec/local", true),
            ("PersistentVolumeClaim", "/spec/volumeName", true),
            ("PersistentVolumeClaim", "/spec/resources", false),
            ("StatefulSet", "/spec/volumeClaimTemplates/0/spec/volumeName", true),
            ("Secret", "/metadata/annotations/kubernetes.io~1service-account.name", true),
            ("Secret", "/metadata/annotations/note", false),
            ("Secret", "/data/a", false),
        ] {
            assert_eq!(touching(kind, path), touches, "{kind} {path}");
        }
        let moved = json!([{"op": "copy", "from": "/spec/template", "path": "/metadata/x"}]);
        let all = [Grant::Privileged, Grant::SecurityOptions];
        assert_eq!(needed_by_operations("Deployment", &moved), all);
    }

    #[test]
    fn what_a_pod_is_given_of_others_is_found() {
        let spec = json!({
            "serviceAccountName": "robot",
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"secret": {"secretName": "s1"}}, {"configMap": {"name": "c1"}},
                {"persistentVolumeClaim": {"claimName": "p1"}},
                {"projected": {"sources": [{"secret": {"name": "s2"}}, {"configMap": {"name": "c2"}}]}},
                {"csi": {"nodePublishSecretRef": {"name": "s3"}}},
                {"azureFile": {"secretName": "s4"}},
                {"ephemeral": {"volumeClaimTemplate": {"spec": {"volumeName": "v1"}}}},
            ],
            "containers": [{
                "envFrom": [{"secretRef": {"name": "s5"}}, {"configMapRef": {"name": "c3"}}],
                "env": [{"valueFrom": {"secretKeyRef": {"name": "s6", "key": "k"}}},
                        {"valueFrom": {"configMapKeyRef": {"name": "c4", "key": "k"}}}],
            }],
        });
        let found = references("Pod", &json!({"spec": spec}));
        for found in &found {
            // Whoever makes one of these later gives it to the pod.
            let handed = ["Secret", "ConfigMap"].contains(&found.kind) && found.name != "pull";
            assert_eq!(found.handed, handed, "{found:?}");
        }
        let found: Vec<_> =
            found.iter().map(|found| format!("{} {}", found.kind, found.name)).collect();
        assert_eq!(
            found,
            [
                "ConfigMap c1",
                "ConfigMap c2",
                "ConfigMap c3",
                "ConfigMap c4",
                "PersistentVolume v1",
                "PersistentVolumeClaim p1",
                "Secret pull",
                "Secret s1",
                "Secret s2",
                "Secret s3",
                "Secret s4",
                "Secret s5",
                "Secret s6",
                "ServiceAccount robot",
            ]
        );
        let twice = json!({"imagePullSecrets": [{"name": "s"}], "volumes": [{"secret": {"secretName": "s"}}]});
        let found = references("Pod", &json!({"spec": twice}));
        assert_eq!(found, [Reference { kind: "Secret", name: "s".to_owned(), handed: true }]);
        assert!(references("Pod", &json!({"spec": {"serviceAccountName": "default"}})).is_empty());
        assert!(references("Service", &json!({"spec": {"serviceAccountName": "x"}})).is_empty());
    }
    #[test]
    fn what_claims_and_secrets_are_given_of_others_is_found() {
        let found = |kind: &str, object: Value| -> Vec<String> {
            let found = references(kind, &object).into_iter();
            found.map(|found| format!("{} {}", found.kind, found.name)).collect()
        };
        let claim = json!({
            "volumeName": "v",
            "dataSource": {"kind": "PersistentVolumeClaim", "name": "c1"},
            "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "c2"},
        });
        let all = ["PersistentVolume v", "PersistentVolumeClaim c1", "PersistentVolumeClaim c2"];
        assert_eq!(found("PersistentVolumeClaim", json!({"spec": claim})), all);
        let templates = json!({"spec": {"volumeClaimTemplates": [{"spec": claim}]}});
        assert_eq!(found("StatefulSet", templates), all);
        let snapshot = json!({"spec": {"dataSource": {"kind": "VolumeSnapshot", "name": "s"}}});
        assert!(found("PersistentVolumeClaim", snapshot).is_empty());
        let token =
            json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": "robot"}}});
        assert_eq!(found("Secret", token.clone()), ["ServiceAccount robot"]);
        assert!(found("ConfigMap", token).is_empty());
    }
}
