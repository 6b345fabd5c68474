//! Deploys, and the return to what was deployed before.

use std::sync::Arc;

use serde_json::json;

use super::{OrProblem, Service};
use crate::api::{Problem, ProblemKind};
use crate::operation::Caller;

impl Service {
    /// Deploys an image as an app's new version.
    pub(crate) async fn deploy(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        image: String,
    ) -> Result<String, Problem> {
        let title = format!("could not deploy `{app}`");
        check(&image, &title, || format!("`gantry app deploy {app} --image IMAGE`"))?;
        self.change(caller, "deploy", app, json!({"image": image}), move |change| async move {
            let app = &change.record.app;
            let deployed = change.provisioner.deploy(&change.operation, app, &image).await;
            let image = deployed.or_problem(|| title)?;
            change.count_deploy(true).await;
            Ok(json!({"image": image}))
        })
        .await
    }

    /// Returns to an image that was deployed before.
    pub(crate) async fn rollback(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        image: String,
    ) -> Result<String, Problem> {
        let title = format!("could not roll `{app}` back");
        check(&image, &title, || format!("`gantry app info {app}` lists the images"))?;
        self.change(caller, "rollback", app, json!({"image": image}), move |change| async move {
            let app = &change.record.app;
            let deployed = change.provisioner.rollback(&change.operation, app, &image).await;
            let image = deployed.or_problem(|| title)?;
            change.count_deploy(true).await;
            Ok(json!({"image": image}))
        })
        .await
    }
}

fn check(image: &str, title: &str, hint: impl FnOnce() -> String) -> Result<(), Problem> {
    if !image.is_empty() && !image.contains(char::is_whitespace) {
        return Ok(());
    }
    Err(Problem::new(ProblemKind::Invalid, title)
        .because(format!("`{image}` is no name of an image"))
        .hint(hint()))
}
