use std::time::Duration;

use gantry_core::container::{Container, ContainerSpec, Image};

use super::client::create_options;
use super::{
    ContainerSummary, EngineError, ExecEnd, ExecOptions, HttpRequest, HttpResponse, ListOptions,
    Result,
};
use crate::bindings::gantry::provision::containers as imported;
use crate::convert;

/// One engine call of a sequence. A container may be named before the step that creates it has run.
#[derive(Clone, Debug)]
pub enum Step {
    /// Pull an image.
    PullImage(String),
    /// Create a container; gives an id.
    Create {
        /// Its name.
        name: String,
        /// What it is.
        spec: Box<ContainerSpec>,
    },
    /// Start a container.
    Start(String),
    /// Stop a container.
    Stop {
        /// The container.
        id: String,
        /// The seconds before it is killed.
        seconds: u32,
    },
    /// Remove a container with its anonymous volumes, killing it first if it runs.
    Remove(String),
    /// Inspect a container.
    Inspect(String),
    /// Inspect an image.
    InspectImage(String),
    /// Remove a name of an image, and the image with its last one.
    RemoveImage(String),
    /// Run a command to its end.
    Exec {
        /// The container.
        id: String,
        /// The command.
        options: ExecOptions,
    },
    /// The archive of a file, of at most 1 MiB; gives bytes.
    Download {
        /// The container.
        id: String,
        /// The file.
        path: String,
    },
    /// Ask a port of a container.
    Http {
        /// The container.
        id: String,
        /// The request.
        request: HttpRequest,
    },
    /// The containers that this provisioner owns; gives containers.
    List(ListOptions),
    /// Wait.
    Pause(Duration),
}

/// Steps on one host, one after the other; the first that fails ends the sequence.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The host's address.
    pub node: String,
    /// The steps.
    pub steps: Vec<Step>,
    /// The time that each of its engine calls has, streams aside; zero is the host's default.
    pub timeout: Duration,
    /// The action of the [limiter](crate::limiter) of which each create, start, stop and remove has a place while it lasts.
    pub action: Option<String>,
}

impl Sequence {
    /// These steps on the host with this address: the host's default time for each call, and no limit on how many run.
    #[must_use]
    pub fn new(node: impl Into<String>, steps: Vec<Step>) -> Self {
        Self { node: node.into(), steps, timeout: Duration::ZERO, action: None }
    }

    /// The same with a time of its own for each engine call.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// The same with its creates, starts, stops and removes in the places of an action.
    #[must_use]
    pub fn limited_by(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }
}

/// What a step gave.
#[derive(Clone, Debug)]
pub enum StepReply {
    /// It is done.
    Done,
    /// The id of what was created.
    Id(String),
    /// A container.
    Container(Box<Container>),
    /// An image.
    Image(Box<Image>),
    /// A command's end.
    Exec(ExecEnd),
    /// An archive.
    Bytes(Vec<u8>),
    /// An answer.
    Http(HttpResponse),
    /// Containers.
    Containers(Vec<ContainerSummary>),
}

/// A sequence that has ended.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Which one, counted from 0 in the order they were given.
    pub index: usize,
    /// What its steps gave, up to the one that failed.
    pub replies: Vec<StepReply>,
    /// The failure, if there was one; its step is the one after the last reply.
    pub failure: Option<EngineError>,
}

impl Completion {
    /// What the steps gave, when all went well.
    ///
    /// # Errors
    ///
    /// The failure that ended the sequence.
    pub fn into_result(self) -> Result<Vec<StepReply>> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.replies),
        }
    }
}

/// Sequences under way. Dropping it begins no further step and waits for those under way.
#[derive(Debug)]
pub struct Batch {
    batch: imported::Batch,
    /// Per sequence and step, whether a document in its reply is an image.
    images: Vec<Vec<bool>>,
}

impl Batch {
    /// Starts sequences side by side, on one host or several.
    ///
    /// # Errors
    ///
    /// A container that cannot be written as JSON; nothing was started then.
    pub fn submit(sequences: Vec<Sequence>) -> Result<Self> {
        let (images, sequences) = into_imported(sequences)?;
        Ok(Self { batch: imported::submit(&sequences), images })
    }

    /// Starts more sequences in this batch and gives the index of the first.
    ///
    /// # Errors
    ///
    /// As for [`Batch::submit`].
    pub fn add(&mut self, sequences: Vec<Sequence>) -> Result<usize> {
        let first = self.images.len();
        let (images, sequences) = into_imported(sequences)?;
        self.images.extend(images);
        self.batch.add(&sequences);
        Ok(first)
    }

    /// The next sequence that has ended, whichever it is; none after the last.
    pub fn next_ended(&mut self) -> Option<Completion> {
        let imported::Completion { index, replies, failure } = self.batch.next()?;
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let images = self.images.get(index).map_or(&[][..], Vec::as_slice);
        let images = images.iter().copied().chain(std::iter::repeat(false));
        let mut failure = failure.map(EngineError::from);
        let mut read = Vec::new();
        for (reply, is_image) in replies.into_iter().zip(images) {
            match from_imported(reply, is_image) {
                Ok(reply) => read.push(reply),
                Err(error) => {
                    failure = Some(EngineError::Failed(error));
                    break;
                }
            }
        }
        Some(Completion { index, replies: read, failure })
    }

    /// All ends, in the order of the sequences.
    #[must_use]
    pub fn all(mut self) -> Vec<Completion> {
        let mut completions: Vec<Completion> = std::iter::from_fn(|| self.next_ended()).collect();
        completions.sort_by_key(|completion| completion.index);
        completions
    }
}

type Imported = (Vec<Vec<bool>>, Vec<imported::Sequence>);

fn into_imported(sequences: Vec<Sequence>) -> Result<Imported> {
    let mut images = Vec::new();
    let mut result = Vec::new();
    for Sequence { node, steps, timeout, action } in sequences {
        images.push(steps.iter().map(|step| matches!(step, Step::InspectImage(_))).collect());
        let steps = steps.into_iter().map(into_imported_step).collect::<Result<_>>()?;
        let timeout = milliseconds(timeout);
        result.push(imported::Sequence { node, steps, timeout, action });
    }
    Ok((images, result))
}

fn into_imported_step(step: Step) -> Result<imported::Step> {
    Ok(match step {
        Step::PullImage(image) => imported::Step::PullImage(image),
        Step::Create { name, spec } => imported::Step::Create(create_options(&name, &spec)?),
        Step::Start(id) => imported::Step::Start(id),
        Step::Stop { id, seconds } => imported::Step::Stop((id, seconds)),
        Step::Remove(id) => imported::Step::Remove(id),
        Step::Inspect(id) => imported::Step::Inspect(id),
        Step::InspectImage(image) => imported::Step::InspectImage(image),
        Step::RemoveImage(image) => imported::Step::RemoveImage(image),
        Step::Exec { id, options } => imported::Step::Exec((id, options)),
        Step::Download { id, path } => imported::Step::Download((id, path)),
        Step::Http { id, request } => imported::Step::Http((id, request)),
        Step::List(filter) => imported::Step::List(filter),
        Step::Pause(time) => imported::Step::Pause(milliseconds(time)),
    })
}

/// A time as the host counts it: one that is not zero does not become none.
fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

fn from_imported(
    reply: imported::StepReply,
    is_image: bool,
) -> std::result::Result<StepReply, String> {
    Ok(match reply {
        imported::StepReply::Done => StepReply::Done,
        imported::StepReply::Id(id) => StepReply::Id(id),
        imported::StepReply::Document(text) if is_image => {
            StepReply::Image(Box::new(convert::image(&text)?))
        }
        imported::StepReply::Document(text) => {
            StepReply::Container(Box::new(convert::container(&text)?))
        }
        imported::StepReply::Exec(end) => StepReply::Exec(end),
        imported::StepReply::Bytes(bytes) => StepReply::Bytes(bytes),
        imported::StepReply::Http(response) => StepReply::Http(response),
        imported::StepReply::Containers(containers) => StepReply::Containers(containers),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_unlimited_unless_it_says_otherwise() {
        let plain = Sequence::new("node-1", vec![Step::Pause(Duration::ZERO)]);
        assert_eq!((plain.timeout, plain.action.as_deref()), (Duration::ZERO, None));
        let held = plain.within(Duration::from_secs(2)).limited_by("node-1");
        let (_, mut imported) = into_imported(vec![held]).unwrap();
        let sequence = imported.pop().unwrap();
        assert_eq!((sequence.timeout, sequence.action.as_deref()), (2_000, Some("node-1")));
        assert_eq!((sequence.node.as_str(), sequence.steps.len()), ("node-1", 1));
    }

    #[test]
    fn a_time_that_is_shorter_than_the_hosts_clock_is_still_one() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_millis(7)), 7);
        assert_eq!(milliseconds(Duration::MAX), u32::MAX);
    }
}
