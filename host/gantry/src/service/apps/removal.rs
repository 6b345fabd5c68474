//! Apps: removed with all that they have, or forgotten when that cannot be done.

use std::sync::Arc;
use std::time::Duration;

use gantry_runtime::Provisioner;
use serde_json::{Value, json};

use crate::api::Problem;
use crate::operation::{Caller, Request};
use crate::service::{OrProblem, Service, app_lock, time_of};

const VERB: &str = "app-remove";

/// How long forgetting an app may take whose provisioner does not serve.
const TIME: Duration = Duration::from_secs(60);

impl Service {
    /// Removes an app with all that it has; with `force` it is forgotten, whatever of it cannot be removed.
    pub(crate) async fn remove_app(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        force: bool,
    ) -> Result<String, Problem> {
        if force {
            return self.forget_app(caller, app).await;
        }
        self.change(caller, VERB, app, json!({}), move |change| async move {
            let app = &change.record.app;
            let title = || title(&app.name);
            change.service.refuse_swapped(&app.name, title()).await?;
            change.provisioner.destroy(&change.operation, app).await.or_problem(title)?;
            let mut left = change.service.leave_services(&app.name).await;
            let (service, operation) = (&change.service, &change.operation);
            left.extend(service.clean_all_images(operation, &change.provisioner, &app.name).await);
            change.service.store.remove_app(&app.name).await.or_problem(title)?;
            Ok(removed(&change.operation, &app.name, &left))
        })
        .await
    }

    /// Removes what can be removed of an app, wherever it is on its way between pools, and forgets it. Neither a provisioner that does not serve nor a move that cannot end keeps it.
    async fn forget_app(self: &Arc<Self>, caller: Caller, app: &str) -> Result<String, Problem> {
        let record = self.record(app).await?;
        let provisioner = self.provisioner(&record.provisioner).ok();
        let serving = provisioner.as_ref().map(Provisioner::generation);
        // One that hangs leaves the other its time.
        let mut time = provisioner.as_ref().map_or(TIME, time_of);
        if let Some(begun) = self.store.move_of(app).await.or_problem(|| title(app))?
            && let Ok(there) = self.provisioner(&begun.to_provisioner)
        {
            time = time.saturating_add(time_of(&there));
        }
        let request = Request {
            verb: VERB,
            app: Some(app.to_owned()),
            plugin: Some(record.provisioner),
            digest: serving.map(|serving| serving.digest().to_owned()),
            detail: json!({"force": true}),
            lock: app_lock(app),
            time,
            caller,
        };
        let (service, name) = (Arc::clone(self), app.to_owned());
        let begun = self.operations.begin(request, move |begun| async move {
            service.counts.begin(&name);
            let ended = service.forget(&begun.operation, &name).await;
            service.counts.begin(&name);
            ended
        });
        begun.await.or_problem(|| title(app))
    }

    async fn forget(
        &self,
        operation: &gantry_engine::Operation,
        name: &str,
    ) -> Result<Value, Problem> {
        let title = || title(name);
        let record = self.record(name).await?;
        let mut places = vec![(record.provisioner, record.app.clone())];
        if let Some(begun) = self.store.move_of(name).await.or_problem(title)? {
            let there = gantry_core::App { pool: begun.to_pool, ..record.app };
            places.push((begun.to_provisioner, there));
        }
        let (mut left, mut kept) = (Vec::new(), Vec::new());
        for (provisioner, app) in places {
            let destroyed = match self.provisioner(&provisioner) {
                Ok(provisioner) => {
                    let destroyed = provisioner.destroy(operation, &app).await.or_problem(title);
                    left.extend(self.clean_all_images(operation, &provisioner, name).await);
                    if destroyed.is_err() {
                        kept.push((provisioner, app));
                    }
                    destroyed
                }
                Err(problem) => Err(problem),
            };
            match destroyed {
                // Who asked to stop is heard, forced or not.
                Err(problem) if operation.cancel.is_cancelled() => return Err(problem),
                Err(problem) => left.push(match problem.detail.as_str() {
                    "" => problem.title,
                    detail => detail.to_owned(),
                }),
                Ok(()) => {}
            }
        }
        left.extend(self.leave_services(name).await);
        self.store.remove_app(name).await.or_problem(title)?;
        for (provisioner, app) in kept {
            // Nobody knows the app now, so that nothing of it need be kept. What cannot be removed is told already.
            if let Err(error) = provisioner.destroy(operation, &app).await {
                let provisioner = provisioner.name();
                tracing::warn!(app = name, provisioner, %error, "some of it may still be there");
            }
        }
        Ok(removed(operation, name, &left))
    }
}

/// What the removal of an app gives, told with what may be left of it.
fn removed(operation: &gantry_engine::Operation, app: &str, left: &[String]) -> Value {
    if left.is_empty() {
        return json!({"app": app});
    }
    let left = left.join("; ");
    operation.progress.show(&format!("warning: some of it may still be there: {left}\n"));
    json!({"app": app, "left": left})
}

fn title(app: &str) -> String {
    format!("could not remove the app `{app}`")
}
