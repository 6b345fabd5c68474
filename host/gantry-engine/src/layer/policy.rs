//! What a plugin may do: anything with its own containers, and what is granted.
//!
//! A container is its own when it carries the marks of its provisioner and of this installation; the engine is asked once for each. An exec belongs to the wasm call that prepared it.
//!
//! A refusal is [`EngineError::Denied`]: it names the grant that would allow the call, and whether the plugin did not ask for it or the operator did not give it.

mod objects;

use std::sync::Arc;

use async_trait::async_trait;
use gantry_core::container::Container;
use gantry_core::create::ContainerDefaults;
use gantry_core::policy::{self, Grant};

use crate::call::ContainersCall;
use crate::layer::identity::is_own;
use crate::layer::owned::Owned;
use crate::layer::{Layer, Next};
use crate::{Call, EngineError, Error, Reply, Request, Response, Scope};

/// Refuses what is not the provisioner's own and what no grant covers.
#[derive(Debug)]
pub struct Policy {
    owned: Arc<Owned>,
    objects: objects::OwnObjects,
}

impl Policy {
    /// The layer, with a memory of the ids that carried their owner's marks.
    #[must_use]
    pub fn new(owned: Arc<Owned>) -> Self {
        Self { owned, objects: objects::OwnObjects::default() }
    }

    /// Lets a container pass that is the scope's own, or any with the grant for it.
    fn admit(&self, scope: &Scope, node: &str, container: &Container) -> Result<(), Error> {
        if is_own(scope, container.config.labels.as_ref()) {
            self.owned.insert(scope, node, &container.id);
            return Ok(());
        }
        scope.grants.check(&Grant::Foreign).map_err(|denial| {
            EngineError::Denied(format!(
                "the container `{}` is not of the provisioner `{}`: {denial}",
                container.name, scope.provisioner
            ))
            .into()
        })
    }

    /// Admits the container that a call names, asking the engine for its marks when they are not known, and puts its full id in the call.
    async fn admit_named(
        &self,
        scope: &Arc<Scope>,
        node: &str,
        call: &mut ContainersCall,
        next: Next,
    ) -> Result<(), Error> {
        let Some(id) = call.container_mut() else {
            return Ok(());
        };
        if self.owned.contains(scope, node, id) {
            return Ok(());
        }
        let inspect = ContainersCall::Inspect { id: id.clone() };
        let inspect = Call::Containers { node: node.to_owned(), call: inspect };
        let Reply::Container(container) = next.send(scope, inspect.into()).await?.reply else {
            return Err(EngineError::Failed("no answer to an inspect".to_owned()).into());
        };
        self.admit(scope, node, &container)?;
        *id = container.id;
        Ok(())
    }

    /// Holds a reply to the rule, and learns from it what is the scope's own.
    fn reply(
        &self,
        scope: &Scope,
        node: &str,
        made: Option<Made>,
        reply: &Reply,
    ) -> Result<(), Error> {
        if let Reply::Container(container) = reply {
            return self.admit(scope, node, container);
        }
        if let Reply::Containers(containers) = reply {
            for container in containers {
                if is_own(scope, Some(&container.labels)) {
                    self.owned.insert(scope, node, &container.id);
                }
            }
        }
        if let Reply::Text(id) = reply {
            match made {
                Some(Made::Container) => self.owned.insert(scope, node, id),
                Some(Made::Exec) => scope.remember_exec(node, id),
                None => {}
            }
        }
        Ok(())
    }
}

/// What a call makes, so that the id in its reply is the scope's own.
#[derive(Clone, Copy)]
enum Made {
    Container,
    Exec,
}

#[async_trait]
impl Layer for Policy {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        mut request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        if let Call::Cluster { .. } = &request.call {
            return objects::call(&self.objects, scope, request, next).await;
        }
        let Call::Containers { node, call } = &mut request.call else {
            return next.send(scope, request).await;
        };
        check_grants(scope, call)?;
        if let Some(exec_id) = call.exec()
            && !scope.knows_exec(node, exec_id)
        {
            let unknown = format!("no exec `{exec_id}` was prepared by this call");
            return Err(EngineError::NotFound(unknown).into());
        }
        let made = if matches!(call, ContainersCall::Create { .. }) {
            Some(Made::Container)
        } else if matches!(call, ContainersCall::CreateExec { .. }) {
            Some(Made::Exec)
        } else {
            None
        };
        // The answer to an inspect is what is judged; every other call is judged before it is sent.
        if !matches!(call, ContainersCall::Inspect { .. }) {
            self.admit_named(scope, node, call, next.clone()).await?;
        }
        let node = node.clone();
        let response = next.send(scope, request).await?;
        self.reply(scope, &node, made, &response.reply)?;
        Ok(response)
    }
}

/// Refuses a call that needs a grant which is not in force.
fn check_grants(scope: &Scope, call: &ContainersCall) -> Result<(), EngineError> {
    let needed = match call {
        ContainersCall::Create { spec, .. } => {
            policy::needed(spec, &ContainerDefaults::from_settings(&*scope.config).log)
        }
        ContainersCall::Commit { .. } => vec![Grant::CommitImages],
        ContainersCall::TagImage { .. } => vec![Grant::TagImages],
        ContainersCall::RemoveImage { .. } => vec![Grant::RemoveImages],
        ContainersCall::BuildImage { .. } => vec![Grant::BuildImages],
        ContainersCall::PushImage { .. } => vec![Grant::PushImages],
        ContainersCall::List { .. }
        | ContainersCall::Start { .. }
        | ContainersCall::Stop { .. }
        | ContainersCall::Remove { .. }
        | ContainersCall::Inspect { .. }
        | ContainersCall::Wait { .. }
        | ContainersCall::Download { .. }
        | ContainersCall::Upload { .. }
        | ContainersCall::StatPath { .. }
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
        | ContainersCall::ImageHistory { .. } => return Ok(()),
    };
    for grant in needed {
        scope.grants.check(&grant).map_err(|denial| {
            EngineError::Denied(format!("`{}` is refused: {denial}", call.name()))
        })?;
    }
    Ok(())
}
