//! Shells in units: an operation each, which lasts as long as somebody is at the other end.
//!
//! ```text
//! asked ─► operation begun ─► plugin opens the session ─► whoever asked has it ─► it ended with a code      done
//!               │                       │                          └────────────► the connection dropped    cancelled
//!               └───────────────────────┴─► why not                                                         failed
//! ```
//!
//! It changes no unit, so it takes no lock and waits for nobody.

use std::sync::Arc;

use futures_util::StreamExt;
use gantry_core::ShellOptions;
use gantry_engine::stream::{Session, Size};
use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{OrProblem, Service, time_of};
use crate::api::{Problem, ProblemKind};
use crate::operation::{Caller, Operations, Request, Update};

/// A shell that is open. Dropping it closes the session and ends the operation as cancelled.
pub(crate) struct OpenShell {
    /// Its bytes, its terminal and its end.
    pub(crate) session: Session,
    /// Whoever has the session tells how it ended.
    pub(crate) end: ShellEnd,
    /// Somebody asked the shell to stop.
    pub(crate) cancelled: CancellationToken,
}

/// Where the end of a shell is told.
pub(crate) struct ShellEnd {
    told: Option<oneshot::Sender<Result<i32, Problem>>>,
    operations: Arc<Operations>,
    id: String,
}

impl ShellEnd {
    /// Tells how the shell ended.
    pub(crate) fn tell(mut self, end: Result<i32, Problem>) {
        if let Some(told) = self.told.take() {
            // The operation was cancelled in the same moment: it has its end already.
            let _ = told.send(end);
        }
    }
}

impl Drop for ShellEnd {
    fn drop(&mut self) {
        if self.told.is_some() {
            self.operations.cancel(&self.id);
        }
    }
}

impl Service {
    /// Opens a shell in a unit of an app.
    pub(crate) async fn shell(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        options: ShellOptions,
    ) -> Result<OpenShell, Problem> {
        let title = format!("could not open a shell in `{app}`");
        let record = self.record(app).await?;
        let provisioner = self.provisioner(&record.provisioner)?;
        let request = Request {
            verb: "app-shell",
            app: Some(app.to_owned()),
            plugin: Some(record.provisioner),
            digest: Some(provisioner.generation().digest().to_owned()),
            detail: json!({"unit": options.unit}),
            lock: None,
            time: time_of(&provisioner),
            // Two people with one key would type into one shell.
            caller: Caller { key: None, ..caller },
        };
        let (give, given) = oneshot::channel();
        let (told, end) = oneshot::channel::<Result<i32, Problem>>();
        let (app, why) = (record.app, title.clone());
        let begun = self.operations.begin(request, move |work| async move {
            let operation = work.operation;
            let opened = provisioner.shell(&operation, &app, &options).await;
            let session = opened.or_problem(|| why.clone())?;
            // A plugin chooses the unit; how large the terminal is goes to the engine as it does later.
            let (width, height) = (options.width, options.height);
            if let Some(sizes) = &session.sizes
                && width > 0
                && height > 0
            {
                // A shell that has ended already is told by its end.
                let _ = sizes.send(Size { width, height }).await;
            }
            let gone = || {
                Problem::new(
                    ProblemKind::Cancelled,
                    format!("the shell in `{}` was closed", app.name),
                )
                .because("nobody is at the other end any more")
            };
            give.send((session, operation.cancel.clone())).map_err(|_| gone())?;
            tokio::select! {
                ended = end => {
                    let code = ended.map_err(|_| gone())??;
                    Ok(json!({"code": code}))
                }
                () = operation.cancel.cancelled() => Err(gone()),
            }
        });
        let id = begun.await.or_problem(|| title.clone())?;
        let end =
            ShellEnd { told: Some(told), operations: Arc::clone(&self.operations), id: id.clone() };
        match given.await {
            Ok((session, cancelled)) => Ok(OpenShell { session, end, cancelled }),
            Err(_) => Err(self.why_not(&id, title).await),
        }
    }

    /// Why an operation ended that should have gone on.
    async fn why_not(&self, id: &str, title: String) -> Problem {
        let unknown = || Problem::new(ProblemKind::Internal, title);
        let Ok(mut updates) = self.follow_operation(id, 0).await else {
            return unknown();
        };
        while let Some(update) = updates.next().await {
            if let Update::End(operation) = update
                && let Some(problem) = operation.problem
            {
                return problem;
            }
        }
        unknown()
    }
}
