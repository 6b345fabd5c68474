//! The daemon's configuration: as written (`raw`) and as used ([`Config`]), converted once.
//!
//! A key that nobody knows is refused by name with the nearest one that exists, because a limit with a typing mistake is a limit that is not in force. `gantry serve --print-config`
//! prints [`SAMPLE`], which documents every key; a test holds the two together.

mod keys;
mod measure;
mod raw;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_core::Settings;
use gantry_core::policy::Grant;
use gantry_engine::EngineError;
use gantry_engine::docker::{Auth, Endpoint};
use gantry_registry::Account;
use gantry_runtime::{Bound, Bounds};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::near;

pub use measure::MeasureError;
pub(crate) use measure::bytes as parse_bytes;

/// Every key with its meaning and its default.
pub const SAMPLE: &str = include_str!("config/sample.toml");

/// The provisioner of a pool that names none, as in the reference.
const DEFAULT_PROVISIONER: &str = "docker";

/// The pool of an app that names none.
const DEFAULT_POOL: &str = "default";

/// The router that there is when none is configured, and that of an app that names none.
const DEFAULT_ROUTER: &str = "default";

/// The kind of router whose routes are kept in the table.
const TABLE: &str = "table";

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or a value is of the wrong type.
    #[error("cannot understand `{path}`: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A key that nobody knows.
    #[error("unknown key `{key}` in `{path}`")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key with its tables.
        key: String,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// A value that cannot be.
    #[error("`{key}` in `{path}` cannot be `{value}`: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key with its tables.
        key: String,
        /// The value.
        value: String,
        /// Why not.
        reason: String,
    },
    /// It asks for TCP, and there is no token.
    #[error("refusing to listen on `{0}` without a token")]
    NoToken(SocketAddr),
    /// What the environment says of Docker cannot be.
    #[error("the environment names no Docker host that can be used")]
    DockerHost(#[source] EngineError),
    /// No place for the data.
    #[error("no data directory: neither `data` nor HOME is set")]
    NoData,
}

impl ConfigError {
    /// What to type next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } | Self::Value { .. } => None,
            Self::Syntax { .. } | Self::UnknownKey { nearest: None, .. } => {
                Some("`gantry serve --print-config` prints every key".to_owned())
            }
            Self::UnknownKey { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`?"))
            }
            Self::NoToken(_) => Some(
                "write a long random text into a file and name it in `http.token-file`, or set GANTRY_TOKEN"
                    .to_owned(),
            ),
            Self::DockerHost(_) => Some(
                "set DOCKER_HOST, and DOCKER_CERT_PATH to a folder with ca.pem, cert.pem and key.pem if it speaks TLS, or name the hosts in the configuration"
                    .to_owned(),
            ),
            Self::NoData => Some("gantry serve --data-dir DIR".to_owned()),
        }
    }
}

/// How what died is looked for and replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Healing {
    /// The pause between two looks; none is ever made when it is zero.
    pub every: Duration,
    /// How many units of all apps, and how often the same machine, are replaced in a while at most.
    pub most: u32,
    /// That while.
    pub per: Duration,
}

/// The configuration as the daemon uses it: nothing optional is left open.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of everything durable.
    pub data: PathBuf,
    /// The id of this installation, when the operator chose one.
    pub instance: Option<String>,
    /// The unix socket.
    pub socket: PathBuf,
    /// The TCP address, if asked for, with the token that callers need.
    pub listen: Option<(SocketAddr, Token)>,
    /// How long operations under way have at the end of the daemon.
    pub grace: Duration,
    /// How long what was cancelled has to undo.
    pub undo: Duration,
    /// How what died is looked for and replaced.
    pub healing: Healing,
    /// The pause between two looks for images that nobody needs; none is ever made when it is zero.
    pub images_every: Duration,
    /// How large the source of an app may be that is sent to be built, in bytes.
    pub largest_source: u64,
    /// What compiling a plugin may take.
    pub compiler: CompilerConfig,
    /// The stack of every plugin, in bytes; the runtime's default when not said.
    pub stack: Option<u64>,
    /// How many calls of plugins run at the same time; the runtime's default when not said.
    pub calls: Option<u32>,
    /// The Docker hosts.
    pub docker_hosts: Vec<DockerHost>,
    /// Who the Docker hosts and the daemon are to registries, and who vouches for these.
    pub registries: Vec<Account>,
    /// The pool of an app that names none.
    pub default_pool: String,
    /// The router of an app that names none; none when such an app has none.
    pub default_router: Option<String>,
    /// The routers.
    pub routers: BTreeMap<String, RouterConfig>,
    /// The provisioner of each pool that the configuration has.
    pub pools: BTreeMap<String, String>,
    /// What each plan of volumes means to each provisioner.
    pub volume_plans: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
    /// What is configured for provisioners.
    pub provisioners: BTreeMap<String, ProvisionerConfig>,
}

/// What compiling a plugin may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompilerConfig {
    /// The program that compiles in a process of its own: one that knows the verb `compile-worker`. A file never names it; a program that is `gantry` names itself, and any other that
    /// embeds the daemon compiles in its own process.
    pub program: Option<PathBuf>,
    /// How long.
    pub timeout: Duration,
    /// How much address space, in bytes.
    pub memory: u64,
}

/// A text that callers must know; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token; none when it is empty.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is this one. Digests are compared, over their whole length: how long it takes tells nothing about the token.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let digest = |token: &Self| -> [u8; 32] { Sha256::digest(&token.0).into() };
        let both = digest(self).into_iter().zip(digest(other));
        both.fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A Docker host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerHost {
    /// `unix:///…`, `tcp://…` or `http(s)://…`.
    pub address: String,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`.
    pub tls: Option<PathBuf>,
}

/// A router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// Its kind: `table`.
    pub kind: String,
    /// What it puts behind the name of an app; empty while nobody can tell.
    pub domain: String,
    /// Whether it looks whether units work.
    pub healthcheck: bool,
}

/// What is configured for a provisioner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProvisionerConfig {
    /// What the operator grants.
    pub grants: Vec<Grant>,
    /// Bounds other than the defaults.
    pub limits: Bounds,
    /// The tables that the plugin reads.
    pub config: Value,
}

/// What the environment says, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    root: bool,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let root = rustix::process::geteuid().is_root();
        Self { variables: std::env::vars().collect(), root }
    }

    /// These variables.
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { variables: variables.collect(), root: false }
    }

    /// The same for the user root.
    #[must_use]
    pub fn as_root(self) -> Self {
        Self { root: true, ..self }
    }

    /// A variable that is set to something.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// Where data goes when nobody says: `/var/lib/gantry` for root, and else `$XDG_DATA_HOME/gantry` or `~/.local/share/gantry`.
    #[must_use]
    pub fn default_data(&self) -> Option<PathBuf> {
        if let Some(data) = self.path("GANTRY_DATA") {
            return Some(data);
        }
        if self.root && self.get("XDG_DATA_HOME").is_none() {
            return Some(PathBuf::from("/var/lib/gantry"));
        }
        self.path("XDG_DATA_HOME")
            .or_else(|| Some(self.path("HOME")?.join(".local/share")))
            .map(|folder| folder.join("gantry"))
    }

    /// Where the socket is when nobody says: `$XDG_RUNTIME_DIR/gantry.sock`, and else in the data directory.
    #[must_use]
    pub fn default_socket(&self, data: Option<&Path>) -> Option<PathBuf> {
        self.path("XDG_RUNTIME_DIR")
            .or_else(|| Some(data?.to_owned()))
            .map(|folder| folder.join("gantry.sock"))
    }

    /// The file that is read when nobody names one, if it is there: `$XDG_CONFIG_HOME/gantry/gantry.toml` (`~/.config` when not set), then `/etc/gantry/gantry.toml`.
    #[must_use]
    pub fn default_file(&self) -> Option<PathBuf> {
        if let Some(file) = self.path("GANTRY_CONFIG") {
            return Some(file);
        }
        let own = self
            .path("XDG_CONFIG_HOME")
            .or_else(|| Some(self.path("HOME")?.join(".config")))
            .map(|folder| folder.join("gantry/gantry.toml"));
        own.into_iter().chain([PathBuf::from("/etc/gantry/gantry.toml")]).find(|file| file.exists())
    }
}

/// What the command line says; it wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The file.
    pub file: Option<PathBuf>,
    /// The data directory.
    pub data: Option<PathBuf>,
    /// The unix socket.
    pub socket: Option<PathBuf>,
    /// The TCP address.
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// Reads the file and settles everything it leaves open.
    ///
    /// # Errors
    /// What is wrong, with the key.
    pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Self, ConfigError> {
        let file = overrides.file.clone().or_else(|| environment.default_file());
        let (path, text) = match file {
            None => (PathBuf::from("no file"), String::new()),
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => (path, text),
                Err(source) => return Err(ConfigError::Read { path, source }),
            },
        };
        let raw = raw::parse(&path, &text)?;
        resolve(raw, &path, overrides, environment)
    }

    /// What is configured for a provisioner.
    #[must_use]
    pub fn provisioner(&self, name: &str) -> ProvisionerConfig {
        let mut configured = self.provisioners.get(name).cloned().unwrap_or_default();
        self.tell_router_types(&mut configured.config);
        configured
    }

    /// Who the Docker hosts are to registries.
    #[must_use]
    pub fn auth(&self) -> Auth {
        let told = |auth: Auth, Account { registry, user, password, .. }: &Account| {
            auth.with(registry, user, password)
        };
        let known = self.registries.iter().filter(|account| !account.user.is_empty());
        known.fold(Auth::none(), told)
    }

    /// Who the daemon is to the registry of a provisioner with these settings: what they say counts where nothing is configured for the registry.
    #[must_use]
    pub fn account(&self, registry: &str, settings: &impl Settings) -> Account {
        let known = self.registries.iter().rfind(|account| account.registry == registry);
        known.cloned().unwrap_or_else(|| Account {
            registry: registry.to_owned(),
            user: settings.string("docker:registry-auth:username"),
            password: settings.string("docker:registry-auth:password"),
            authority: settings.string("docker:registry-ca"),
            ..Account::default()
        })
    }

    /// Labels carry the types of an app's routers; what is said under the provisioner's own `routers` counts.
    fn tell_router_types(&self, config: &mut Value) {
        if config.is_null() {
            *config = Value::Object(serde_json::Map::new());
        }
        let routers = config.as_object_mut().map(|config| {
            config.entry("routers").or_insert_with(|| Value::Object(serde_json::Map::new()))
        });
        let Some(Value::Object(routers)) = routers else { return };
        for (name, router) in &self.routers {
            let told = routers.entry(name).or_insert_with(|| Value::Object(serde_json::Map::new()));
            if let Value::Object(told) = told {
                told.entry("type").or_insert_with(|| router.kind.clone().into());
            }
        }
    }
}

fn resolve(
    raw: raw::Raw,
    path: &Path,
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    let data = overrides
        .data
        .clone()
        .or(raw.data)
        .or_else(|| environment.default_data())
        .ok_or(ConfigError::NoData)?;
    let instance = raw.instance;
    if let Some(id) = instance.as_deref().filter(|id| !is_instance(id)) {
        let reason = "not 1 to 63 lower case letters, digits, dashes, dots and underscores";
        return Err(wrong(path, "instance", id, reason));
    }
    let socket = overrides
        .socket
        .clone()
        .or(raw.http.socket)
        .or_else(|| environment.default_socket(Some(&data)))
        .ok_or(ConfigError::NoData)?;
    let listen = match overrides.listen.or(raw.http.listen) {
        None => None,
        Some(address) => {
            let token = token(raw.http.token_file, environment)?;
            Some((address, token.ok_or(ConfigError::NoToken(address))?))
        }
    };
    let time = |key: &str, text: Option<String>, default: u64| match text {
        None => Ok(Duration::from_secs(default)),
        Some(text) => {
            measure::duration(&text).map_err(|error| wrong(path, key, &text, &error.to_string()))
        }
    };
    let grace = time("operations.grace", raw.operations.grace, 30)?;
    let undo = time("operations.undo", raw.operations.undo, 30)?;
    let healing = Healing {
        every: time("healing.every", raw.healing.every, 30)?,
        most: raw.healing.most.unwrap_or(3),
        per: time("healing.per", raw.healing.per, 300)?,
    };
    let images_every = time("images.every", raw.images.every, 300)?;
    let size = |key: &str, text: Option<String>| {
        let read = |text: String| {
            measure::bytes(&text).map_err(|error| wrong(path, key, &text, &error.to_string()))
        };
        text.map(read).transpose()
    };
    let largest_source =
        size("builds.largest-source", raw.builds.largest_source)?.unwrap_or(1 << 30);
    let compiler = CompilerConfig {
        program: None,
        timeout: time("compiler.timeout", raw.compiler.timeout, 120)?,
        memory: size("compiler.memory", raw.compiler.memory)?.unwrap_or(4 << 30),
    };
    let stack = size("runtime.stack", raw.runtime.stack)?;
    let calls = raw.runtime.calls;
    if calls == Some(0) {
        return Err(wrong(path, "runtime.calls", "0", "no call could ever run"));
    }
    let mut pools: BTreeMap<String, String> = raw
        .pools
        .into_iter()
        .map(|(name, pool)| (name, pool.provisioner.unwrap_or_else(|| DEFAULT_PROVISIONER.into())))
        .collect();
    if pools.is_empty() {
        pools.insert(DEFAULT_POOL.to_owned(), DEFAULT_PROVISIONER.to_owned());
    }
    let default_pool = raw.default_pool.unwrap_or_else(|| DEFAULT_POOL.to_owned());
    if !pools.contains_key(&default_pool) {
        let names = pools.keys().map(String::as_str).collect::<Vec<_>>().join("`, `");
        let reason = format!("no such pool; there is `{names}`");
        return Err(wrong(path, "default-pool", &default_pool, &reason));
    }
    let routers = routers(path, raw.routers)?;
    let default_router = default_router(path, raw.default_router, &routers)?;
    let provisioners = raw
        .provisioners
        .into_iter()
        .map(|(name, raw)| Ok((name.clone(), provisioner(path, &name, raw)?)))
        .collect::<Result<_, ConfigError>>()?;
    let registries = registries(path, raw.docker.registries)?;
    let docker_hosts = docker_hosts(raw.docker.hosts, environment)?;
    Ok(Config {
        data,
        instance,
        socket,
        listen,
        grace,
        undo,
        healing,
        images_every,
        largest_source,
        compiler,
        stack,
        calls,
        docker_hosts,
        registries,
        default_pool,
        default_router,
        routers,
        pools,
        volume_plans: raw.volume_plans,
        provisioners,
    })
}

/// The routers configured, else one that keeps its routes in the table.
fn routers(
    path: &Path,
    raw: BTreeMap<String, raw::RawRouter>,
) -> Result<BTreeMap<String, RouterConfig>, ConfigError> {
    let mut routers = BTreeMap::new();
    for (name, raw) in raw {
        let refuse = |key: &str, value: &str, reason: &str| {
            wrong(path, &format!("routers.{name}{key}"), value, reason)
        };
        if !is_router(&name) {
            let reason = "not 1 to 63 lower case letters, digits and dashes";
            return Err(refuse("", &name, reason));
        }
        let kind = raw.r#type.unwrap_or_else(|| TABLE.to_owned());
        if kind != TABLE {
            return Err(refuse(".type", &kind, "no such kind of router; there is `table`"));
        }
        let domain = raw.domain.unwrap_or_default();
        if !domain.is_empty() && !is_domain(&domain) {
            return Err(refuse(".domain", &domain, "it is no domain"));
        }
        let healthcheck = raw.healthcheck.unwrap_or(true);
        routers.insert(name, RouterConfig { kind, domain, healthcheck });
    }
    if routers.is_empty() {
        let table =
            RouterConfig { kind: TABLE.to_owned(), domain: String::new(), healthcheck: true };
        routers.insert(DEFAULT_ROUTER.to_owned(), table);
    }
    Ok(routers)
}

fn default_router(
    path: &Path,
    named: Option<String>,
    routers: &BTreeMap<String, RouterConfig>,
) -> Result<Option<String>, ConfigError> {
    match named {
        Some(none) if none.is_empty() => Ok(None),
        Some(name) if routers.contains_key(&name) => Ok(Some(name)),
        Some(name) => {
            let names = routers.keys().map(String::as_str).collect::<Vec<_>>().join("`, `");
            let reason = format!("no such router; there is `{names}`");
            Err(wrong(path, "default-router", &name, &reason))
        }
        None if routers.contains_key(DEFAULT_ROUTER) => Ok(Some(DEFAULT_ROUTER.to_owned())),
        None => Ok(routers.keys().next().filter(|_| routers.len() == 1).cloned()),
    }
}

fn is_router(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(letter)
}

fn is_domain(domain: &str) -> bool {
    domain.len() <= 190 && domain.split('.').all(is_router)
}

fn is_instance(id: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
    (1..=63).contains(&id.len()) && id.chars().all(letter)
}

fn token(file: Option<PathBuf>, environment: &Environment) -> Result<Option<Token>, ConfigError> {
    match file {
        Some(path) => Ok(Token::new(&read(path)?)),
        None => Ok(environment.get("GANTRY_TOKEN").and_then(Token::new)),
    }
}

fn read(path: PathBuf) -> Result<String, ConfigError> {
    std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path, source })
}

fn registries(path: &Path, raw: Vec<raw::RawDockerRegistry>) -> Result<Vec<Account>, ConfigError> {
    let mut accounts = Vec::new();
    for raw::RawDockerRegistry { address, user, password_file, ca } in raw {
        if address.is_empty() || address.contains('/') {
            let reason = "not like `registry.example.com:5000`, as it stands in front of the names of its images";
            return Err(wrong(path, "docker.registries.address", &address, reason));
        }
        let (user, password) = match (user, password_file) {
            (Some(user), Some(file)) => (user, read(file)?),
            (None, None) => Default::default(),
            (user, _) => {
                let reason = "a user and the file with his password are both there, or neither is";
                let key = "docker.registries.user";
                return Err(wrong(path, key, &user.unwrap_or_default(), reason));
            }
        };
        // An editor ends a file with a line break, and no password has one.
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        let mut account = Account { registry: address, user, password, ..Account::default() };
        if let Some(file) = ca {
            let refused =
                |reason: &str| wrong(path, "docker.registries.ca", &file.to_string_lossy(), reason);
            account.authority = read(file.clone())?;
            if account.authority.trim().is_empty() {
                return Err(refused("there is no certificate in it"));
            }
            account.check().map_err(|error| refused(&error.to_string()))?;
        }
        accounts.push(account);
    }
    Ok(accounts)
}

/// The hosts configured, else the one that Docker's own client would talk to.
fn docker_hosts(
    raw: Vec<raw::RawDockerHost>,
    environment: &Environment,
) -> Result<Vec<DockerHost>, ConfigError> {
    if raw.is_empty() {
        let host = Endpoint::from_vars(|name| environment.get(name).map(str::to_owned))
            .map_err(ConfigError::DockerHost)?;
        let tls = host.certificates().map(Path::to_owned);
        return Ok(vec![DockerHost { address: host.address().to_owned(), tls }]);
    }
    Ok(raw.into_iter().map(|host| DockerHost { address: host.address, tls: host.tls }).collect())
}

fn provisioner(
    path: &Path,
    name: &str,
    raw: raw::RawProvisioner,
) -> Result<ProvisionerConfig, ConfigError> {
    let mut grants = Vec::new();
    for text in raw.grants {
        let grant = text.parse::<Grant>().map_err(|error| {
            wrong(path, &format!("provisioners.{name}.grants"), &text, &error.to_string())
        })?;
        grants.push(grant);
    }
    let mut written = Vec::new();
    for (bound, value) in raw.limits {
        if Bound::named(&bound).is_none() {
            let key = format!("provisioners.{name}.limits.{bound}");
            let nearest = near::nearest(&bound, Bound::ALL.iter().map(|bound| bound.name()))
                .map(|near| format!("provisioners.{name}.limits.{near}"));
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key, nearest });
        }
        // A number needs no quotes.
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        written.push((bound, text));
    }
    // One by one first, so that the key of a wrong one is known.
    for (bound, text) in &written {
        let key = format!("provisioners.{name}.limits.{bound}");
        Bounds::parse([(bound, text)])
            .map_err(|error| wrong(path, &key, text, &error.to_string()))?;
    }
    let limits = Bounds::parse(written).map_err(|error| {
        wrong(path, &format!("provisioners.{name}.limits"), "…", &error.to_string())
    })?;
    let config = serde_json::to_value(raw.config).map_err(|error| {
        wrong(path, &format!("provisioners.{name}.config"), "…", &error.to_string())
    })?;
    Ok(ProvisionerConfig { grants, limits, config })
}

fn wrong(path: &Path, key: &str, value: &str, reason: &str) -> ConfigError {
    ConfigError::Value {
        path: path.to_owned(),
        key: key.to_owned(),
        value: value.trim_matches('"').to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
