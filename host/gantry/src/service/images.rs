//! Images that nobody needs any more: those that were made of apps and are older than what an app can return to, and those of apps that are removed (spec 5.13).
//!
//! Only images that the platform itself named go. An image that somebody deployed by its name is his. From the hosts they go first, and then from the registry that they are named after.

mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use gantry_core::Settings;
use gantry_core::image::{ImageHistory, ImageNames};
use gantry_engine::Operation;
use gantry_runtime::{Interface, Provisioner};
use serde_json::json;
use tokio::time::Instant;

use super::stuck::AllStuck;
use super::{OrProblem, Service, app_lock, time_of};
use crate::api::{Problem, ProblemKind};
use crate::operation::{Caller, Request, of_app};
use crate::store::StoreError;

pub(super) use registry::Registries;

/// The shortest pause before an image that could not be removed is tried again.
const SHORTEST: Duration = Duration::from_secs(5 * 60);

/// The longest one.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Who cleans.
const CLEANER: &str = "image-cleaner";

/// How many apps are cleaned at the same time.
const AT_ONCE: usize = 8;

/// Why images go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The app has newer ones.
    Images,
    /// They were made for a deploy that failed.
    Deploy,
    /// The app itself goes.
    App,
}

/// An app and an image of it.
type OfApp = (String, String);

impl Service {
    /// Looks for images that nobody needs, for ever.
    pub(crate) async fn keep_cleaning_images(self: &Arc<Self>) {
        let every = self.config.images_every;
        if every.is_zero() {
            return;
        }
        let stuck = AllStuck::new(SHORTEST, LONGEST);
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.clean_images(&stuck).await {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot look at images");
            }
        }
    }

    /// One look at the images of every app.
    async fn clean_images(self: &Arc<Self>, stuck: &AllStuck<OfApp>) -> Result<(), StoreError> {
        let mut all = BTreeSet::new();
        let mut due = Vec::new();
        let now = Instant::now();
        for provisioner in self.registry.list() {
            let stale = self.stale_images(provisioner.name()).await?;
            let mut apps: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for image in stale {
                if !stuck.lock().waits(&image, now) {
                    apps.entry(image.0.clone()).or_default().push(image.1.clone());
                }
                all.insert(image);
            }
            due.extend(apps.into_iter().map(|(app, images)| (provisioner.clone(), app, images)));
        }
        stuck.lock().keep(|image| all.contains(image));
        let mut cleaning = Vec::with_capacity(due.len());
        for (provisioner, app, images) in due {
            cleaning.push(self.clean_images_of(provisioner, app, images, stuck.clone()));
        }
        stream::iter(cleaning).buffer_unordered(AT_ONCE).collect::<()>().await;
        Ok(())
    }

    /// The images of a provisioner's apps that they cannot return to any more, and that are each of one app alone.
    async fn stale_images(&self, provisioner: &str) -> Result<Vec<OfApp>, StoreError> {
        let config = self.config.provisioner(provisioner).config;
        let names = ImageNames::from_settings(&config);
        let size = ImageHistory::size(config.integer("docker:image-history-size"));
        Ok(own(&names, self.store.stale_images(provisioner, size).await?))
    }

    async fn clean_images_of(
        self: &Arc<Self>,
        provisioner: Provisioner,
        app: String,
        images: Vec<String>,
        stuck: AllStuck<OfApp>,
    ) {
        // Whoever changes it makes images, and needs those that there are.
        if self.operations.is_locked(&of_app(&app)) {
            return;
        }
        let request = Request {
            verb: "image-clean",
            app: Some(app.clone()),
            plugin: Some(provisioner.name().to_owned()),
            digest: Some(provisioner.generation().digest().to_owned()),
            detail: json!({"images": images}),
            lock: app_lock(&app),
            time: time_of(&provisioner),
            caller: Caller { who: CLEANER.to_owned(), ..Caller::default() },
        };
        let service = Arc::clone(self);
        let begun = self.operations.begin(request, move |work| async move {
            let title = || format!("could not clean the images of `{app}`");
            // Somebody may have returned to one of them before the app was locked.
            let still = service.stale_images(provisioner.name()).await.or_problem(title)?;
            let is_stale =
                |image: &String| still.iter().any(|(of, stale)| (of, stale) == (&app, image));
            let images: Vec<String> = images.into_iter().filter(is_stale).collect();
            let ending = Ending::Images;
            let cleaned = service.clean(&work.operation, &provisioner, &app, &images, ending).await;
            let left = images.into_iter().filter(|image| !cleaned.contains(image));
            let left: Vec<String> = left.collect();
            for image in &left {
                stuck.lock().failed((app.clone(), image.clone()), Instant::now());
            }
            for image in &cleaned {
                service.store.forget_image(&app, image, image).await.or_problem(title)?;
            }
            if work.operation.cancel.is_cancelled() {
                return Err(Problem::new(ProblemKind::Cancelled, title())
                    .because(format!("{} are left", left.len())));
            }
            Ok(json!({"cleaned": cleaned, "left": left}))
        });
        match begun.await {
            Ok(operation) => self.operations.ended(&operation).await,
            // Somebody changes the app just now.
            Err(refusal) => tracing::debug!(%refusal, "images are not cleaned"),
        }
    }

    /// Removes the images that were made of an app that is removed, and tells what stays: nothing points to it any more.
    pub(super) async fn clean_all_images(
        &self,
        operation: &Operation,
        provisioner: &Provisioner,
        app: &str,
    ) -> Vec<String> {
        let names = self.image_names(provisioner);
        let images = match self.store.images_of_one(app).await {
            Ok(images) => images,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(app, error, "the images of an app that is removed stay");
                return vec![format!("its images: {error}")];
            }
        };
        let own: Vec<String> =
            images.into_iter().filter(|image| names.is_of_app(image, app)).collect();
        let cleaned = self.clean(operation, provisioner, app, &own, Ending::App).await;
        let left = own.into_iter().filter(|image| !cleaned.contains(image));
        left.map(|image| format!("the image {image}")).collect()
    }

    /// Removes images of an app, which have one name but for their tags, until the operation is cancelled, and gives those that nothing is left to be done for. Where no provisioner removes any,
    /// as on nodes that look after their images themselves, they are gone at once.
    pub(super) async fn clean(
        &self,
        operation: &Operation,
        provisioner: &Provisioner,
        app: &str,
        images: &[String],
        ending: Ending,
    ) -> Vec<String> {
        let mut gone = Vec::new();
        let here = provisioner.supports(Interface::ImageCleaner);
        for (index, image) in images.iter().enumerate() {
            if operation.cancel.is_cancelled() {
                let left = images.len().saturating_sub(index);
                tracing::warn!(app, left, "cancelled: images stay");
                break;
            }
            if !here {
                gone.push(image.clone());
                continue;
            }
            match provisioner.clean_image(operation, app, image).await {
                Ok(()) => gone.push(image.clone()),
                Err(error) => tracing::warn!(app, image, %error, "an image stays"),
            }
        }
        let due = match ending {
            Ending::Images => gone,
            // Nobody comes back for what a host keeps.
            Ending::Deploy | Ending::App => images.to_vec(),
        };
        self.delete_from_registry(operation, provisioner, app, due, ending).await
    }

    /// How the images of a provisioner's apps are called.
    pub(super) fn image_names(&self, provisioner: &Provisioner) -> ImageNames {
        ImageNames::from_settings(&self.config.provisioner(provisioner.name()).config)
    }
}

/// Those that were made of their apps.
fn own(names: &ImageNames, mut images: Vec<OfApp>) -> Vec<OfApp> {
    images.retain(|(app, image)| names.is_of_app(image, app));
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_that_were_made_of_the_app_go() {
        let names = ["tsuru/app-web:v1", "shop:1", "tsuru/app-other:v1"];
        let left = own(&ImageNames::from_settings(&()), names.map(image).to_vec());
        assert_eq!(left, [image("tsuru/app-web:v1")]);
    }

    fn image(name: &str) -> OfApp {
        ("web".to_owned(), name.to_owned())
    }
}
