use serde_json::{Value, json};

use super::lists::{Place, Shape};
use super::*;

/// What Kubernetes 1.34.4 gave for a Deployment that we had applied, and that was then scaled, annotated and given another image by others.
fn deployment() -> Value {
    serde_json::from_str(include_str!("samples/deployment.json")).unwrap()
}

/// What we had applied.
fn config() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}, "annotations": {"note": "a"}},
        "spec": {
            "paused": true,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "imagePullSecrets": [{"name": "pull"}],
                    "nodeSelector": {"pool": "a"},
                    "containers": [{
                        "name": "web",
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                        "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
                    }],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                },
            },
        },
    })
}

#[test]
fn an_object_of_a_real_cluster_is_reduced_to_what_we_applied() {
    let mut wanted = config();
    // The name of another owner's field was never ours.
    assert_eq!(applied(&deployment()), Some(wanted.clone()));
    // What is applied again is what is there: the fields that we own are told from it as the API server did.
    let entries = deployment()["metadata"]["managedFields"].clone();
    let fields = &entries[0]["fieldsV1"];
    let port = &mut wanted["spec"]["template"]["spec"]["containers"][0]["ports"][0];
    port.as_object_mut().unwrap().remove("protocol");
    for key in ["name", "namespace"] {
        wanted["metadata"].as_object_mut().unwrap().remove(key);
    }
    let mut told = FieldSet::of(&wanted).to_fields();
    for key in ["f:apiVersion", "f:kind"] {
        told.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(&told, fields);
}

#[test]
fn what_nobody_applied_cannot_be_applied_again() {
    let entry = |manager: &str, operation: &str, subresource: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n", "uid": "u", "managedFields": [{
            "manager": manager, "operation": operation, "subresource": subresource, "fieldsV1": {"f:data": {"f:x": {}}},
        }]}, "data": {"x": "1", "y": "2"}})
    };
    assert_eq!(applied(&json!({})), None);
    assert_eq!(applied(&json!({"metadata": {"name": "a"}})), None);
    assert_eq!(applied(&entry("kubectl", "Apply", "")), None);
    assert_eq!(applied(&entry(FIELD_MANAGER, "Update", "")), None);
    assert_eq!(applied(&entry(FIELD_MANAGER, "Apply", "status")), None);
    let reduced = applied(&entry(FIELD_MANAGER, "Apply", "")).unwrap();
    assert_eq!(
        reduced,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "data": {"x": "1"}})
    );
}

#[test]
fn fields_are_written_as_they_were_read() {
    let entries = deployment()["metadata"]["managedFields"].clone();
    for entry in entries.as_array().unwrap() {
        let set = FieldSet::parse(&entry["fieldsV1"]).unwrap();
        assert_eq!(set.to_fields(), entry["fieldsV1"]);
    }
    let all = json!({"f:a": {".": {}, "v:1": {}, "v:\"x\"": {}, "i:3": {}, "k:{\"a\":1,\"b\":\"c\"}": {"f:b": {}}}});
    let set = FieldSet::parse(&all).unwrap();
    assert_eq!(set.to_fields(), all);
    let told: Vec<String> =
        set.paths().iter().map(|path| path.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(told, [".a", ".a[=\"x\"]", ".a[=1]", ".a[3]", ".a[a=1,b=\"c\"].b"]);
    for wrong in
        [json!(1), json!({"f:a": 1}), json!({"x:a": {}}), json!({"a": {}}), json!({"k:[]": {}})]
    {
        assert_eq!(FieldSet::parse(&wrong), None, "{wrong}");
    }
}

#[test]
fn sets_are_joined_and_told_apart_field_by_field() {
    let set = |fields: Value| FieldSet::parse(&fields).unwrap();
    let one = set(json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}}));
    let other = set(json!({"f:a": {"f:b": {}}, "f:e": {}}));
    let parent = set(json!({"f:a": {}}));
    let rows = [
        (one.union(&other), json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}, "f:e": {}})),
        (one.intersection(&other), json!({"f:a": {"f:b": {}}})),
        (one.difference(&other), json!({"f:a": {".": {}, "f:c": {}}, "f:d": {}})),
        (one.difference(&parent), json!({"f:a": {"f:b": {}, "f:c": {}}, "f:d": {}})),
        (one.outside(&parent), json!({"f:d": {}})),
        (one.inside(&parent), json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}})),
        (other.with_ways(), json!({"f:a": {".": {}, "f:b": {}}, "f:e": {}})),
    ];
    for (got, wanted) in rows {
        assert_eq!(got.to_fields(), wanted);
    }
}

#[test]
fn fields_go_with_all_that_is_below_them() {
    let mut fields = FieldSet::default();
    fields.insert(&["spec", "paused"].map(|name| Element::Field(name.to_owned())));
    fields.insert(&["metadata"].map(|name| Element::Field(name.to_owned())));
    let template =
        ["spec", "template", "spec", "containers"].map(|name| Element::Field(name.to_owned()));
    let mut path = template.to_vec();
    path.push(Element::Key("{\"name\":\"web\"}".to_owned()));
    fields.insert(&path);
    let left = without(&config(), &fields);
    assert_eq!(left.get("metadata"), None);
    assert_eq!(left["spec"].get("paused"), None);
    assert_eq!(left["spec"]["template"]["spec"].get("containers"), None);
    assert_eq!(left["spec"]["selector"], config()["spec"]["selector"]);
}

/// The table against the types of every kind in the OpenAPI document of Kubernetes 1.34.4: pods once, and what is the same for all objects with them.
#[test]
fn lists_and_maps_are_what_kubernetes_says() {
    let mut count = 0;
    for line in include_str!("samples/shapes.txt").lines() {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap().to_owned();
        let kind = Kind::new(word(), word());
        let (path, wanted) = (word(), word());
        let keys: Vec<&str> = words.collect();
        let shape = shape_at(&Place::of(&kind), &path);
        let told = match shape {
            // A list that is plain is one value; of a map the vector would say so.
            Shape::Plain | Shape::Atomic => ("atomic", [].as_slice()),
            Shape::Keyed(keys) => ("keyed", keys),
            Shape::KeyedAtoms(keys) => ("keyed-atoms", keys),
            Shape::Set => ("set", [].as_slice()),
        };
        assert_eq!(told, (wanted.as_str(), keys.as_slice()), "{line}");
        count += 1;
    }
    assert!(count > 250, "{count} lines");
    println!("{count} lists and maps");
}

fn shape_at(place: &Place<'_>, path: &str) -> Shape {
    match path.split_once('.') {
        None => place.field(path).shape(),
        Some((name, rest)) => shape_at(&place.field(name), rest),
    }
}

#[test]
fn of_kinds_that_are_not_kubernetes_own_only_the_metadata_is_known() {
    let kind = Kind::new("acme.example/v1", "Service");
    let root = Place::of(&kind);
    assert_eq!(shape_at(&root, "spec.ports"), Shape::Plain);
    assert_eq!(shape_at(&root, "spec.selector"), Shape::Plain);
    assert_eq!(shape_at(&root, "metadata.finalizers"), Shape::Set);
    assert_eq!(shape_at(&root, "metadata.ownerReferences"), Shape::KeyedAtoms(&["uid"]));
}
