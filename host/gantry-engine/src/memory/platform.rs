//! Apps, their images and the keys of plugins, in memory.

mod routers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use gantry_core::image::{ImageHistory, ImageMetadata, ImageNames};
use gantry_core::{App, AppRouter, EnvVar, Error, Unit, Volume};

use super::locks::Locks;
use crate::backends::Backends;
use crate::call::{Entry, EntryPage};
use crate::{AppLock, Apps, Containers, Images, Nodes, State};

pub use self::routers::RoutesRecord;

/// Apps, their images and the keys of plugins, in memory. Cloning it gives the same platform.
///
/// ```
/// use gantry_core::App;
/// use gantry_engine::memory::{Memory, Platform};
///
/// let platform = Platform::new()
///     .app(App { name: "web".into(), pool: "default".into(), ..App::default() })
///     .env("web", "GREETING", "hello");
/// let backends = platform.backends("docker", [("memory", Memory::new())]);
/// assert_eq!(backends.nodes.of("docker"), ["memory"]);
/// ```
#[derive(Clone, Default)]
pub struct Platform {
    kept: Arc<Mutex<Kept>>,
    locks: Locks,
}

/// What the platform knows of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppRecord {
    /// What provisioners see of it.
    pub app: App,
    /// Its environment.
    pub envs: Vec<EnvVar>,
    /// Its routers.
    pub routers: Vec<AppRouter>,
    /// Its volumes.
    pub volumes: Vec<Volume>,
    /// The routes to it, by router.
    pub routes: BTreeMap<String, RoutesRecord>,
    /// How many units it may have; none is no limit.
    pub quota: Option<u32>,
    /// How many it uses.
    pub in_use: u32,
    /// The ids of the units that services were told about.
    pub bound: Vec<String>,
}

#[derive(Default)]
struct Kept {
    apps: BTreeMap<String, AppRecord>,
    names: ImageNames,
    images: BTreeMap<String, ImageHistory>,
    metadata: BTreeMap<String, ImageMetadata>,
    keys: BTreeMap<(String, String), (Vec<u8>, u64)>,
    versions: u64,
    /// The routers that do not look whether units work.
    unchecked: BTreeSet<String>,
}

impl Platform {
    /// A platform without apps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with an app.
    #[must_use]
    pub fn app(self, app: App) -> Self {
        self.put_app(app);
        self
    }

    /// The same with a variable that people set for an app.
    #[must_use]
    pub fn env(self, app: &str, name: &str, value: &str) -> Self {
        let env = EnvVar { name: name.to_owned(), value: value.to_owned(), public: true };
        self.edit(app, |record| {
            record.envs.retain(|set| set.name != env.name);
            record.envs.push(env);
            record.envs.sort_by(|one, other| one.name.cmp(&other.name));
        });
        self
    }

    /// The same with a router of an app.
    #[must_use]
    pub fn router(self, app: &str, router: AppRouter) -> Self {
        self.edit(app, |record| record.routers.push(router));
        self
    }

    /// The same with a volume of an app.
    #[must_use]
    pub fn volume(self, app: &str, volume: Volume) -> Self {
        self.edit(app, |record| record.volumes.push(volume));
        self
    }

    /// The same with a limit on the units of an app.
    #[must_use]
    pub fn quota(self, app: &str, units: u32) -> Self {
        self.edit(app, |record| record.quota = Some(units));
        self
    }

    /// Writes an app down, or what has changed of it.
    pub fn put_app(&self, app: App) {
        let name = app.name.clone();
        self.lock().apps.entry(name).or_default().app = app;
    }

    /// What is known of an app.
    #[must_use]
    pub fn record(&self, app: &str) -> Option<AppRecord> {
        self.lock().apps.get(app).cloned()
    }

    /// The end of a chain: this platform, and engines given to a provisioner under their addresses.
    #[must_use]
    pub fn backends<E: Containers + 'static>(
        &self,
        provisioner: &str,
        engines: impl IntoIterator<Item = (impl AsRef<str>, E)>,
    ) -> Backends {
        let nodes = Nodes::default();
        for (address, engine) in engines {
            nodes.give(provisioner, address.as_ref(), Arc::new(engine));
        }
        Backends {
            nodes: Arc::new(nodes),
            clusters: Arc::default(),
            apps: Arc::new(self.clone()),
            images: Arc::new(self.clone()),
            routers: Arc::new(self.clone()),
            state: Arc::new(self.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, app: &str, edit: impl FnOnce(&mut AppRecord)) {
        let mut kept = self.lock();
        let record = kept.apps.entry(app.to_owned()).or_default();
        app.clone_into(&mut record.app.name);
        edit(record);
    }

    fn with_app<T>(
        &self,
        name: &str,
        answer: impl FnOnce(&mut AppRecord) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self.lock().apps.get_mut(name) {
            Some(record) => answer(record),
            None => Err(Error::NotFound(format!("no app `{name}`"))),
        }
    }
}

#[async_trait]
impl Apps for Platform {
    async fn get(&self, name: &str) -> Result<App, Error> {
        self.with_app(name, |record| Ok(record.app.clone()))
    }

    async fn envs(&self, name: &str) -> Result<Vec<EnvVar>, Error> {
        self.with_app(name, |record| {
            let mut envs = record.envs.clone();
            // Nothing is bound in memory; the variable is there as always.
            envs.retain(|env| env.name != "TSURU_SERVICES");
            envs.push(EnvVar {
                name: "TSURU_SERVICES".to_owned(),
                value: "{}".to_owned(),
                public: false,
            });
            Ok(envs)
        })
    }

    async fn routers(&self, name: &str) -> Result<Vec<AppRouter>, Error> {
        self.with_app(name, |record| Ok(record.routers.clone()))
    }

    async fn volumes(&self, name: &str) -> Result<Vec<Volume>, Error> {
        self.with_app(name, |record| Ok(record.volumes.clone()))
    }

    async fn bind_unit(&self, name: &str, unit: &Unit) -> Result<(), Error> {
        self.with_app(name, |record| {
            if !record.bound.contains(&unit.id) {
                record.bound.push(unit.id.clone());
            }
            Ok(())
        })
    }

    async fn unbind_unit(&self, name: &str, unit: &Unit) -> Result<(), Error> {
        self.with_app(name, |record| {
            record.bound.retain(|id| *id != unit.id);
            Ok(())
        })
    }

    async fn set_quota_in_use(&self, name: &str, units: i32) -> Result<(), Error> {
        let units = u32::try_from(units).map_err(|_| {
            Error::InvalidArgument("invalid value, cannot be lesser than 0".to_owned())
        })?;
        self.with_app(name, |record| match record.quota {
            Some(available) if units > available => {
                Err(Error::QuotaExceeded { available, requested: units })
            }
            Some(_) | None => {
                record.in_use = units;
                Ok(())
            }
        })
    }

    async fn lock(&self, name: &str, operation: &str, wait: Duration) -> Result<AppLock, Error> {
        self.with_app(name, |_| Ok(()))?;
        Ok(AppLock::new(self.locks.take(name, operation, wait).await?))
    }
}

#[async_trait]
impl Images for Platform {
    async fn reserve(&self, app: &str) -> Result<String, Error> {
        let kept = &mut *self.lock();
        Ok(kept.images.entry(app.to_owned()).or_default().reserve(&kept.names, app))
    }

    async fn append(&self, app: &str, image: &str) -> Result<(), Error> {
        self.lock().images.entry(app.to_owned()).or_default().append(image);
        Ok(())
    }

    async fn current(&self, app: &str) -> Result<String, Error> {
        let kept = self.lock();
        ImageHistory::current(kept.images.get(app), &kept.names, app)
            .map_err(|error| Error::NotFound(error.to_string()))
    }

    async fn history(&self, app: &str) -> Result<Vec<String>, Error> {
        let size = ImageHistory::size(None);
        Ok(self.lock().images.get(app).map(|all| all.valid(size).to_vec()).unwrap_or_default())
    }

    async fn metadata(&self, image: &str) -> Result<Option<ImageMetadata>, Error> {
        Ok(self.lock().metadata.get(image).cloned())
    }

    async fn save_metadata(&self, image: &str, custom_data: &str) -> Result<(), Error> {
        let invalid = |why: &dyn ToString| Error::InvalidArgument(why.to_string());
        let data = serde_json::from_str(custom_data).map_err(|error| invalid(&error))?;
        let new = ImageMetadata::from_custom_data(&data).map_err(|error| invalid(&error))?;
        let mut kept = self.lock();
        match kept.metadata.get(image) {
            Some(old) if *old != new => Err(Error::Conflict(format!(
                "something else is written down of the image `{image}`"
            ))),
            Some(_) => Ok(()),
            None => {
                kept.metadata.insert(image.to_owned(), new);
                Ok(())
            }
        }
    }

    async fn forget(&self, app: &str, image: &str) -> Result<(), Error> {
        let mut kept = self.lock();
        kept.metadata.remove(image);
        if let Some(history) = kept.images.get_mut(app) {
            history.remove(image);
        }
        Ok(())
    }
}

#[async_trait]
impl State for Platform {
    async fn get(&self, owner: &str, key: &str) -> Result<Option<Entry>, Error> {
        let kept = self.lock();
        let found = kept.keys.get(&(owner.to_owned(), key.to_owned()));
        Ok(found.map(|(value, version)| Entry {
            key: key.to_owned(),
            value: value.clone(),
            version: *version,
        }))
    }

    async fn put_if(
        &self,
        owner: &str,
        key: &str,
        value: &[u8],
        expected: Option<u64>,
    ) -> Result<u64, Error> {
        let mut kept = self.lock();
        let at = (owner.to_owned(), key.to_owned());
        let is = kept.keys.get(&at).map(|(_, version)| *version);
        if is != expected {
            return Err(moved_on(key, is));
        }
        // One number for all keys: none is ever used again for any.
        kept.versions = kept.versions.saturating_add(1);
        let version = kept.versions;
        kept.keys.insert(at, (value.to_vec(), version));
        Ok(version)
    }

    async fn delete_if(&self, owner: &str, key: &str, expected: u64) -> Result<(), Error> {
        let mut kept = self.lock();
        let at = (owner.to_owned(), key.to_owned());
        match kept.keys.get(&at).map(|(_, version)| *version) {
            None => Ok(()),
            Some(version) if version == expected => {
                kept.keys.remove(&at);
                Ok(())
            }
            is @ Some(_) => Err(moved_on(key, is)),
        }
    }

    async fn list(
        &self,
        owner: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<EntryPage, Error> {
        let kept = self.lock();
        let found = kept
            .keys
            .iter()
            .filter(|((of, key), _)| of == owner && key.starts_with(prefix))
            .filter(|((_, key), _)| after.is_none_or(|after| key.as_str() > after))
            .map(|((_, key), (value, version))| {
                Ok(Entry { key: key.clone(), value: value.clone(), version: *version })
            });
        EntryPage::first(found, limit)
    }
}

fn moved_on(key: &str, is: Option<u64>) -> Error {
    Error::Conflict(match is {
        Some(version) => format!("the key `{key}` is at version {version}"),
        None => format!("the key `{key}` does not exist"),
    })
}
