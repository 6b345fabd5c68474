//! The rules of an in-memory engine: what a call changes and what it answers, without waiting for anything.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use gantry_core::container::{
    Container, ContainerConfig, ContainerSpec, Image, NetworkSettings, PortBinding,
};
use gantry_core::image::split_image_name;

use super::files::Files;
use super::process::Life;
use crate::call::{ContainerSummary, ExecOptions, ExecState, Layer};
use crate::containers::Result;
use crate::stream::Chunk;
use crate::{EngineError, names};

/// The first port that is given to whoever asks for any.
const FIRST_PORT: u16 = 32768;
/// How Docker writes a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Default)]
pub(super) struct Machine {
    containers: BTreeMap<String, Cell>,
    images: BTreeMap<String, Picture>,
    /// Full names of images (`name:tag`) and the ids they stand for.
    tags: BTreeMap<String, String>,
    /// Names by content (`name@digest`) of images that were pulled, and their ids, which are their digests here.
    digests: BTreeMap<String, String>,
    /// What a registry would have, by full name and by name and digest.
    registry: BTreeMap<String, Picture>,
    execs: BTreeMap<String, Exec>,
    /// Everything that happens gets a number: ids and times are made of it.
    clock: u64,
}

/// A container with what Docker does not tell of it.
pub(super) struct Cell {
    pub(super) container: Container,
    spec: ContainerSpec,
    pub(super) files: Files,
    pub(super) log: Vec<Chunk>,
}

/// An image with what Docker does not tell of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub(super) id: String,
    pub(super) config: ContainerConfig,
    pub(super) files: Files,
    /// Newest first.
    pub(super) layers: Vec<Layer>,
}

pub(super) struct Exec {
    pub(super) container: String,
    pub(super) options: ExecOptions,
    pub(super) state: ExecState,
    pub(super) started: bool,
}

impl Machine {
    /// An empty one whose ids are made of a text.
    pub(super) fn counting_from(text: &str) -> Self {
        let mut machine = Self::default();
        machine.count_from(text);
        machine
    }

    /// Makes the ids that are still to come of a text.
    pub(super) fn count_from(&mut self, text: &str) {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        self.clock = hasher.finish() >> 1;
    }

    /// The next number, as 64 hexadecimal digits that start differently each time.
    fn id(&mut self) -> String {
        let number = self.tick();
        (0_u64..4)
            .map(|part| {
                let mut hasher = DefaultHasher::new();
                (number, part).hash(&mut hasher);
                format!("{:016x}", hasher.finish())
            })
            .collect()
    }

    fn tick(&mut self) -> u64 {
        self.clock = self.clock.saturating_add(1);
        self.clock
    }

    /// The time of an engine that lives a second a change.
    fn now(&mut self) -> String {
        let seconds = self.tick();
        let (minutes, hours) = (seconds / 60, seconds / 3600);
        let day = 1 + hours / 24 % 28;
        format!("2000-01-{day:02}T{:02}:{:02}:{:02}Z", hours % 24, minutes % 60, seconds % 60)
    }

    // ---- containers

    fn resolve(&self, text: &str) -> Result<String> {
        names::container(text)?;
        if self.containers.contains_key(text) {
            return Ok(text.to_owned());
        }
        if let Some((id, _)) = self.containers.iter().find(|(_, cell)| cell.container.name == text)
        {
            return Ok(id.clone());
        }
        let mut found = self.containers.keys().filter(|id| id.starts_with(text));
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id.clone()),
            (Some(_), Some(_)) => Err(EngineError::Invalid(format!(
                "several containers have an id that starts with `{text}`"
            ))),
            (None, _) => Err(EngineError::NotFound(format!("no container `{text}`"))),
        }
    }

    pub(super) fn cell(&self, text: &str) -> Result<&Cell> {
        let id = self.resolve(text)?;
        self.containers
            .get(&id)
            .ok_or_else(|| EngineError::NotFound(format!("no container `{text}`")))
    }

    pub(super) fn cell_mut(&mut self, text: &str) -> Result<&mut Cell> {
        let id = self.resolve(text)?;
        self.containers
            .get_mut(&id)
            .ok_or_else(|| EngineError::NotFound(format!("no container `{text}`")))
    }

    pub(super) fn list(
        &self,
        all: bool,
        labels: &BTreeMap<String, String>,
    ) -> Vec<ContainerSummary> {
        let wanted = |cell: &&Cell| {
            let own = cell.container.config.labels.as_ref();
            let has = |(key, value): (&String, &String)| {
                own.and_then(|own| own.get(key)).is_some_and(|is| value.is_empty() || is == value)
            };
            (all || cell.container.state.running) && labels.iter().all(has)
        };
        let mut found: Vec<&Cell> = self.containers.values().filter(wanted).collect();
        // Newest first, as Docker does.
        found.sort_by(|one, other| other.container.created.cmp(&one.container.created));
        found.into_iter().map(|cell| self.summary(&cell.container)).collect()
    }

    fn summary(&self, container: &Container) -> ContainerSummary {
        let named = &container.config.image;
        // A name that has moved to another image since would mislead.
        let still = self.image(named).is_ok_and(|image| image.id == container.image);
        ContainerSummary {
            id: container.id.clone(),
            name: container.name.clone(),
            image: if still { named.clone() } else { container.image.clone() },
            state: container.state.status.clone(),
            labels: container.config.labels.clone().unwrap_or_default(),
        }
    }

    pub(super) fn create(&mut self, name: &str, spec: &ContainerSpec) -> Result<String> {
        if !name.is_empty() {
            names::new_container(name)?;
        }
        let image = self.image(&spec.image)?.clone();
        let config = configured(spec, &image.config);
        if config.cmd.iter().chain(&config.entrypoint).flatten().next().is_none() {
            return Err(EngineError::Invalid(format!(
                "cannot create the container `{name}`: no command specified"
            )));
        }
        if let Some(cell) = self.containers.values().find(|cell| cell.container.name == name) {
            return Err(EngineError::Conflict(format!(
                "the name `{name}` is in use by the container `{}`",
                cell.container.id
            )));
        }
        let id = self.id();
        let name = match name {
            "" => format!("nameless_{}", self.clock),
            name => name.to_owned(),
        };
        let mut container =
            Container { id: id.clone(), name, image: image.id, config, ..Container::default() };
        container.created = self.now();
        "created".clone_into(&mut container.state.status);
        NEVER.clone_into(&mut container.state.started_at);
        NEVER.clone_into(&mut container.state.finished_at);
        let cell = Cell { container, spec: spec.clone(), files: image.files, log: Vec::new() };
        self.containers.insert(id.clone(), cell);
        Ok(id)
    }

    /// Starts what does not run; `None` when it runs already.
    pub(super) fn start(&mut self, text: &str) -> Result<Option<Container>> {
        let now = self.now();
        let cell = self.cell(text)?;
        if cell.container.state.running {
            return Ok(None);
        }
        let network = self.published(cell)?;
        let cell = self.cell_mut(text)?;
        cell.container.network_settings = network;
        let state = &mut cell.container.state;
        "running".clone_into(&mut state.status);
        (state.running, state.exit_code) = (true, 0);
        state.started_at = now;
        Ok(Some(cell.container.clone()))
    }

    /// What a process does from its start on.
    pub(super) fn live(&mut self, id: &str, life: Life) -> Result<()> {
        self.cell_mut(id)?.log.extend(life.output);
        life.ends_with.map_or(Ok(()), |code| self.end(id, code))
    }

    /// The ports of a container that is about to run: those asked for, and any for those of which none is.
    fn published(&self, cell: &Cell) -> Result<NetworkSettings> {
        let running = self.containers.values().filter(|cell| cell.container.state.running);
        let mut taken: BTreeSet<String> = running
            .flat_map(|cell| cell.container.network_settings.ports.values().flatten().flatten())
            .map(|binding| binding.host_port.clone())
            .collect();
        let exposed = cell.container.config.exposed_ports.iter().flatten();
        let mut ports: BTreeMap<String, Option<Vec<PortBinding>>> =
            exposed.map(|(port, _)| (port.clone(), None)).collect();
        for (port, asked) in &cell.spec.host_config.port_bindings {
            let mut bound = Vec::new();
            for binding in asked {
                let host_port = match binding.host_port.as_str() {
                    "" | "0" => (FIRST_PORT..u16::MAX)
                        .map(|port| port.to_string())
                        .find(|port| !taken.contains(port))
                        .unwrap_or_default(),
                    fixed if taken.contains(fixed) => {
                        return Err(EngineError::Conflict(format!(
                            "the port `{fixed}` is already allocated"
                        )));
                    }
                    fixed => fixed.to_owned(),
                };
                let host_ip = match binding.host_ip.as_str() {
                    "" => "0.0.0.0".to_owned(),
                    address => address.to_owned(),
                };
                taken.insert(host_port.clone());
                bound.push(PortBinding { host_ip, host_port });
            }
            ports.insert(port.clone(), Some(bound));
        }
        let address = u8::try_from(2 + self.containers.len() % 250).unwrap_or(2);
        Ok(NetworkSettings { ip_address: format!("172.17.0.{address}"), ports })
    }

    /// Ends what runs, with this code.
    pub(super) fn end(&mut self, text: &str, code: i64) -> Result<()> {
        let now = self.now();
        let cell = self.cell_mut(text)?;
        if cell.container.state.running {
            cell.container.network_settings = NetworkSettings::default();
            let state = &mut cell.container.state;
            "exited".clone_into(&mut state.status);
            (state.running, state.exit_code) = (false, code);
            state.finished_at = now;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, text: &str, force: bool) -> Result<()> {
        let id = match self.resolve(text) {
            Ok(id) => id,
            Err(EngineError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.cell(&id)?.container.state.running && !force {
            return Err(EngineError::Conflict(format!(
                "the container `{text}` runs: stop it before it is removed, or force it"
            )));
        }
        self.containers.remove(&id);
        self.execs.retain(|_, exec| exec.container != id);
        Ok(())
    }

    // ---- commands

    /// The container that a command is for.
    pub(super) fn to_command(&self, text: &str, options: &ExecOptions) -> Result<&Container> {
        let container = &self.cell(text)?.container;
        if !container.state.running {
            return Err(EngineError::Conflict(format!("the container `{text}` does not run")));
        }
        if options.command.is_empty() {
            return Err(EngineError::Invalid("no command specified".to_owned()));
        }
        Ok(container)
    }

    pub(super) fn create_exec(&mut self, text: &str, options: &ExecOptions) -> Result<String> {
        let exec = Exec {
            container: self.to_command(text, options)?.id.clone(),
            options: options.clone(),
            state: ExecState { running: false, exit_code: None },
            started: false,
        };
        let id = self.id();
        self.execs.insert(id.clone(), exec);
        Ok(id)
    }

    pub(super) fn exec(&mut self, id: &str) -> Result<&mut Exec> {
        self.execs.get_mut(id).ok_or_else(|| EngineError::NotFound(format!("no exec `{id}`")))
    }

    // ---- images

    /// An image by its name, its id or a prefix of it.
    pub(super) fn image(&self, text: &str) -> Result<&Picture> {
        names::image(text)?;
        let absent = || EngineError::NotFound(format!("no image `{text}`"));
        let named = self.tags.get(&full(text)).or_else(|| self.digests.get(text));
        if let Some(image) = named.and_then(|id| self.images.get(id)) {
            return Ok(image);
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let mut found = self.images.iter().filter(|(id, _)| {
            hex.len() > 3 && id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(hex))
        });
        match (found.next(), found.next()) {
            (Some((_, image)), None) => Ok(image),
            (Some(_), Some(_)) | (None, _) => Err(absent()),
        }
    }

    pub(super) fn inspect_image(&self, text: &str) -> Result<Image> {
        let image = self.image(text)?;
        Ok(Image {
            id: image.id.clone(),
            repo_tags: self.names_of(&image.id).map(ToOwned::to_owned).collect(),
            repo_digests: self
                .digests
                .iter()
                .filter(|(_, of)| **of == image.id)
                .map(|(name, _)| name.clone())
                .collect(),
            size: i64::try_from(image.files.size()).unwrap_or(i64::MAX),
            config: image.config.clone(),
        })
    }

    fn names_of(&self, id: &str) -> impl Iterator<Item = &str> {
        self.tags.iter().filter(move |(_, of)| *of == id).map(|(name, _)| name.as_str())
    }

    /// Takes an image in, made by what `created_by` says on top of what it was made of, and gives its id.
    pub(super) fn add_image(&mut self, mut image: Picture, created_by: &str, name: &str) -> String {
        image.id = format!("sha256:{}", self.id());
        for layer in &mut image.layers {
            "<missing>".clone_into(&mut layer.id);
        }
        let size = u64::try_from(image.files.size()).unwrap_or_default();
        let layer = Layer {
            id: image.id.clone(),
            created_by: created_by.to_owned(),
            size,
            tags: Vec::new(),
        };
        image.layers.insert(0, layer);
        let id = image.id.clone();
        self.images.insert(id.clone(), image);
        if !name.is_empty() {
            self.tags.insert(full(name), id.clone());
        }
        id
    }

    pub(super) fn tag(&mut self, text: &str, repository: &str, tag: &str) -> Result<()> {
        let id = self.image(text)?.id.clone();
        let name =
            if tag.is_empty() { repository.to_owned() } else { format!("{repository}:{tag}") };
        names::image(&name)?;
        self.tags.insert(full(&name), id);
        Ok(())
    }

    pub(super) fn remove_image(&mut self, text: &str) -> Result<()> {
        let id = match self.image(text) {
            Ok(image) => image.id.clone(),
            Err(EngineError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let named = self.tags.contains_key(&full(text));
        let count = self.names_of(&id).count();
        let used = self.containers.values().find(|cell| cell.container.image == id);
        if let Some(cell) = used
            && (count < 2 || !named)
        {
            return Err(EngineError::Conflict(format!(
                "the image `{text}` is used by the container `{}`",
                cell.container.name
            )));
        }
        if !named && count > 1 {
            return Err(EngineError::Conflict(format!("the image `{text}` has several names")));
        }
        self.tags.retain(|name, of| *of != id || (named && *name != full(text)));
        if self.names_of(&id).next().is_none() {
            self.images.remove(&id);
        }
        Ok(())
    }

    pub(super) fn history(&self, text: &str) -> Result<Vec<Layer>> {
        let image = self.image(text)?;
        let mut layers = image.layers.clone();
        if let Some(newest) = layers.first_mut() {
            newest.tags = self.names_of(&image.id).map(ToOwned::to_owned).collect();
        }
        Ok(layers)
    }

    pub(super) fn commit(
        &mut self,
        text: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String> {
        let cell = self.cell(text)?;
        let mut config = cell.container.config.clone();
        config.image = String::new();
        config.tty = false;
        config.labels.get_or_insert_default().extend(labels.clone());
        let layers =
            self.images.get(&cell.container.image).map(|of| of.layers.clone()).unwrap_or_default();
        let created_by = config.cmd.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        let picture = Picture { id: String::new(), config, files: cell.files.clone(), layers };
        Ok(self.add_image(picture, &created_by, name))
    }

    /// Puts an image where pulls find it.
    pub(super) fn publish(&mut self, name: &str, image: Picture) {
        self.registry.insert(by_content(name, &image.id), image.clone());
        self.registry.insert(full(name), image);
    }

    pub(super) fn pull(&mut self, name: &str) -> Result<()> {
        names::image(name)?;
        let image =
            self.registry.get(&full(name)).cloned().ok_or_else(|| {
                EngineError::NotFound(format!("no registry has the image `{name}`"))
            })?;
        if !name.contains('@') {
            self.tags.insert(full(name), image.id.clone());
        }
        self.digests.insert(by_content(name, &image.id), image.id.clone());
        self.images.insert(image.id.clone(), image);
        Ok(())
    }

    pub(super) fn push(&mut self, name: &str) -> Result<()> {
        let image = self.image(name)?.clone();
        self.publish(name, image);
        Ok(())
    }
}

/// A name of an image with its tag.
fn full(name: &str) -> String {
    if name.contains('@') {
        return name.to_owned();
    }
    let (name, tag) = split_image_name(name);
    format!("{name}:{tag}")
}

/// A name of an image with its digest.
fn by_content(name: &str, digest: &str) -> String {
    let repository = name.split_once('@').map_or(split_image_name(name).0, |(name, _)| name);
    format!("{repository}@{digest}")
}

/// What a container is made with: what was asked for, and the image's own where nothing was.
fn configured(spec: &ContainerSpec, image: &ContainerConfig) -> ContainerConfig {
    let asked = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    let entrypoint = match &spec.entrypoint {
        Some(_) => asked(&spec.entrypoint),
        None => image.entrypoint.clone(),
    };
    let cmd = match (&asked(&spec.cmd), &asked(&spec.entrypoint)) {
        (None, None) => image.cmd.clone(),
        (cmd, _) => cmd.clone(),
    };
    let mut env = spec.env.clone();
    for variable in image.env.iter().flatten() {
        let name = |variable: &str| variable.split('=').next().map(ToOwned::to_owned);
        if !env.iter().any(|set| name(set) == name(variable)) {
            env.push(variable.clone());
        }
    }
    let mut labels = image.labels.clone().unwrap_or_default();
    labels.extend(spec.labels.clone());
    let mut exposed = image.exposed_ports.clone().unwrap_or_default();
    exposed.extend(spec.exposed_ports.clone());
    exposed.extend(
        spec.host_config.port_bindings.keys().map(|port| (port.clone(), Default::default())),
    );
    let own = |own: &String, other: &String| if own.is_empty() { other } else { own }.clone();
    ContainerConfig {
        image: spec.image.clone(),
        cmd,
        entrypoint,
        env: Some(env),
        labels: Some(labels),
        exposed_ports: Some(exposed),
        user: own(&spec.user, &image.user),
        working_dir: own(&spec.working_dir, &image.working_dir),
        tty: spec.tty,
    }
}
