//! Deploys, and the return to what was deployed before.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::image::split_image_name;
use serde_json::json;

use super::images::Ending;
use super::units::Change;
use super::{OrProblem, Service, after};
use crate::api::{Problem, ProblemKind};
use crate::operation::Caller;
use crate::store::StoreError;

/// How long removing images may take that nobody needs.
const CLEAN: Duration = Duration::from_secs(120);

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
            let image = change.deploy(&image, title).await?;
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

impl Change {
    /// Deploys an image. Of a deploy that fails no image is left that was made for it, neither on hosts nor in the registry.
    pub(super) async fn deploy(&self, image: &str, title: String) -> Result<String, Problem> {
        let app = &self.record.app;
        let before =
            self.service.store.image_count(&app.name).await.or_problem(|| title.clone())?;
        let deployed = self.provisioner.deploy(&self.operation, app, image).await;
        if deployed.is_err() {
            match self.made_since(before).await {
                Ok(images) => self.clean(images, Ending::Deploy).await,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(app = app.name, error, "what a deploy made stays");
                }
            }
        }
        deployed.or_problem(|| title)
    }

    /// The images whose names were reserved after the first `before`.
    async fn made_since(&self, before: u64) -> Result<Vec<String>, StoreError> {
        let app = &self.record.app.name;
        let count = self.service.store.image_count(app).await?;
        let names = self.service.image_names(&self.provisioner);
        Ok((before..count).map(|number| names.app_version(app, number.saturating_add(1))).collect())
    }

    /// Removes images of one repository that nobody needs, as far as no app has them. The operation may have been cancelled: this is part of its undo.
    pub(super) async fn clean(&self, mut images: Vec<String>, ending: Ending) {
        let Some(first) = images.first() else { return };
        let (repository, _) = split_image_name(first);
        match self.service.store.images_of_repository(repository).await {
            Ok(had) => images.retain(|image| {
                let (_, tag) = split_image_name(image);
                had.iter().all(|(_, version)| version != tag)
            }),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(?images, error, "images that nobody needs stay");
                return;
            }
        }
        let operation = after(&self.operation, CLEAN);
        let app = &self.record.app.name;
        let clean = self.service.clean(&operation, &self.provisioner, app, &images, ending);
        if tokio::time::timeout(CLEAN, clean).await.is_err() {
            operation.cancel.cancel();
            tracing::warn!(app, ?images, "images that nobody needs may stay");
        }
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
