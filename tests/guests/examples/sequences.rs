//! Sequences as they are told: every function of `exec` submits those of its only argument at once, and shows each as it ends, as `<number> <what its steps gave> <its failure>`.
//!
//! The argument is a JSON list of `{"node": text, "timeout": number, "action": text or null, "steps": [[kind, name], ...]}` with the kinds `create`, `start`, `stop`, `remove`, `inspect`, `pause` (the
//! name is a number of milliseconds), and `list` (the name is the keys of the labels to tell, by spaces; `*` for all). What a step gave is `done`, `id`, `document`, or the containers, each its name and
//! the labels that were told; a failure is its kind, or `ok`. The command `drop` drops the batch when the first has ended.

use gantry_guests::containers::{
    self, ContainerSummary, CreateOptions, EngineError, ListOptions, Sequence, Step, StepReply,
};
use gantry_guests::types::Error;
use gantry_guests::{Command, Guest, Run, operation};
use serde_json::Value;

struct Sequences;

impl Guest for Sequences {
    const NAME: &'static str = "sequences";
}

fn step(told: &Value) -> Option<Step> {
    let name = told.get(1).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(match told.get(0)?.as_str()? {
        "create" => {
            let labels = r#"{"app-name": "web", "app-pool": "blue"}"#;
            let body = format!(r#"{{"Image": "registry/web:v1", "Labels": {labels}}}"#);
            Step::Create(CreateOptions { name, body })
        }
        "start" => Step::Start(name),
        "stop" => Step::Stop((name, 0)),
        "remove" => Step::Remove(name),
        "inspect" => Step::Inspect(name),
        "pause" => Step::Pause(name.parse().ok()?),
        "list" => {
            let label_keys =
                (name != "*").then(|| name.split_terminator(' ').map(Into::into).collect());
            Step::List(ListOptions { all: true, labels: Vec::new(), label_keys })
        }
        _ => return None,
    })
}

fn sequence(told: &Value) -> Option<Sequence> {
    let text = |key: &str| Some(told.get(key)?.as_str()?.to_owned());
    let timeout = told.get("timeout").and_then(Value::as_u64).unwrap_or_default();
    Some(Sequence {
        node: text("node")?,
        steps: told.get("steps")?.as_array()?.iter().map(step).collect::<Option<_>>()?,
        timeout: timeout.try_into().ok()?,
        action: text("action"),
    })
}

/// The name of a container, and its labels as far as they are told.
fn told(container: ContainerSummary) -> String {
    let labels = container.labels.into_iter();
    labels.fold(container.name, |told, (key, value)| format!("{told} {key}={value}"))
}

fn shown(reply: StepReply) -> String {
    match reply {
        StepReply::Done => "done".into(),
        StepReply::Id(_) => "id".into(),
        StepReply::Document(_) => "document".into(),
        StepReply::Containers(containers) => {
            let mut told: Vec<_> = containers.into_iter().map(told).collect();
            told.sort();
            format!("{told:?}")
        }
        StepReply::Exec(_) | StepReply::Bytes(_) | StepReply::Http(_) => "another".into(),
    }
}

fn kind(failure: Option<EngineError>) -> &'static str {
    match failure {
        None => "ok",
        Some(EngineError::NotFound(_)) => "not-found",
        Some(EngineError::Conflict(_)) => "conflict",
        Some(EngineError::Invalid(_)) => "invalid",
        Some(EngineError::Denied(_)) => "denied",
        Some(EngineError::Unreachable(_)) => "unreachable",
        Some(EngineError::TimedOut(_)) => "timed-out",
        Some(EngineError::Cancelled) => "cancelled",
        Some(EngineError::Failed(_)) => "failed",
    }
}

impl Run for Sequences {
    fn run(command: Command) -> Result<i32, Error> {
        let told: Option<Value> = serde_json::from_str(&command.args.concat()).ok();
        let sequences: Option<Vec<Sequence>> = told
            .as_ref()
            .and_then(Value::as_array)
            .and_then(|all| all.iter().map(sequence).collect());
        let sequences =
            sequences.ok_or_else(|| Error::InvalidArgument("these are no sequences".into()))?;
        let batch = containers::submit(&sequences);
        while let Some(ended) = batch.next() {
            let replies: Vec<_> = ended.replies.into_iter().map(shown).collect();
            let (index, replies) = (ended.index, replies.join(" "));
            operation::progress(&format!("{index} {replies} {}\n", kind(ended.failure)));
            if command.program == "drop" {
                break;
            }
        }
        Ok(0)
    }
}

gantry_guests::export!(Sequences: plugin, provisioner, exec);
