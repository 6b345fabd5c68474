//! How much is done at once: on one machine by the action limiter (spec 4.5), and by one change with its units (spec 5.2).

use gantry_sdk::Settings;
use gantry_sdk::config::Config;
use gantry_sdk::containers::{Batch, Completion, EngineError, Sequence, Step};

use crate::host::host_of;

/// How many units one change works on at the same time (`docker:max-workers`); all of them when nobody says.
pub(crate) fn workers() -> usize {
    let workers = Config.integer("docker:max-workers").unwrap_or_default();
    usize::try_from(workers).ok().filter(|workers| *workers > 0).unwrap_or(usize::MAX)
}

/// Steps on a machine, the actions among them each with a place of the machine's own.
pub(crate) fn sequence(node: &str, steps: Vec<Step>) -> Sequence {
    Sequence::new(node, steps).limited_by(host_of(node))
}

/// Does the steps of one sequence, with nothing beside it.
pub(crate) fn run(sequence: Sequence) -> Result<Completion, EngineError> {
    let ended = Batch::submit(vec![sequence])?.all().pop();
    ended.ok_or_else(|| EngineError::Failed("no answer".to_owned()))
}
