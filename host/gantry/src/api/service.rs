//! Services that apps are bound to.

use serde::{Deserialize, Serialize};

use super::Secret;

/// A service, without its password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, here and there.
    pub name: String,
    /// Where it answers.
    pub url: String,
    /// Who we are there.
    pub username: String,
    /// Whether we show a password.
    pub has_password: bool,
    /// How many seconds it has to answer.
    pub timeout: u32,
    /// The apps that are bound to it.
    pub binds: Vec<ServiceBind>,
    /// When it was added.
    pub created: String,
}

/// An app that is bound to a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceBind {
    /// The app.
    pub app: String,
    /// The names of the variables that the service gives it.
    pub variables: Vec<String>,
    /// Whether the bind has begun and not ended: the daemon ended in the middle of it.
    pub half_made: bool,
}

/// A service to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewService {
    /// Its name, here and there.
    pub name: String,
    /// Where it answers.
    pub url: String,
    /// Who we are there; its own name when empty.
    pub username: String,
    /// How we show it.
    pub password: Secret,
    /// How many seconds it has to answer; 60 when not said.
    pub timeout: Option<u32>,
}

/// A change of a service: what is not said stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceChange {
    /// Where it answers. Another place forgets the password.
    pub url: Option<String>,
    /// Who we are there.
    pub username: Option<String>,
    /// How we show it.
    pub password: Option<Secret>,
    /// How many seconds it has to answer.
    pub timeout: Option<u32>,
}

/// A bind to be made or undone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceBindChange {
    /// The app.
    pub app: String,
    /// Whether the units go on with the variables they have; new ones are as asked.
    pub no_restart: bool,
    /// Whether it is undone whatever the service says.
    pub force: bool,
}
