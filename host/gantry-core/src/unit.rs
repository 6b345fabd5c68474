//! One running copy of one process of an app.

use serde::{Deserialize, Serialize};

use crate::Status;
use crate::go;
use crate::url::Url;

/// One running copy of one process of an app (spec 1.2). This is our own wire form; the reference's is [`Unit::reference_json`].
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

impl Unit {
    /// Whether the unit is there, even if its process is not: started, starting or failed.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.status.is_some_and(Status::is_available)
    }

    /// The reference's JSON of a unit: one flat object with its keys in a fixed order, the address in its parts, and the address' host and port once more. A unit
    /// without an address, or with one that is no URL, has `null` and two empty texts.
    #[must_use]
    pub fn reference_json(&self) -> String {
        let address = self.address.as_deref().and_then(|address| Url::parse(address).ok());
        let (host_addr, host_port) = address.as_ref().map(Url::host_and_port).unwrap_or_default();
        go::to_json(&ReferenceUnit {
            id: &self.id,
            name: &self.name,
            app_name: &self.app_name,
            process_name: &self.process_name,
            kind: &self.kind,
            status: self.status.map_or("", Status::as_str),
            address: address.as_ref(),
            host_addr,
            host_port,
            ip: &self.ip,
        })
    }
}

/// The keys of the reference's JSON, in its order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReferenceUnit<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    app_name: &'a str,
    process_name: &'a str,
    #[serde(rename = "Type")]
    kind: &'a str,
    status: &'a str,
    address: Option<&'a Url>,
    host_addr: &'a str,
    host_port: &'a str,
    #[serde(rename = "IP")]
    ip: &'a str,
}

/// What terminal somebody has, and where he wants his shell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShellOptions {
    /// The unit with this id or prefix of it; any unit when empty.
    pub unit: String,
    /// What kind of terminal it is.
    pub term: String,
    /// Its columns.
    pub width: u16,
    /// Its rows.
    pub height: u16,
}
