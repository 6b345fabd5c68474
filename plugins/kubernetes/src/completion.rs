//! Waiting for pods that run once (spec 7.5): until their containers run, and until they have ended well.

use gantry_sdk::gantry_core::container::Image;
use gantry_sdk::{Error, Result, quote};
use serde_json::Value;

use crate::object::{items, number, text};
use crate::rollout::invalid_phase;

/// Whether all containers of the pod run.
///
/// # Errors
///
/// One has ended before the others ran, or the pod has failed.
pub fn is_running(pod: &Value, events: &[Value]) -> Result<bool> {
    let statuses = items(pod, "/status/containerStatuses");
    for status in statuses {
        if let Some(ended) = status.pointer("/state/terminated") {
            let container = quote(text(status, "/name"));
            return Err(Error::Other(format!(
                "unexpected container {container} termination: Exit {} - Reason: {} - Message: {}",
                number(ended, "/exitCode"),
                quote(text(ended, "/reason")),
                quote(text(ended, "/message")),
            )));
        }
    }
    not_failed(pod, events)?;
    let wanted = items(pod, "/spec/containers").len();
    let running = statuses.iter().filter(|status| status.pointer("/state/running").is_some());
    Ok(text(pod, "/status/phase") == "Running" && running.count() >= wanted)
}

/// Whether the pod has ended well.
///
/// # Errors
///
/// It has failed, or nobody knows how it is.
pub fn is_finished(pod: &Value, events: &[Value]) -> Result<bool> {
    not_failed(pod, events)?;
    Ok(text(pod, "/status/phase") == "Succeeded")
}

/// How the container of a command ended, once it has.
pub fn exit_code(pod: &Value, container: &str) -> Option<i64> {
    let statuses = items(pod, "/status/containerStatuses").iter();
    let ended = statuses
        .filter(|status| text(status, "/name") == container)
        .find_map(|status| status.pointer("/state/terminated"))?;
    Some(number(ended, "/exitCode"))
}

/// What the container of an agent gave as the reason of its end, when that was none of the good ones.
pub fn reason(pod: &Value, container: &str) -> Option<String> {
    let statuses = items(pod, "/status/containerStatuses").iter();
    let ended = statuses
        .filter(|status| text(status, "/name") == container)
        .find_map(|status| status.pointer("/state/terminated"))?;
    let message = text(ended, "/message").trim();
    (number(ended, "/exitCode") != 0 && !message.is_empty()).then(|| message.to_owned())
}

/// So often a node tries to pull an image before nobody waits for it any more: a registry that is busy for a moment ends nothing.
const PULLS: i64 = 2;

/// Why a container of the pod will not start, when its image is the reason.
pub fn image_missing(pod: &Value, events: &[Value]) -> Option<String> {
    let all = ["/status/initContainerStatuses", "/status/containerStatuses"];
    let waiting = all
        .into_iter()
        .flat_map(|statuses| items(pod, statuses))
        .filter_map(|status| status.pointer("/state/waiting"));
    let mut told = waiting.map(|waiting| (text(waiting, "/reason"), text(waiting, "/message")));
    let (reason, message) = told.find(|(reason, message)| match *reason {
        "InvalidImageName" | "ErrImageNeverPull" => true,
        "ErrImagePull" | "ImagePullBackOff" => is_refused(message) || failed_pulls(events) >= PULLS,
        _ => false,
    })?;
    Some(format!("{reason}: {message}"))
}

/// Whether a registry has answered that it does not give the image: asking again changes nothing.
fn is_refused(message: &str) -> bool {
    const ANSWERS: [&str; 6] =
        ["not found", "manifest unknown", "does not exist", "denied", "unauthorized", "forbidden"];
    let message = message.to_lowercase();
    ANSWERS.iter().any(|answer| message.contains(answer))
}

/// How often the pod's node could not pull an image: one event stands for all that are alike.
fn failed_pulls(events: &[Value]) -> i64 {
    let failed = events.iter().filter(|event| {
        text(event, "/reason") == "Failed"
            && text(event, "/message").starts_with("Failed to pull image")
    });
    failed.map(|event| number(event, "/count").max(1)).sum()
}

fn not_failed(pod: &Value, events: &[Value]) -> Result<()> {
    match text(pod, "/status/phase") {
        "Failed" | "Unknown" => Err(Error::Other(invalid_phase(pod, events))),
        _ => Ok(()),
    }
}

/// What the agent tells about an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// The image, as its engine tells it.
    pub image: Image,
    /// Its Procfile; may be empty.
    pub procfile: String,
    /// What its `tsuru.yaml` says, as JSON.
    pub yaml: Value,
}

/// Reads what the agent of an inspecting pod wrote.
///
/// # Errors
///
/// It is something else.
pub fn inspection(output: &str) -> Result<Inspection> {
    let invalid = || {
        let output = quote(output);
        Error::Other(format!("invalid image inspect response: {output}"))
    };
    let answer: Value = serde_json::from_str(output).map_err(|_| invalid())?;
    if !answer.is_object() {
        return Err(invalid());
    }
    let part = |key: &str| answer.get(key).filter(|value| !value.is_null()).cloned();
    let image = match part("Image") {
        Some(image) => serde_json::from_value(image).map_err(|_| invalid())?,
        None => Image::default(),
    };
    let procfile = text(&answer, "/Procfile").to_owned();
    Ok(Inspection { image, procfile, yaml: part("TsuruYaml").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(phase: &str, states: &[Value]) -> Value {
        let statuses: Vec<Value> = states
            .iter()
            .enumerate()
            .map(|(index, state)| json!({"name": format!("c{index}"), "state": state}))
            .collect();
        json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c0"}, {"name": "c1"}]},
            "status": {"phase": phase, "containerStatuses": statuses},
        })
    }

    #[test]
    fn a_pod_runs_when_all_its_containers_do() {
        let run = json!({"running": {}});
        assert_eq!(is_running(&pod("Pending", &[]), &[]), Ok(false));
        assert_eq!(
            is_running(&pod("Running", &[run.clone(), json!({"waiting": {}})]), &[]),
            Ok(false)
        );
        assert_eq!(is_running(&pod("Running", std::slice::from_ref(&run)), &[]), Ok(false));
        assert_eq!(is_running(&pod("Running", &[run.clone(), run]), &[]), Ok(true));
    }

    #[test]
    fn a_container_that_ends_too_early_is_told() {
        let ended = json!({"terminated": {"exitCode": 9, "reason": "Error", "message": "no"}});
        let error = is_running(&pod("Running", &[json!({"running": {}}), ended]), &[]);
        let text =
            r#"unexpected container "c1" termination: Exit 9 - Reason: "Error" - Message: "no""#;
        assert_eq!(error.unwrap_err().to_string(), text);
    }

    #[test]
    fn a_pod_ends_well_or_badly() {
        assert_eq!(is_finished(&pod("Running", &[]), &[]), Ok(false));
        assert_eq!(is_finished(&pod("Succeeded", &[]), &[]), Ok(true));
        for phase in ["Failed", "Unknown"] {
            let error = is_finished(&pod(phase, &[]), &[]).unwrap_err().to_string();
            assert_eq!(error, format!("invalid pod phase \"{phase}\""));
        }
        let ended = pod("Failed", &[json!({"terminated": {"exitCode": 3}})]);
        assert_eq!((exit_code(&ended, "c0"), exit_code(&ended, "c1")), (Some(3), None));
    }

    #[test]
    fn an_agent_says_why_it_ended() {
        let ended = |code: i64, message: &str| {
            pod(
                "Failed",
                &[json!({}), json!({"terminated": {"exitCode": code, "message": message}})],
            )
        };
        assert_eq!(
            reason(&ended(1, "`make` ended with 3\n"), "c1").as_deref(),
            Some("`make` ended with 3")
        );
        for (pod, container) in [
            (ended(0, "x"), "c1"),
            (ended(1, ""), "c1"),
            (ended(1, "x"), "c0"),
            (ended(1, "x"), "c2"),
        ] {
            assert_eq!(reason(&pod, container), None);
        }
    }

    #[test]
    fn an_image_that_is_missing_is_told_of_whichever_container_it_is() {
        let waits = |reason: &str| json!({"state": {"waiting": {"reason": reason, "message": "x: not found"}}});
        let with = |first: Value, second: Value| json!({"status": {"initContainerStatuses": [first], "containerStatuses": [second]}});
        let told = Some("ErrImagePull: x: not found".to_owned());
        let starting = waits("PodInitializing");
        assert_eq!(image_missing(&with(waits("ErrImagePull"), starting.clone()), &[]), told);
        assert_eq!(image_missing(&with(json!({}), waits("ErrImagePull")), &[]), told);
        assert_eq!(image_missing(&with(json!({}), starting), &[]), None);
        assert_eq!(image_missing(&json!({}), &[]), None);
    }

    #[test]
    fn a_registry_that_is_busy_is_asked_once_more() {
        let waits = |reason: &str, message: &str| {
            let waiting = json!({"waiting": {"reason": reason, "message": message}});
            json!({"status": {"containerStatuses": [{"state": waiting}]}})
        };
        let failed = |message: &str, count: i64| json!({"reason": "Failed", "message": message, "count": count});
        let once = [
            failed("Failed to pull image \"x\": TLS handshake timeout", 1),
            failed("Error: ErrImagePull", 5),
        ];
        let again = [failed("Failed to pull image \"x\": TLS handshake timeout", 2)];
        let others = [once[0].clone(), failed("Failed to pull image \"x\": EOF", 1)];
        for (reason, message, events, is_missing) in [
            ("ErrImagePull", "pull QPS exceeded", &[][..], false),
            ("ErrImagePull", "TLS handshake timeout", &once, false),
            ("ImagePullBackOff", "Back-off pulling image \"x\"", &once, false),
            ("ErrImagePull", "TLS handshake timeout", &again, true),
            ("ErrImagePull", "EOF", &others, true),
            ("ErrImagePull", "pull access denied for x", &[], true),
            ("ImagePullBackOff", "unexpected status: 401 Unauthorized", &[], true),
            ("InvalidImageName", "m", &[], true),
            ("ErrImageNeverPull", "m", &[], true),
            ("ContainerCreating", "not found", &again, false),
        ] {
            let missing = image_missing(&waits(reason, message), events);
            assert_eq!(missing, is_missing.then(|| format!("{reason}: {message}")), "{message}");
        }
    }

    #[test]
    fn an_inspection_has_three_parts_that_may_be_missing() {
        let output = json!({
            "Image": {"Id": "sha256:1"}, "Procfile": "web: x", "TsuruYaml": {"healthcheck": {}},
        });
        let read = inspection(&output.to_string()).unwrap();
        assert_eq!((read.image.id.as_str(), read.procfile.as_str()), ("sha256:1", "web: x"));
        assert_eq!(read.yaml, json!({"healthcheck": {}}));
        assert_eq!(inspection("{}").unwrap().image, Image::default());
        for output in ["", "[]", "no\n", r#"{"Image": 5}"#] {
            let error = inspection(output).unwrap_err().to_string();
            assert!(error.starts_with("invalid image inspect response: \""), "{error}");
        }
    }
}
