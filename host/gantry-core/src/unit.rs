//! One running copy of one process of an app.

use serde::{Deserialize, Serialize};

use crate::Status;

/// One running copy of one process of an app (spec 1.2). This is our own wire form; the reference's JSON is a function of this module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// What the engine calls it.
    pub id: String,
    /// Its name, unique within the engine.
    pub name: String,
    /// The app it is a copy of.
    pub app_name: String,
    /// The process it runs.
    pub process_name: String,
    /// The platform of the app.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address of the machine it runs on.
    pub ip: String,
    /// Where it is in its life; none when the engine tells something that has no word here.
    pub status: Option<Status>,
    /// Where its process answers, as a URL.
    pub address: Option<String>,
}
