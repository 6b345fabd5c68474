//! The platform as provisioners see it: apps, images and durable keys, over the store.

mod routers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gantry_core::env::app_envs;
use gantry_core::image::{ImageHistory, ImageMetadata, ImageNames, split_image_name};
use gantry_core::settings::Settings;
use gantry_core::{App, AppRouter, EnvVar, Error, Unit, Volume, VolumeBind};
use gantry_engine::call::{Entry, EntryPage};
use gantry_engine::{AppLock, Apps, Images, State};

use crate::config::Token;
use crate::counts::Counts;
use crate::operation::{Operations, Refusal, of_app};
use crate::routing::Routing;
use crate::service::{BindError, Bindings, BoundApp, hosts};
use crate::store::{AppRecord, RoutesOf, Store, StoreError};

/// Apps, images and keys over the store, as one provisioner sees them: the apps of others are not there for it.
pub(crate) struct Platform {
    store: Arc<Store>,
    counts: Counts,
    bindings: Bindings,
    routing: Routing,
    /// What may lock apps; none where nothing changes any.
    operations: Option<Arc<Operations>>,
    provisioner: String,
    names: ImageNames,
    history_size: usize,
    plans: Plans,
}

/// The variable with what the agents in the units of an app show to be let in.
pub(crate) const TOKEN: &str = "TSURU_APP_TOKEN";

/// How long the id and the address of a unit may be that services are told of.
const LONGEST: usize = 255;

/// What each plan of volumes means to each provisioner.
type Plans = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

impl Platform {
    /// The platform for one provisioner: its configuration says how images are called and how many are kept.
    pub(crate) fn new(
        store: Arc<Store>,
        provisioner: &str,
        settings: &(impl Settings + ?Sized),
    ) -> Self {
        Self {
            counts: Counts::new(Arc::clone(&store)),
            bindings: Bindings::new(Arc::clone(&store)),
            routing: Routing::none(Arc::clone(&store)),
            operations: None,
            store,
            provisioner: provisioner.to_owned(),
            names: ImageNames::from_settings(settings),
            history_size: ImageHistory::size(settings.integer("docker:image-history-size")),
            plans: Plans::new(),
        }
    }

    /// The same with plans of volumes.
    pub(crate) fn with_plans(self, plans: &Plans) -> Self {
        Self { plans: plans.clone(), ..self }
    }

    /// The same with the counts that others keep too.
    pub(crate) fn with_counts(self, counts: &Counts) -> Self {
        Self { counts: counts.clone(), ..self }
    }

    /// The same with the routers that its apps may have.
    pub(crate) fn with_routing(self, routing: &Routing) -> Self {
        Self { routing: routing.clone(), ..self }
    }

    /// The same with the operations that may lock its apps.
    pub(crate) fn with_operations(self, operations: &Arc<Operations>) -> Self {
        Self { operations: Some(Arc::clone(operations)), ..self }
    }

    async fn record(&self, name: &str) -> Result<AppRecord, Error> {
        let record = self.store.app(name).await.map_err(unavailable)?;
        match record {
            Some(record) if record.provisioner == self.provisioner => Ok(record),
            Some(record) => self.arriving(record).await,
            None => Err(no_app(name)),
        }
    }

    /// An app of another provisioner that is on its way to this one, as it will be.
    async fn arriving(&self, mut record: AppRecord) -> Result<AppRecord, Error> {
        let begun = self.store.move_of(&record.app.name).await.map_err(unavailable)?;
        let Some(begun) = begun.filter(|begun| begun.to_provisioner == self.provisioner) else {
            return Err(no_app(&record.app.name));
        };
        record.app.pool = begun.to_pool;
        record.provisioner = begun.to_provisioner;
        Ok(record)
    }

    /// An app as its services are told of it.
    async fn bound(&self, name: &str) -> Result<BoundApp, Error> {
        let hosts = hosts(Apps::routers(self, name).await?);
        Ok(BoundApp { name: name.to_owned(), hosts })
    }

    /// What was written down of an image, as it was told.
    pub(crate) async fn custom_data(&self, image: &str) -> Result<Option<String>, Error> {
        let key = self.key(image).await?;
        self.store.image_custom_data(&key).await.map_err(unavailable)
    }

    /// Whether this is a name that was reserved for an app of the provisioner.
    async fn is_reserved(&self, image: &str) -> Result<bool, Error> {
        let Some((app, number)) = named_by(image) else {
            return Ok(false);
        };
        if self.names.app_version(app, number) != image || self.record(app).await.is_err() {
            return Ok(false);
        }
        let reserved = self.store.image_count(app).await.map_err(unavailable)?;
        Ok((1..=reserved).contains(&number))
    }

    /// Under what the store knows an image for the provisioner.
    async fn key(&self, image: &str) -> Result<String, Error> {
        Ok(if self.is_reserved(image).await? { image.to_owned() } else { self.private(image) })
    }

    /// Under what the provisioner writes of an image that is not of an app of its own: others write something else of the same image, or nothing.
    fn private(&self, image: &str) -> String {
        // No name of a provisioner or of an image has a line feed.
        format!("{}\n{image}", self.provisioner)
    }
}

/// The app and the number in the name of an app's image (`tsuru/app-web:v3`), if it is spelled like one.
fn named_by(image: &str) -> Option<(&str, u64)> {
    let (repository, tag) = split_image_name(image);
    let name = repository.rsplit('/').next()?;
    Some((name.strip_prefix("app-")?, tag.strip_prefix('v')?.parse().ok()?))
}

/// The environment with what the agents in the units show to be let in, whatever else has its name.
fn with_token(mut envs: Vec<EnvVar>, token: &Token) -> Vec<EnvVar> {
    envs.retain(|env| env.name != TOKEN);
    let at = envs.partition_point(|env| env.name.as_str() < TOKEN);
    let value = token.reveal().to_owned();
    envs.insert(at, EnvVar { name: TOKEN.to_owned(), value, public: false });
    envs
}

fn no_app(name: &str) -> Error {
    Error::NotFound(format!("no app `{name}`"))
}

/// A plugin is told that the store failed; what exactly is for the operator's log. That it keeps as much as it may is for the plugin alone.
fn unavailable(error: StoreError) -> Error {
    if let StoreError::OwnerFull { .. } = error {
        return Error::InvalidArgument(error.to_string());
    }
    tracing::error!(error = &error as &dyn std::error::Error, "the store failed a plugin");
    Error::Unavailable(error.to_string())
}

#[async_trait]
impl Apps for Platform {
    async fn get(&self, name: &str) -> Result<App, Error> {
        Ok(self.record(name).await?.app)
    }

    async fn envs(&self, name: &str) -> Result<Vec<EnvVar>, Error> {
        self.record(name).await?;
        let set = self.store.envs(name).await.map_err(unavailable)?;
        let envs = app_envs(&set, &self.bindings.instances(name).await.map_err(unavailable)?);
        let token = self.store.app_token(name).await.map_err(unavailable)?;
        Ok(with_token(envs, &token.ok_or_else(|| no_app(name))?))
    }

    async fn routers(&self, name: &str) -> Result<Vec<AppRouter>, Error> {
        self.routing.of_app(&self.record(name).await?).await.map_err(unavailable)
    }

    async fn volumes(&self, name: &str) -> Result<Vec<Volume>, Error> {
        self.record(name).await?;
        let volumes = self.store.volumes().await.map_err(unavailable)?;
        let bound = volumes.into_iter().filter_map(|volume| {
            let of_app = volume.binds.into_iter().filter(|bind| bind.app == name);
            let binds: Vec<_> = of_app
                .map(|bind| VolumeBind { mount_point: bind.mount_point, read_only: bind.read_only })
                .collect();
            let plan = self.plans.get(&volume.plan).and_then(|plan| plan.get(&self.provisioner));
            (!binds.is_empty()).then(|| Volume {
                name: volume.name,
                pool: volume.pool,
                plan_options: plan.cloned().unwrap_or_default(),
                plan: volume.plan,
                options: volume.options,
                binds,
            })
        });
        Ok(bound.collect())
    }

    async fn bind_unit(&self, name: &str, unit: &Unit) -> Result<(), Error> {
        for (what, text) in [("id", &unit.id), ("address", &unit.ip)] {
            if text.len() > LONGEST {
                let why = format!("the {what} of a unit has more than {LONGEST} bytes");
                return Err(Error::InvalidArgument(why));
            }
        }
        let app = self.bound(name).await?;
        self.bindings.bind_unit(&app, unit).await.map_err(|error| match error {
            BindError::Service(error) => error.into(),
            BindError::Store(error) => unavailable(error),
            BindError::TooMany { .. } => Error::InvalidArgument(error.to_string()),
        })
    }

    async fn unbind_unit(&self, name: &str, unit: &Unit) -> Result<(), Error> {
        let app = self.bound(name).await?;
        self.bindings.unbind_unit(&app, &unit.id).await.map_err(unavailable)
    }

    async fn set_quota_in_use(&self, name: &str, units: i32) -> Result<(), Error> {
        let requested = u32::try_from(units).map_err(|_| {
            Error::InvalidArgument("invalid value, cannot be lesser than 0".to_owned())
        })?;
        self.record(name).await?;
        match self.counts.tell(name, requested).await.map_err(unavailable)? {
            None => Err(no_app(name)),
            Some(Err(available)) => Err(Error::QuotaExceeded { available, requested }),
            Some(Ok(())) => Ok(()),
        }
    }

    async fn lock(&self, name: &str, operation: &str, wait: Duration) -> Result<AppLock, Error> {
        self.record(name).await?;
        let held = match &self.operations {
            Some(operations) => operations.lock(&of_app(name), operation, wait).await,
            None => Ok(None),
        };
        let held = held.map_err(not_locked)?.ok_or_else(|| {
            Error::InvalidArgument(format!("no operation `{operation}` is under way"))
        })?;
        // Whoever had it locked may have removed it, or moved it away.
        self.record(name).await?;
        // Whatever is changed of it meanwhile: its routes are looked at when the lock is free again.
        self.routing.mark(RoutesOf::App(name)).await.map_err(unavailable)?;
        Ok(AppLock::new((held, Look(self.routing.clone()))))
    }
}

#[async_trait]
impl Images for Platform {
    async fn reserve(&self, app: &str) -> Result<String, Error> {
        self.record(app).await?;
        let number = self.store.next_image_number(app).await.map_err(unavailable)?;
        Ok(self.names.app_version(app, number))
    }

    async fn append(&self, app: &str, image: &str) -> Result<(), Error> {
        self.record(app).await?;
        self.store.append_image(app, image).await.map_err(unavailable)
    }

    async fn current(&self, app: &str) -> Result<String, Error> {
        self.record(app).await?;
        let images = self.store.images(app).await.map_err(unavailable)?;
        let reserved = self.store.image_count(app).await.map_err(unavailable)?;
        let history = ImageHistory { images, reserved };
        // An empty history without a number given is that of an app that was never deployed.
        let history = (!history.images.is_empty() || history.reserved > 0).then_some(&history);
        ImageHistory::current(history, &self.names, app)
            .map_err(|error| Error::NotFound(error.to_string()))
    }

    async fn history(&self, app: &str) -> Result<Vec<String>, Error> {
        self.record(app).await?;
        let images = self.store.images(app).await.map_err(unavailable)?;
        Ok(ImageHistory { images, reserved: 0 }.valid(self.history_size).to_vec())
    }

    async fn metadata(&self, image: &str) -> Result<Option<ImageMetadata>, Error> {
        let key = self.key(image).await?;
        self.store.image_metadata(&key).await.map_err(unavailable)
    }

    async fn save_metadata(&self, image: &str, custom_data: &str) -> Result<(), Error> {
        let invalid =
            |reason: String| Error::InvalidArgument(format!("custom data of `{image}`: {reason}"));
        let data: serde_json::Value =
            serde_json::from_str(custom_data).map_err(|error| invalid(error.to_string()))?;
        let metadata =
            ImageMetadata::from_custom_data(&data).map_err(|error| invalid(error.to_string()))?;
        let key = self.key(image).await?;
        // Written by serde_json again, two spellings of one document are the same text.
        let saved = self
            .store
            .save_image_metadata(&self.provisioner, &key, data.to_string(), metadata)
            .await
            .map_err(unavailable)?;
        if saved {
            Ok(())
        } else {
            Err(Error::Conflict(format!(
                "other data of the image `{image}` was written down before"
            )))
        }
    }

    async fn forget(&self, app: &str, image: &str) -> Result<(), Error> {
        self.record(app).await?;
        // Under its name it is in the app's history only: what is written of it may be another's there.
        let key = self.key(image).await?;
        self.store.forget_image(app, image, &key).await.map_err(unavailable)
    }
}

#[async_trait]
impl State for Platform {
    async fn get(&self, owner: &str, key: &str) -> Result<Option<Entry>, Error> {
        self.store.get_state(owner, key).await.map_err(unavailable)
    }

    async fn put_if(
        &self,
        owner: &str,
        key: &str,
        value: &[u8],
        expected: Option<u64>,
    ) -> Result<u64, Error> {
        self.store
            .put_state(owner, key, value, expected)
            .await
            .map_err(unavailable)?
            .ok_or_else(|| moved_on(key))
    }

    async fn delete_if(&self, owner: &str, key: &str, expected: u64) -> Result<(), Error> {
        if self.store.delete_state(owner, key, expected).await.map_err(unavailable)? {
            Ok(())
        } else {
            Err(moved_on(key))
        }
    }

    async fn list(
        &self,
        owner: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<EntryPage, Error> {
        self.store.list_state(owner, prefix, after, limit).await.map_err(unavailable)
    }
}

/// Looks at routes when it is dropped.
struct Look(Routing);

impl Drop for Look {
    fn drop(&mut self) {
        self.0.look();
    }
}

fn not_locked(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Busy { .. } => Error::Conflict(refusal.to_string()),
        Refusal::KeyUsed(_) | Refusal::ShuttingDown | Refusal::Store(_) => {
            Error::Unavailable(refusal.to_string())
        }
    }
}

fn moved_on(key: &str) -> Error {
    Error::Conflict(format!("the key `{key}` has another version than expected"))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::operation::{Request, Work};
    use crate::store::{BindRecord, MoveRecord, VolumeRecord};

    async fn platform(quota: Option<u32>) -> (tempfile::TempDir, Platform) {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let app = App { name: "web".to_owned(), ..App::default() };
        let provisioner = "docker".to_owned();
        let record = AppRecord { app, provisioner, unit_quota: quota, ..AppRecord::default() };
        assert!(store.insert_app(record).await.unwrap());
        let platform = of(store, "docker");
        (folder, platform)
    }

    fn of(store: Arc<Store>, provisioner: &str) -> Platform {
        let tables = serde_json::json!({"docker": {"image-history-size": 2}});
        Platform::new(store, provisioner, &tables)
    }

    #[tokio::test]
    async fn the_app_of_another_provisioner_is_not_there() {
        let (_folder, docker) = platform(None).await;
        let acme = of(Arc::clone(&docker.store), "acme");
        let image = docker.reserve("web").await.unwrap();
        docker.append("web", &image).await.unwrap();
        docker.save_metadata(&image, "{}").await.unwrap();
        let (unit, not_there) = (Unit::default(), Err(no_app("web")));
        assert_eq!(Apps::get(&acme, "web").await.map(drop), not_there);
        assert_eq!(acme.envs("web").await.map(drop), not_there);
        assert_eq!(acme.routers("web").await.map(drop), not_there);
        assert_eq!(acme.bind_unit("web", &unit).await, not_there);
        assert_eq!(acme.unbind_unit("web", &unit).await, not_there);
        assert_eq!(acme.set_quota_in_use("web", 1).await, not_there);
        assert_eq!(acme.reserve("web").await.map(drop), not_there);
        assert_eq!(acme.append("web", "theirs:1").await, not_there);
        assert_eq!(acme.current("web").await.map(drop), not_there);
        assert_eq!(Images::history(&acme, "web").await.map(drop), not_there);
        assert_eq!(acme.forget("web", &image).await, not_there);
        assert_eq!(acme.metadata(&image).await, Ok(None));
        assert_eq!(docker.current("web").await.unwrap(), image);
        assert!(docker.metadata(&image).await.unwrap().is_some());
        assert_eq!(docker.store.app("web").await.unwrap().unwrap().units_in_use, 0);
    }

    #[tokio::test]
    async fn services_are_told_of_no_unit_with_an_endless_name() {
        let (_folder, platform) = platform(None).await;
        let unit = |id: usize, ip: usize| Unit {
            id: "u".repeat(id),
            ip: "1".repeat(ip),
            ..Unit::default()
        };
        for (id, ip, what) in [(256, 0, "id"), (1, 256, "address")] {
            let why = format!("the {what} of a unit has more than 255 bytes");
            let refused = platform.bind_unit("web", &unit(id, ip)).await;
            assert_eq!(refused, Err(Error::InvalidArgument(why)));
        }
        assert_eq!(platform.bind_unit("web", &unit(255, 255)).await, Ok(()));
    }

    /// An operation that has this locked, until it is told to end.
    async fn holding(
        operations: &Arc<Operations>,
        lock: Option<String>,
    ) -> (String, oneshot::Sender<()>) {
        let (end, ended) = oneshot::channel::<()>();
        let time = Duration::from_secs(60);
        let request = Request { verb: "heal", lock, time, ..Request::default() };
        let work = |_: Work| async move {
            ended.await.unwrap();
            Ok(serde_json::json!({}))
        };
        (operations.begin(request, work).await.unwrap(), end)
    }

    #[tokio::test]
    async fn a_provisioner_locks_apps_of_its_own_and_only_in_an_operation() {
        let (_folder, docker) = platform(None).await;
        let operations = Operations::new(Arc::clone(&docker.store));
        let acme = of(Arc::clone(&docker.store), "acme").with_operations(&operations);
        let docker = docker.with_operations(&operations);
        let (first, end) = holding(&operations, None).await;
        let (second, done) = holding(&operations, None).await;
        let now = Duration::ZERO;
        assert_eq!(acme.lock("web", &first, now).await.map(drop), Err(no_app("web")));
        assert_eq!(docker.lock("api", &first, now).await.map(drop), Err(no_app("api")));
        let error = docker.lock("web", "0000", now).await.unwrap_err();
        assert_eq!(error, Error::InvalidArgument("no operation `0000` is under way".to_owned()));
        let lock = docker.lock("web", &first, now).await.unwrap();
        let Err(Error::Conflict(text)) = docker.lock("web", &second, now).await else {
            panic!("two have it");
        };
        let told = format!("`the app web` is being changed by operation `{first}` (heal, since ");
        assert!(text.starts_with(&told), "{text}");
        drop(lock);
        docker.lock("web", &second, now).await.unwrap();
        end.send(()).unwrap();
        done.send(()).unwrap();
    }

    #[tokio::test]
    async fn the_routes_of_an_app_are_looked_at_when_its_lock_is_free_again() {
        let (_folder, docker) = platform(None).await;
        let operations = Operations::new(Arc::clone(&docker.store));
        let docker = docker.with_operations(&operations);
        let (first, end) = holding(&operations, None).await;
        let lock = docker.lock("web", &first, Duration::ZERO).await.unwrap();
        let marked = docker.store.marked_routes().await.unwrap();
        assert_eq!(marked.iter().map(|one| one.app.as_str()).collect::<Vec<_>>(), ["web"]);
        let mut looked = std::pin::pin!(docker.routing.looked());
        tokio::select! {
            biased;
            () = &mut looked => panic!("it is still being changed"),
            () = std::future::ready(()) => {}
        }
        drop(lock);
        looked.await;
        assert!(!operations.is_locked(&of_app("web")));
        end.send(()).unwrap();
    }

    #[tokio::test]
    async fn an_app_that_is_gone_when_its_lock_is_free_is_not_there() {
        let (_folder, docker) = platform(None).await;
        let operations = Operations::new(Arc::clone(&docker.store));
        let docker = docker.with_operations(&operations);
        let (_, end) = holding(&operations, Some(of_app("web"))).await;
        let (second, done) = holding(&operations, None).await;
        let mut waiting = docker.lock("web", &second, Duration::from_secs(60));
        tokio::select! {
            biased;
            locked = &mut waiting => panic!("it is taken: {locked:?}"),
            // Reads are answered in order: after this one it has seen the app, and waits for the lock.
            read = docker.store.app("web") => drop(read.unwrap()),
        }
        docker.store.remove_app("web").await.unwrap();
        end.send(()).unwrap();
        assert_eq!(waiting.await.map(drop), Err(no_app("web")));
        done.send(()).unwrap();
    }

    #[tokio::test]
    async fn what_a_provisioner_writes_of_an_image_is_not_what_another_reads() {
        let (_folder, docker) = platform(None).await;
        let acme = of(Arc::clone(&docker.store), "acme");
        // The name of the next image of the other's app, and an image of nobody.
        for image in ["tsuru/app-web:v1", "sha256:0a"] {
            acme.save_metadata(image, r#"{"processes": {"web": "steal"}}"#).await.unwrap();
        }
        assert_eq!(docker.reserve("web").await.unwrap(), "tsuru/app-web:v1");
        for image in ["tsuru/app-web:v1", "sha256:0a"] {
            assert_eq!(docker.metadata(image).await, Ok(None), "{image}");
            docker.save_metadata(image, r#"{"exposedPort": "80/tcp"}"#).await.unwrap();
            let metadata = docker.metadata(image).await.unwrap().unwrap();
            assert_eq!(metadata.exposed_port, "80/tcp");
            docker.forget("web", image).await.unwrap();
            assert_eq!(docker.metadata(image).await, Ok(None), "{image}");
        }
    }

    #[tokio::test]
    async fn forgetting_takes_nothing_that_another_wrote() {
        let (_folder, docker) = platform(None).await;
        let store = Arc::clone(&docker.store);
        let app = App { name: "mine".to_owned(), ..App::default() };
        let provisioner = "acme".to_owned();
        store.insert_app(AppRecord { app, provisioner, ..AppRecord::default() }).await.unwrap();
        let acme = of(store, "acme");
        // An image of nobody, and one that is written of before it is in the history.
        docker.save_metadata("shop:v2", "{}").await.unwrap();
        let reserved = docker.reserve("web").await.unwrap();
        docker.save_metadata(&reserved, "{}").await.unwrap();
        for image in ["shop:v2", "docker\nshop:v2", &reserved] {
            acme.forget("mine", image).await.unwrap();
        }
        for image in ["shop:v2", &reserved] {
            assert!(docker.metadata(image).await.unwrap().is_some(), "{image}");
        }
    }

    #[tokio::test]
    async fn an_image_that_another_app_runs_is_still_known() {
        let (_folder, docker) = platform(None).await;
        let app = App { name: "api".to_owned(), ..App::default() };
        let provisioner = "docker".to_owned();
        let record = AppRecord { app, provisioner, ..AppRecord::default() };
        docker.store.insert_app(record).await.unwrap();
        docker.save_metadata("shop:v2", "{}").await.unwrap();
        for app in ["web", "api"] {
            docker.append(app, "shop:v2").await.unwrap();
        }
        docker.forget("web", "shop:v2").await.unwrap();
        assert!(docker.metadata("shop:v2").await.unwrap().is_some());
        docker.forget("api", "shop:v2").await.unwrap();
        assert_eq!(docker.metadata("shop:v2").await, Ok(None));
    }

    #[tokio::test]
    async fn the_environment_ends_with_the_services_by_name() {
        let (_folder, platform) = platform(None).await;
        let env = |name: &str, value: &str| EnvVar {
            name: name.to_owned(),
            value: value.to_owned(),
            public: true,
        };
        let forged = ["TSURU_SERVICES", TOKEN].map(|name| env(name, "forged"));
        let set = [vec![env("ZED", "1"), env("ABLE", "2")], forged.to_vec()].concat();
        platform.store.change_envs("web", set, Vec::new()).await.unwrap();
        let envs = platform.envs("web").await.unwrap();
        let pairs: Vec<_> =
            envs.iter().map(|env| (env.name.as_str(), env.value.as_str(), env.public)).collect();
        let token = platform.store.app_token("web").await.unwrap().unwrap();
        let token = (TOKEN, token.reveal(), false);
        let services = ("TSURU_SERVICES", "{}", false);
        assert_eq!(pairs, [("ABLE", "2", true), token, services, ("ZED", "1", true)]);
    }

    #[tokio::test]
    async fn the_quota_is_an_absolute_number_with_the_references_messages() {
        let (_folder, platform) = platform(Some(2)).await;
        platform.set_quota_in_use("web", 2).await.unwrap();
        let error = platform.set_quota_in_use("web", 3).await.unwrap_err();
        assert_eq!(error.to_string(), "Quota exceeded. Available: 2. Requested: 3.");
        let error = platform.set_quota_in_use("web", -1).await.unwrap_err();
        assert_eq!(error.to_string(), "invalid value, cannot be lesser than 0");
        assert_eq!(platform.store.app("web").await.unwrap().unwrap().units_in_use, 2);
    }

    #[tokio::test]
    async fn what_a_provisioner_counts_itself_stands_until_the_next_change() {
        let (_folder, platform) = platform(Some(5)).await;
        let counts = Counts::new(Arc::clone(&platform.store));
        let platform = platform.with_counts(&counts);
        let in_use = async || platform.store.app("web").await.unwrap().unwrap().units_in_use;
        // Three at rest, which nobody sees, and one more.
        counts.begin("web");
        platform.set_quota_in_use("web", 4).await.unwrap();
        counts.see("web", 1).await;
        assert_eq!(in_use().await, 4);
        // Others are counted by who looks, and so is this one when nothing is told.
        counts.begin("web");
        counts.see("web", 2).await;
        assert_eq!(in_use().await, 2);
        // What it may not use is no count.
        platform.set_quota_in_use("web", 6).await.unwrap_err();
        counts.see("web", 3).await;
        assert_eq!(in_use().await, 3);
        // What it told is the same as before: it stands all the same.
        platform.set_quota_in_use("web", 3).await.unwrap();
        counts.see("web", 0).await;
        assert_eq!(in_use().await, 3);
    }

    #[tokio::test]
    async fn images_follow_the_rules_of_names_and_history() {
        let (_folder, platform) = platform(None).await;
        assert_eq!(platform.current("web").await.unwrap(), "tsuru/app-web");
        assert_eq!(platform.reserve("web").await.unwrap(), "tsuru/app-web:v1");
        for image in ["one:1", "two:2", "three:3"] {
            platform.append("web", image).await.unwrap();
        }
        assert_eq!(platform.current("web").await.unwrap(), "three:3");
        assert_eq!(Images::history(&platform, "web").await.unwrap(), ["two:2", "three:3"]);
        platform.forget("web", "three:3").await.unwrap();
        assert_eq!(platform.current("web").await.unwrap(), "two:2");
    }

    #[tokio::test]
    async fn metadata_is_written_once() {
        let (_folder, platform) = platform(None).await;
        let data = r#"{"processes": {"web": "serve"}, "exposedPort": "80/tcp"}"#;
        platform.save_metadata("i:1", data).await.unwrap();
        let spaced = r#"{ "exposedPort": "80/tcp", "processes": { "web": "serve" } }"#;
        platform.save_metadata("i:1", spaced).await.unwrap();
        let error = platform.save_metadata("i:1", "{}").await.unwrap_err();
        assert!(matches!(error, Error::Conflict(_)), "{error:?}");
        let metadata = platform.metadata("i:1").await.unwrap().unwrap();
        assert_eq!(metadata.exposed_port, "80/tcp");
        let error = platform.save_metadata("i:2", "[]").await.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    }

    #[tokio::test]
    async fn an_app_is_seen_by_the_provisioner_that_it_is_moving_to() {
        let (_folder, docker) = platform(None).await;
        let acme = of(Arc::clone(&docker.store), "acme");
        let begun = MoveRecord {
            app: "web".to_owned(),
            to_pool: "theirs".to_owned(),
            to_provisioner: "acme".to_owned(),
            ..MoveRecord::default()
        };
        docker.store.put_move(begun.clone()).await.unwrap();
        assert_eq!(Apps::get(&acme, "web").await.unwrap().pool, "theirs");
        assert_eq!(Apps::get(&docker, "web").await.unwrap().pool, "");
        let other = of(Arc::clone(&docker.store), "other");
        assert_eq!(Apps::get(&other, "web").await.map(drop), Err(no_app("web")));
        docker.store.end_move(begun, false).await.unwrap();
        assert_eq!(Apps::get(&acme, "web").await.map(drop), Err(no_app("web")));
    }

    #[tokio::test]
    async fn an_app_has_its_volumes_with_what_their_plan_means_to_its_provisioner() {
        let (_folder, docker) = platform(None).await;
        let options = |value: &str| BTreeMap::from([("driver".to_owned(), value.to_owned())]);
        let plan = [("docker".to_owned(), options("ours")), ("acme".to_owned(), options("theirs"))];
        let plans = Plans::from([("small".to_owned(), plan.into())]);
        let docker = docker.with_plans(&plans);
        for name in ["data", "spare"] {
            let record = VolumeRecord {
                name: name.to_owned(),
                pool: "default".to_owned(),
                plan: "small".to_owned(),
                options: options("mine"),
                ..VolumeRecord::default()
            };
            docker.store.insert_volume(record).await.unwrap();
        }
        let bind = |mount_point: &str, read_only| BindRecord {
            volume: "data".to_owned(),
            app: "web".to_owned(),
            mount_point: mount_point.to_owned(),
            read_only,
        };
        for bind in [bind("/a", false), bind("/b", true)] {
            docker.store.bind_volume(bind).await.unwrap().unwrap();
        }
        let seen = |mount_point: &str, read_only| VolumeBind {
            mount_point: mount_point.to_owned(),
            read_only,
        };
        let expected = Volume {
            name: "data".to_owned(),
            pool: "default".to_owned(),
            plan: "small".to_owned(),
            plan_options: options("ours"),
            options: options("mine"),
            binds: vec![seen("/a", false), seen("/b", true)],
        };
        assert_eq!(docker.volumes("web").await.unwrap(), [expected]);
    }

    #[tokio::test]
    async fn an_app_that_is_not_there_is_not_found() {
        let (_folder, platform) = platform(None).await;
        assert_eq!(Apps::get(&platform, "api").await, Err(no_app("api")));
    }
}
