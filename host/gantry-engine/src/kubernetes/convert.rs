//! Our values as the documents and words of Kubernetes' API, and back.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::call::cluster::{
    DeleteOptions, Kind, ObjectPage, Patch, PodExecOptions, PodLogOptions, Propagation, Selection,
    word,
};
use crate::kubernetes::wire::Ask;

/// The name and the namespace that an object says it has; empty words for what it does not say.
pub(super) fn place(object: &Value) -> (&str, &str) {
    (word(object, "namespace"), word(object, "name"))
}

/// `name`, or `namespace/name`.
pub(super) fn shown(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// How the kind of a patch is called, and its document.
pub(super) fn patch(patch: &Patch) -> (&'static str, &Value) {
    match patch {
        Patch::Merge(value) => ("application/merge-patch+json", value),
        Patch::Strategic(value) => ("application/strategic-merge-patch+json", value),
        Patch::Json(value) => ("application/json-patch+json", value),
    }
}

/// `metav1.DeleteOptions`.
pub(super) fn delete_options(from: &DeleteOptions) -> Value {
    let mut options = json!({
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "propagationPolicy": match from.propagation {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        },
    });
    let mut conditions = serde_json::Map::new();
    for (key, value) in [("uid", &from.uid), ("resourceVersion", &from.resource_version)] {
        if !value.is_empty() {
            conditions.insert(key.to_owned(), json!(value));
        }
    }
    if let Some(options) = options.as_object_mut() {
        if let Some(seconds) = from.grace_seconds {
            options.insert("gracePeriodSeconds".to_owned(), json!(seconds));
        }
        if !conditions.is_empty() {
            options.insert("preconditions".to_owned(), Value::Object(conditions));
        }
        if from.dry_run {
            options.insert("dryRun".to_owned(), json!(["All"]));
        }
    }
    options
}

/// `policy/v1` `Eviction`. kube's own has its options under a name that no server reads.
pub(super) fn eviction(namespace: &str, pod: &str, grace_seconds: Option<u32>) -> Value {
    let mut eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"namespace": namespace, "name": pod},
    });
    if let (Some(seconds), Some(eviction)) = (grace_seconds, eviction.as_object_mut()) {
        eviction.insert("deleteOptions".to_owned(), json!({"gracePeriodSeconds": seconds}));
    }
    eviction
}

/// A question with a selection.
pub(super) fn selected(ask: Ask, selection: &Selection) -> Ask {
    let Selection { namespace: _, labels, fields } = selection;
    ask.with_if(!labels.is_empty(), "labelSelector", labels).with_if(
        !fields.is_empty(),
        "fieldSelector",
        fields,
    )
}

/// A page of a list. Its objects say their kind, as those of a watch do: a server leaves that out in lists.
pub(super) fn page(body: &[u8], kind: &Kind) -> Option<ObjectPage> {
    #[derive(Deserialize)]
    struct List {
        // Go writes nothing as null.
        items: Option<Vec<Value>>,
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Metadata {
        r#continue: String,
        resource_version: String,
    }
    let list: List = serde_json::from_slice(body).ok()?;
    let mut items = list.items.unwrap_or_default();
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        for (key, value) in [("apiVersion", &kind.api_version), ("kind", &kind.kind)] {
            item.entry(key).or_insert_with(|| json!(value));
        }
    }
    let Metadata { r#continue: next, resource_version } = list.metadata;
    Some(ObjectPage { items, next, resource_version })
}

/// A question for a log.
pub(super) fn log(ask: Ask, options: &PodLogOptions) -> Ask {
    ask.with_if(!options.container.is_empty(), "container", &options.container)
        .with_if(options.follow, "follow", "true")
        .with_if(options.timestamps, "timestamps", "true")
        .with_if(options.previous, "previous", "true")
        .with_if(options.lines < u32::MAX, "tailLines", options.lines.to_string())
}

/// A question for a process: with a terminal everything it writes is one stream.
pub(super) fn process(ask: Ask, options: &PodExecOptions) -> Ask {
    let ask = ask
        .with_if(!options.container.is_empty(), "container", &options.container)
        .with_if(options.stdin, "stdin", "true")
        .with("stdout", "true")
        .with_if(!options.tty, "stderr", "true")
        .with_if(options.tty, "tty", "true");
    options.command.iter().fold(ask, |ask, word| ask.with("command", word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_says_where_it_is() {
        for (object, place_of) in [
            (json!({"metadata": {"name": "a", "namespace": "b"}}), ("b", "a")),
            (json!({"metadata": {"name": "a"}}), ("", "a")),
            (json!({"metadata": {"name": 7}}), ("", "")),
            (json!({}), ("", "")),
            (json!([]), ("", "")),
        ] {
            assert_eq!(place(&object), place_of, "{object}");
        }
    }

    #[test]
    fn a_deletion_says_only_what_it_was_told() {
        let plain =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        assert_eq!(delete_options(&DeleteOptions::default()), plain);
        let all = DeleteOptions {
            propagation: Propagation::Foreground,
            grace_seconds: Some(0),
            uid: "u".to_owned(),
            resource_version: "7".to_owned(),
            dry_run: true,
        };
        let expected = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground",
            "gracePeriodSeconds": 0, "preconditions": {"uid": "u", "resourceVersion": "7"},
            "dryRun": ["All"],
        });
        assert_eq!(delete_options(&all), expected);
    }

    #[test]
    fn an_eviction_passes_the_grace_on() {
        assert_eq!(eviction("a", "b", None).get("deleteOptions"), None);
        assert_eq!(eviction("a", "b", Some(3))["deleteOptions"], json!({"gracePeriodSeconds": 3}));
    }

    #[test]
    fn the_objects_of_a_list_say_their_kind() {
        let kind = Kind::new("v1", "ConfigMap");
        let body =
            br#"{"kind": "ConfigMapList", "metadata": {"continue": "c", "resourceVersion": "9"},
            "items": [{"metadata": {"name": "a"}}, {"kind": "Other", "metadata": {}}]}"#;
        let read = page(body, &kind).unwrap();
        assert_eq!((read.next.as_str(), read.resource_version.as_str()), ("c", "9"));
        assert_eq!(Kind::of(&read.items[0]), kind);
        assert_eq!(Kind::of(&read.items[1]).kind, "Other");
        let empty = page(br#"{"metadata": {}, "items": null}"#, &kind).unwrap();
        assert_eq!(empty, ObjectPage::default());
        assert_eq!(page(b"{}", &kind), None);
    }
}
