//! What may happen at a call of the plugin, just above the engines and the platform.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use gantry_core::container::ContainerSpec;
use gantry_engine::call::{ContainersCall, ImagesCall, StateCall};
use gantry_engine::layer::Next;
use gantry_engine::{Call, EngineError, Error, Layer, OverLimit, Request, Response, Scope};
use tokio::sync::Notify;

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mishap {
    /// It fails, and changes nothing.
    Fails,
    /// It is carried out, and its answer comes too late.
    Late,
    /// Somebody cancels, just before.
    Cancelled,
    /// It is carried out, and with its answer the plugin dies; the platform goes on.
    Traps,
    /// It is carried out, and before its answer comes the platform dies; it starts again.
    Dies,
}

impl Mishap {
    pub(super) const ALL: [Self; 5] =
        [Self::Fails, Self::Late, Self::Cancelled, Self::Traps, Self::Dies];

    /// Whether the plugin lives on and can undo.
    pub(super) fn leaves_the_plugin(self) -> bool {
        match self {
            Self::Fails | Self::Late | Self::Cancelled => true,
            Self::Traps | Self::Dies => false,
        }
    }

    /// Whether it can happen there: the platform's own store is no other machine, so its answers are never late.
    pub(super) fn may_happen(self, place: &Place) -> bool {
        self != Self::Late || place.0.starts_with("containers.")
    }
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fails => "fails",
            Self::Late => "late",
            Self::Cancelled => "cancelled",
            Self::Traps => "traps",
            Self::Dies => "dies",
        })
    }
}

/// A call of an operation: what it is, and which of its kind, from 1 on.
pub(super) type Place = (String, usize);

/// The call without its machine.
pub(super) fn kind(place: &Place) -> &str {
    place.0.split('@').next().unwrap_or_default()
}

/// Counts the calls of one operation, and lets something happen at one of them.
#[derive(Default)]
pub(super) struct Calls {
    script: Mutex<Script>,
    /// The calls of this name that fail next, and how many of them.
    failing: Mutex<BTreeMap<&'static str, usize>>,
}

/// The operation under way, as its calls show it.
#[derive(Clone, Default)]
pub(super) struct Script {
    /// Its id; nobody else's calls are looked at.
    pub(super) operation: String,
    pub(super) aim: Option<(Place, Mishap)>,
    pub(super) places: Vec<Place>,
    counts: BTreeMap<String, usize>,
    /// Whether it happened.
    pub(super) met: bool,
    /// Whether what was made is the app: an image became current.
    pub(super) in_service: bool,
    /// Told when the platform is about to die.
    pub(super) held: Arc<Notify>,
    /// Told when it is dead: what goes on without it ends.
    pub(super) dead: Arc<Notify>,
}

impl Calls {
    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// The next so many engine calls of a name fail.
    pub(super) fn fail(&self, name: &'static str, times: usize) {
        self.fail_all([(name, times)]);
    }

    /// The same of several names.
    pub(super) fn fail_all<const N: usize>(&self, names: [(&'static str, usize); N]) {
        *self.failing.lock().unwrap() = names.into();
    }

    fn is_failing(&self, call: &Call) -> bool {
        let mut failing = self.failing.lock().unwrap();
        let Some(left) = failing.get_mut(call.name()).filter(|left| **left > 0) else {
            return false;
        };
        *left -= 1;
        true
    }

    /// Another operation begins.
    pub(super) fn begin(&self, operation: &str, aim: Option<(Place, Mishap)>) {
        *self.script() = Script { operation: operation.to_owned(), aim, ..Script::default() };
    }

    fn meets(&self, scope: &Scope, call: &Call) -> Option<Mishap> {
        let name = name(call)?;
        let mut script = self.script();
        if script.operation != scope.operation.id {
            return None;
        }
        let count = script.counts.entry(name.clone()).or_default();
        *count += 1;
        let place = (name, *count);
        script.places.push(place.clone());
        let mishap = script.aim.as_ref().filter(|(aim, _)| *aim == place)?.1;
        script.met = true;
        Some(mishap)
    }
}

/// What a call is called; none for one that cannot go wrong.
fn name(call: &Call) -> Option<String> {
    let of = |key: &str| key.split('/').next().unwrap_or_default().to_owned();
    let detail = match call {
        Call::Containers { node, call } => {
            let unit = |spec: &ContainerSpec| spec.labels.contains_key("app-name");
            let reads = matches!(call, ContainersCall::Create { spec, .. } if !unit(spec));
            let what = if reads { " to read" } else { "" };
            format!("{what}@{node}")
        }
        Call::State(
            StateCall::Get { key } | StateCall::PutIf { key, .. } | StateCall::DeleteIf { key, .. },
        ) => format!(" {}", of(key)),
        Call::State(StateCall::List { prefix, .. }) => format!(" {}", of(prefix)),
        Call::Apps(_) | Call::Images(_) | Call::Routers(_) => String::new(),
        Call::Nodes | Call::Config { .. } | Call::Clusters | Call::Cluster { .. } => return None,
    };
    Some(format!("{}{detail}", call.name()))
}

#[async_trait]
impl Layer for Calls {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        let met = self.meets(scope, &request.call);
        let met = met.or(self.is_failing(&request.call).then_some(Mishap::Fails));
        let outside = matches!(request.call, Call::Containers { .. });
        let appends = matches!(request.call, Call::Images(ImagesCall::Append { .. }));
        let (held, dead) = {
            let script = self.script();
            (Arc::clone(&script.held), Arc::clone(&script.dead))
        };
        match met {
            Some(Mishap::Fails) if outside => {
                return Err(EngineError::Failed("status 500".to_owned()).into());
            }
            Some(Mishap::Fails) => {
                return Err(gantry_core::Error::Unavailable("no room left".to_owned()).into());
            }
            Some(Mishap::Cancelled) => scope.operation.cancel.cancel(),
            Some(Mishap::Late | Mishap::Traps | Mishap::Dies) | None => {}
        }
        let answer = next.send(scope, request).await;
        if appends && answer.is_ok() {
            self.script().in_service = true;
        }
        match met {
            Some(Mishap::Late) => {
                answer?;
                Err(EngineError::TimedOut("it took too long".to_owned()).into())
            }
            Some(Mishap::Traps) if !outside => {
                answer?;
                let (bound, value) = ("test".to_owned(), "0".to_owned());
                Err(OverLimit { bound, value }.into())
            }
            // What an engine does for a batch has no way to end the plugin at once.
            Some(Mishap::Traps | Mishap::Dies) => {
                held.notify_one();
                dead.notified().await;
                answer
            }
            Some(Mishap::Fails | Mishap::Cancelled) | None => answer,
        }
    }
}
