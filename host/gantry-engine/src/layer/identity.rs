//! Whose a container or an object of a cluster is.
//!
//! Owns the marks: labels on everything that is created, taken off whatever a plugin gets to see. So are, in a list, labels that the plugin does not ask for: what is below needs the marks.
//!
//! Owns the names too: a container may be named by its id, a prefix of it, or its name, and below this layer there are only full ids, so nobody can put
//! another container under a name between the check and the deed.
//!
//! What runs once on every node has no mark of an operation: it is the node's, and stays when the operation that made it fails.
//!
//! Refuses labels of a plugin that look like marks. Whether a plugin may touch a container is the business of [`policy`](super::policy).

pub mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use gantry_core::LabelSet;

use crate::call::ContainersCall;
use crate::layer::owned::Owned;
use crate::layer::{Layer, Next};
use crate::names::unique;
use crate::stream::Stream;
use crate::{Call, EngineError, Error, Reply, Request, Response, Scope};

/// What every mark starts with.
pub const PREFIX: &str = "gantry.";
/// The label with the provisioner's name.
pub const OWNER: &str = "gantry.owner";
/// The label with the id of the installation.
pub const INSTANCE: &str = "gantry.instance";
/// The label with the id of the operation that created the container, if it was one.
pub const OPERATION: &str = "gantry.operation";

/// Whether these labels are the marks of the scope's owner and installation.
#[must_use]
pub fn is_own(scope: &Scope, labels: Option<&BTreeMap<String, String>>) -> bool {
    labels.is_some_and(|labels| {
        labels.get(OWNER).is_some_and(|owner| **owner == *scope.provisioner)
            && labels.get(INSTANCE).is_some_and(|instance| **instance == *scope.instance)
    })
}

/// Marks what is created, hides the marks and the labels that a list is not asked for, names containers by their full id.
#[derive(Debug)]
pub struct Identity {
    owned: Arc<Owned>,
}

impl Identity {
    /// The layer, with a memory of ids that [`Policy`](super::policy::Policy) fills.
    #[must_use]
    pub fn new(owned: Arc<Owned>) -> Self {
        Self { owned }
    }

    /// The full id of a container. What is not known is asked for by an inspect, which the layers below see like any other.
    async fn resolve(
        &self,
        scope: &Arc<Scope>,
        node: &str,
        text: &str,
        next: Next,
    ) -> Result<String, Error> {
        if let Some(id) = self.owned.resolve(scope, node, text) {
            return Ok(id);
        }
        let call = ContainersCall::Inspect { id: text.to_owned() };
        let call = Call::Containers { node: node.to_owned(), call };
        let Reply::Container(container) = next.send(scope, call.into()).await?.reply else {
            return Err(EngineError::Failed("no answer to an inspect".to_owned()).into());
        };
        self.owned.name(scope, node, text, &container.id);
        Ok(container.id)
    }

    /// Puts the full id in place of what the call names; an inspect needs it only when it is known already, because its answer tells it.
    async fn name_by_id(
        &self,
        scope: &Arc<Scope>,
        node: &str,
        call: &mut ContainersCall,
        next: Next,
    ) -> Result<(), Error> {
        if let ContainersCall::Inspect { id } = call {
            if let Some(known) = self.owned.resolve(scope, node, id) {
                *id = known;
            }
        } else if let Some(id) = call.container_mut() {
            *id = self.resolve(scope, node, id, next).await?;
        }
        Ok(())
    }

    /// Learns the names in a reply and takes the marks off it, and off a list the labels that it was not asked for.
    fn reply(
        &self,
        scope: &Scope,
        node: &str,
        named: Option<&str>,
        asked: Option<&BTreeSet<String>>,
        reply: &mut Reply,
    ) {
        if let Reply::Text(id) = reply
            && let Some(name) = named
        {
            self.owned.name(scope, node, name, id);
        } else if let Reply::Container(container) = reply {
            self.owned.name(scope, node, &container.name, &container.id);
            self.owned.name(scope, node, named.unwrap_or_default(), &container.id);
            hide(container.config.labels.as_mut());
        } else if let Reply::Containers(containers) = reply {
            for container in containers {
                self.owned.name(scope, node, &container.name, &container.id);
                if let Some(keys) = asked {
                    // Keys that nobody carries cost nothing, however many a guest asks for.
                    container.labels.retain(|key, _| keys.contains(key));
                }
                hide(Some(&mut container.labels));
            }
        } else if let Reply::Image(image) = reply {
            hide(image.config.labels.as_mut());
        }
    }
}

#[async_trait]
impl Layer for Identity {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        mut request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        if let Call::Cluster { call, .. } = &mut request.call {
            objects::mark(scope, call)?;
            let mut response = next.send(scope, request).await?;
            objects::hide_in(&mut response.reply);
            if let Some(Stream::Changes(changes)) = response.stream {
                let hidden = changes.map(|change| change.map(objects::hidden)).boxed();
                response.stream = Some(Stream::Changes(hidden));
            }
            return Ok(response);
        }
        let Call::Containers { node, call } = &mut request.call else {
            return next.send(scope, request).await;
        };
        let node = node.clone();
        let named = mark(scope, call)?;
        let effect = Effect::of(call);
        let asked = take_label_keys(call);
        match self.name_by_id(scope, &node, call, next.clone()).await {
            Err(Error::Engine(EngineError::NotFound(_))) if effect == Effect::Removal => {
                return Ok(Reply::Done.into());
            }
            resolved => resolved?,
        }
        let id = call.container().map(ToOwned::to_owned);
        let mut answer = next.send(scope, request).await;
        if let Some(id) = id
            && effect.ends(&answer)
        {
            self.owned.forget(scope, &node, &id);
        }
        if let Ok(response) = &mut answer {
            self.reply(scope, &node, named.as_deref(), asked.as_ref(), &mut response.reply);
        }
        answer
    }
}

/// What an answer to a call says about the container being there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It is gone once this is done.
    Removal,
    /// Not found says that it is gone.
    Use,
    /// Not found speaks of a file in it.
    File,
}

impl Effect {
    fn of(call: &ContainersCall) -> Self {
        match call {
            ContainersCall::Remove { .. } => Self::Removal,
            ContainersCall::Download { .. }
            | ContainersCall::Upload { .. }
            | ContainersCall::StatPath { .. } => Self::File,
            ContainersCall::List { .. }
            | ContainersCall::Create { .. }
            | ContainersCall::Start { .. }
            | ContainersCall::Stop { .. }
            | ContainersCall::Inspect { .. }
            | ContainersCall::Wait { .. }
            | ContainersCall::Commit { .. }
            | ContainersCall::AttachCopy { .. }
            | ContainersCall::Attach { .. }
            | ContainersCall::Logs { .. }
            | ContainersCall::Http { .. }
            | ContainersCall::CreateExec { .. }
            | ContainersCall::StartExec { .. }
            | ContainersCall::ResizeExec { .. }
            | ContainersCall::InspectExec { .. }
            | ContainersCall::ExecSession { .. }
            | ContainersCall::PullImage { .. }
            | ContainersCall::InspectImage { .. }
            | ContainersCall::TagImage { .. }
            | ContainersCall::RemoveImage { .. }
            | ContainersCall::ImageHistory { .. }
            | ContainersCall::BuildImage { .. }
            | ContainersCall::PushImage { .. } => Self::Use,
        }
    }

    fn ends(self, answer: &Result<Response, Error>) -> bool {
        let absent = matches!(answer, Err(Error::Engine(EngineError::NotFound(_))));
        match self {
            Self::Removal => absent || answer.is_ok(),
            Self::Use => absent,
            Self::File => false,
        }
    }
}

/// Writes the marks into a call, and gives the name by which its container will be known.
fn mark(scope: &Scope, call: &mut ContainersCall) -> Result<Option<String>, Error> {
    if let ContainersCall::Create { name, spec } = call {
        refuse_marks(&spec.labels)?;
        spec.labels.insert(OWNER.to_owned(), scope.provisioner.to_string());
        spec.labels.insert(INSTANCE.to_owned(), scope.instance.to_string());
        if !scope.operation.id.is_empty() && !is_of_node(&spec.labels) {
            spec.labels.insert(OPERATION.to_owned(), scope.operation.id.clone());
        }
        if name.is_empty() {
            // Without a name, a container whose create was cut off could not be found again.
            *name = unique_name(scope)?;
        }
        return Ok(Some(name.clone()));
    }
    if let ContainersCall::List { labels, .. } = call {
        refuse_marks(labels)?;
        labels.insert(OWNER.to_owned(), scope.provisioner.to_string());
        labels.insert(INSTANCE.to_owned(), scope.instance.to_string());
    } else if let ContainersCall::Commit { labels, .. } = call {
        // Else what somebody makes of the image by hand would look like ours.
        labels.extend([OWNER, INSTANCE, OPERATION].map(|mark| (mark.to_owned(), String::new())));
    } else if let ContainersCall::Inspect { id } = call {
        return Ok(Some(id.clone()));
    }
    Ok(None)
}

/// Whether a container with these labels is its node's and no operation's. That of an app is never.
pub fn is_of_node(labels: &BTreeMap<String, String>) -> bool {
    let set = LabelSet::new(labels.clone(), "");
    set.is_node_container() && set.app_name().is_empty()
}

fn refuse_marks(labels: &BTreeMap<String, String>) -> Result<(), EngineError> {
    match labels.keys().find(|key| key.starts_with(PREFIX)) {
        None => Ok(()),
        Some(key) => Err(EngineError::Invalid(format!(
            "the label `{key}` is not for plugins: what starts with `{PREFIX}` is the host's"
        ))),
    }
}

/// The keys of the labels that a list is asked for, unless it is for all of them. Every layer below sees all labels.
fn take_label_keys(call: &mut ContainersCall) -> Option<BTreeSet<String>> {
    if let ContainersCall::List { label_keys, .. } = call { label_keys.take() } else { None }
}

fn hide(labels: Option<&mut BTreeMap<String, String>>) {
    if let Some(labels) = labels {
        labels.retain(|key, _| !key.starts_with(PREFIX));
    }
}

fn unique_name(scope: &Scope) -> Result<String, EngineError> {
    Ok(format!("{}-{}", scope.provisioner, unique()?))
}
