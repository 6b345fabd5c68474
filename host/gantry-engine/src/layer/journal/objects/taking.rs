//! Taking back what an operation did to an object: what it made is deleted, what was there before is as it was.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::super::in_a_task;
use super::{Place, Touched};
use crate::call::cluster::{ClusterCall, Patch, say, word};
use crate::layer::Next;
use crate::layer::identity::OPERATION;
use crate::layer::identity::objects::{is_own, mark_of};
use crate::managed::restore::{self, Taken};
use crate::{Backends, Call, EngineError, Error, Reply, Request, Response, Scope};

/// Takes back what the operation did to an object, as it goes on, and gives it as it is then. Once nobody waits for it, it goes no further: what is left to do is the clean-up's.
pub(super) async fn put_back(
    scope: &Arc<Scope>,
    place: Place,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    in_a_task(scope, request, async move |scope, Request { given_up, .. }| {
        let sender = Sender::Next(next, given_up.unwrap_or_default());
        let taking = Taking { sender, scope: &scope, place: &place };
        let objects = scope.ledger.objects();
        if let Some(changed) = objects.changed_at(&place) {
            taking.back(&scope.operation.id, &changed.touched).await?;
            objects.is_back(&changed);
        }
        let now = taking.object(place.get()).await?;
        Ok(now.map_or(Reply::Done, Reply::Object).into())
    })
    .await
}

/// What became of an object that was to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenBack {
    /// It was not there before and is deleted.
    Deleted,
    /// It is as it was before.
    PutBack,
    /// There was nothing to take back.
    Nothing,
}

/// How often an object that moves on while it is put back is looked at anew.
const ATTEMPTS: u32 = 5;

/// Takes back what an operation did to an object: what it made is deleted, what it changed is put back as it was. Twice is as good as once.
///
/// # Errors
/// Why the cluster did not do it. What somebody else has changed meanwhile stays, and is told as progress where we had applied it.
pub async fn take_back(
    backends: &Backends,
    scope: &Arc<Scope>,
    operation: &str,
    touched: &Touched,
) -> Result<TakenBack, Error> {
    // Else what is on a cluster that is not given any more would pass for gone.
    backends.clusters.cluster(&scope.provisioner, &touched.place.cluster)?;
    let taking = Taking { sender: Sender::Below(backends), scope, place: &touched.place };
    taking.back(operation, touched).await
}

/// Who carries the calls out that take an object back.
enum Sender<'a> {
    /// What is below all layers.
    Below(&'a Backends),
    /// The layers below the journal, until nobody waits for it any more.
    Next(Next, CancellationToken),
}

/// Takes one object back.
struct Taking<'a> {
    sender: Sender<'a>,
    scope: &'a Arc<Scope>,
    place: &'a Place,
}

impl Taking<'_> {
    async fn back(&self, operation: &str, touched: &Touched) -> Result<TakenBack, Error> {
        let mut attempt = 1;
        loop {
            match self.once(operation, touched).await {
                Err(Error::Engine(EngineError::Conflict(_))) if attempt < ATTEMPTS => {
                    attempt = attempt.saturating_add(1);
                }
                answer => return answer,
            }
        }
    }

    async fn once(&self, operation: &str, touched: &Touched) -> Result<TakenBack, Error> {
        let Some(now) = self.object(self.place.get()).await? else {
            // Nothing was made of it, or it has gone since. What was there before and is gone was deleted by somebody else: it is not ours to make again.
            return Ok(TakenBack::Nothing);
        };
        match &touched.before {
            Some(before) if word(before, "uid") == word(&now, "uid") => {
                self.put_back(before, touched.patched, now).await
            }
            // What is there now is another than what was, if there was one.
            Some(_) | None => {
                // One of the same name that another operation made, or somebody else.
                if !is_own(self.scope, &now) || mark_of(&now, OPERATION) != Some(operation) {
                    return Ok(TakenBack::Nothing);
                }
                self.send(self.place.delete(word(&now, "uid"))).await?;
                Ok(TakenBack::Deleted)
            }
        }
    }

    /// What we had applied is applied again, once our patches have given it back, but for what others have taken; what we had not is patched.
    async fn put_back(
        &self,
        before: &Value,
        patched: bool,
        mut now: Value,
    ) -> Result<TakenBack, Error> {
        if word(before, "resourceVersion") == word(&now, "resourceVersion") {
            return Ok(TakenBack::Nothing);
        }
        let mut done = TakenBack::Nothing;
        if let Some(managers) = restore::handed_back(before, &now) {
            let patch = json!([
                {"op": "replace", "path": "/metadata/resourceVersion", "value": word(&now, "resourceVersion")},
                {"op": "replace", "path": "/metadata/managedFields", "value": managers},
            ]);
            now = self.changed(self.place.patch(Patch::Json(patch))).await?;
        }
        let taken = restore::taken(before, &now);
        if let Some(mut object) = restore::to_apply(before, &now, &taken) {
            name(&mut object, &now, &["uid"]);
            now = self
                .changed(self.place.call(ClusterCall::Apply { object, dry_run: false }))
                .await?;
            self.tell(&taken);
            done = TakenBack::PutBack;
        }
        if let Some(mut patch) = restore::to_patch(before, &now, patched)? {
            // Its lists are as they are in what we saw.
            name(&mut patch, &now, &["uid", "resourceVersion"]);
            self.changed(self.place.patch(Patch::Merge(patch))).await?;
            done = TakenBack::PutBack;
        }
        Ok(done)
    }

    /// Tells what does not go back because it is somebody else's by now.
    fn tell(&self, taken: &[Taken]) {
        for (manager, fields) in taken {
            let paths = fields.paths().into_iter();
            let paths = paths.map(|path| path.iter().map(ToString::to_string).collect::<String>());
            let fields = paths.collect::<Vec<_>>().join(", ");
            let line = format!("{}: {fields} stays as `{manager}` has it by now", self.place);
            tracing::warn!(operation = self.scope.operation.id, "{line}");
            self.scope.operation.progress.show(&format!(" ---> {line} <---\n"));
        }
    }

    async fn changed(&self, call: Call) -> Result<Value, Error> {
        let gone = || EngineError::Conflict(format!("{} has gone", self.place));
        Ok(self.object(call).await?.ok_or_else(gone)?)
    }

    /// The object that a call gives; none when it is not there.
    async fn object(&self, call: Call) -> Result<Option<Value>, Error> {
        match self.send(call).await {
            Ok(Reply::Object(object)) => Ok(Some(object)),
            Ok(_) => Err(EngineError::Failed("no answer with an object".to_owned()).into()),
            Err(Error::Engine(EngineError::NotFound(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn send(&self, call: Call) -> Result<Reply, Error> {
        let sent = match &self.sender {
            Sender::Below(backends) => backends.perform(self.scope, call.into()).await?,
            Sender::Next(_, given_up) if given_up.is_cancelled() => {
                return Err(EngineError::Cancelled.into());
            }
            Sender::Next(next, given_up) => {
                let request = Request { given_up: Some(given_up.clone()), ..call.into() };
                next.clone().send(self.scope, request).await?
            }
        };
        Ok(sent.reply)
    }
}

/// Says in a change which object is meant.
fn name(change: &mut Value, object: &Value, by: &[&str]) {
    for key in by {
        say(change, key, word(object, key));
    }
}
