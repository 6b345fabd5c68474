//! Events of the cluster, as people read them.

use serde_json::Value;

use crate::object::{name, number, text};

/// What tells an event from others, and from itself when it happens again.
pub(super) fn key(event: &Value) -> (String, String) {
    let version = text(event, "/metadata/resourceVersion");
    let version =
        if version.is_empty() { number(event, "/count").to_string() } else { version.to_owned() };
    (name(event).to_owned(), version)
}

/// Whether the event is about a pod of the Deployment.
pub(crate) fn is_of_pods(event: &Value, deployment: &str) -> bool {
    let rest = name(event).strip_prefix(deployment);
    text(event, "/involvedObject/kind") == "Pod" && rest.is_some_and(|rest| rest.starts_with('-'))
}

/// What happened to what, and who says so.
pub(crate) fn line(event: &Value) -> String {
    let reporter = match text(event, "/source/component") {
        "" => text(event, "/reportingComponent"),
        component => component,
    };
    let host = match text(event, "/source/host") {
        "" => String::new(),
        host => format!(", {host}"),
    };
    let object = text(event, "/involvedObject/name");
    format!("{object} - {} [{reporter}{host}]", text(event, "/message"))
}

/// The last thing that happened to a pod.
pub(super) fn last_of_pod<'a>(events: &'a [Value], pod: &str) -> Option<&'a str> {
    let of_pod = events.iter().filter(|event| {
        text(event, "/involvedObject/kind") == "Pod" && text(event, "/involvedObject/name") == pod
    });
    // Of two at one time the later in the list. The cluster's times sort as texts.
    of_pod.max_by_key(|event| time(event)).map(|event| text(event, "/message"))
}

fn time(event: &Value) -> &str {
    ["/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .into_iter()
        .map(|field| text(event, field))
        .find(|time| !time.is_empty())
        .unwrap_or_default()
}
