//! The configuration as it is written.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, keys};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Raw {
    pub(super) data: Option<PathBuf>,
    pub(super) instance: Option<String>,
    pub(super) default_pool: Option<String>,
    pub(super) default_router: Option<String>,
    pub(super) http: RawHttp,
    pub(super) operations: RawOperations,
    pub(super) healing: RawHealing,
    pub(super) images: RawImages,
    pub(super) builds: RawBuilds,
    pub(super) compiler: RawCompiler,
    pub(super) runtime: RawRuntime,
    pub(super) docker: RawDocker,
    pub(super) pools: BTreeMap<String, RawPool>,
    pub(super) routers: BTreeMap<String, RawRouter>,
    pub(super) volume_plans: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
    pub(super) provisioners: BTreeMap<String, RawProvisioner>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct RawHttp {
    pub(super) socket: Option<PathBuf>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawOperations {
    pub(super) grace: Option<String>,
    pub(super) undo: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawHealing {
    pub(super) every: Option<String>,
    pub(super) most: Option<u32>,
    pub(super) per: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct RawImages {
    pub(super) every: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct RawBuilds {
    pub(super) largest_source: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawCompiler {
    pub(super) timeout: Option<String>,
    pub(super) memory: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawRuntime {
    pub(super) stack: Option<String>,
    pub(super) calls: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawDocker {
    pub(super) hosts: Vec<RawDockerHost>,
    pub(super) registries: Vec<RawDockerRegistry>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RawDockerHost {
    pub(super) address: String,
    pub(super) tls: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RawDockerRegistry {
    pub(super) address: String,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawPool {
    pub(super) provisioner: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawRouter {
    pub(super) r#type: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) healthcheck: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawProvisioner {
    pub(super) grants: Vec<String>,
    pub(super) limits: BTreeMap<String, toml::Value>,
    pub(super) config: toml::Table,
}

/// Reads the text: first every key by name, then every value by type.
pub(super) fn parse(path: &Path, text: &str) -> Result<Raw, ConfigError> {
    let syntax = |error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    };
    let table: toml::Table = text.parse().map_err(syntax)?;
    keys::check(path, &table)?;
    toml::from_str(text).map_err(syntax)
}
