//! What an examination finds: units and machines that are ill.

use serde::{Deserialize, Serialize};

/// A unit that does not do what it should.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SickUnit {
    /// Its app.
    pub app_name: String,
    /// Its id.
    pub id: String,
    /// What is wrong, for people.
    pub reason: String,
    /// Whether its machine was given up: then it is one of many, and no sign that the app itself is ill.
    pub node_given_up: bool,
}

/// A machine with something to be done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotedNode {
    /// Its address.
    pub address: String,
    /// What was seen, for people.
    pub reason: String,
}

/// What there is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Units to be replaced.
    pub units: Vec<SickUnit>,
    /// Machines that died: to be given up.
    pub dead: Vec<NotedNode>,
    /// Machines that were given up and answer again, or that answer and have something left of units that were replaced: to be taken back.
    pub recovered: Vec<NotedNode>,
}
