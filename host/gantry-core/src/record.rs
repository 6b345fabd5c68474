//! What a provisioner of containers writes down about each unit, and how reports change it (spec 5.1, 5.8, 5.9).
//!
//! The engine decides what exists; a record only adds what the engine cannot know. Times are the caller's.

use serde::{Deserialize, Serialize};

use crate::error::ContractError;
use crate::{App, Error, Status, Unit};

/// One unit, as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitRecord {
    /// What the engine calls it; empty until the engine has answered.
    pub id: String,
    /// Its name; known before the container exists.
    pub name: String,
    /// The app.
    pub app_name: String,
    /// The process.
    pub process_name: String,
    /// The platform; the app's when empty.
    pub kind: String,
    /// The address in the container's network.
    pub ip: String,
    /// The machine.
    pub host_addr: String,
    /// The address of the machine's engine.
    pub node: String,
    /// The machine's port that its port is published on.
    pub host_port: String,
    /// Where it is in its life.
    pub status: Option<Status>,
    /// The last status that was not `error`: what it is expected to be.
    pub status_before_error: Option<Status>,
    /// The image it runs.
    pub image: String,
    /// The engine's id of that image, which the name may mean no longer; empty when nobody looked.
    pub image_id: String,
    /// The image it builds; empty for a unit of the app.
    pub building_image: String,
    /// The port it listens on (`8888/tcp`); empty for the unit of a deploy.
    pub exposed_port: String,
    /// When the status was last written, in milliseconds since 1970.
    pub last_status_update: i64,
    /// When the status last was one of success.
    pub last_success_status_update: i64,
    /// Since when it does not do what it should, in milliseconds since 1970; 0 while it does.
    pub ill_since: i64,
    /// Whether the change that started it is not past its point of no return: without its container it has never been a unit.
    pub is_new: bool,
}

/// What becomes of a record when something reports a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing: builds and sleepers do not listen.
    Ignored,
    /// This status.
    Becomes(Status),
}

impl UnitRecord {
    /// Writes a status down.
    pub fn set_status(&mut self, status: Status, now: i64) {
        self.status = Some(status);
        self.last_status_update = now;
        if status != Status::Error {
            self.status_before_error = Some(status);
        }
        if matches!(status, Status::Started | Status::Starting | Status::Stopped) {
            self.last_success_status_update = now;
        }
    }

    /// Whether it is what a build runs in, and not a unit of the app.
    #[must_use]
    pub fn is_build(&self) -> bool {
        !self.building_image.is_empty()
    }

    /// What it should be, whatever went wrong since.
    #[must_use]
    pub fn expected_status(&self) -> Option<Status> {
        self.status_before_error.or(self.status)
    }

    /// Takes the report of a status.
    ///
    /// # Errors
    ///
    /// A report that names another app.
    pub fn report(&mut self, app_name: &str, reported: Status, now: i64) -> Result<Report, Error> {
        if !app_name.is_empty() && app_name != self.app_name {
            return Err(ContractError::WrongAppName.into());
        }
        let report = reported_status(self.status, self.status_before_error, reported);
        if let Report::Becomes(status) = report {
            self.set_status(status, now);
        }
        Ok(report)
    }

    /// Takes the word of a unit that it has begun: it is started, whatever it was, unless it builds.
    pub fn register(&mut self, now: i64) -> Report {
        let report = registered_status(self.status);
        if let Report::Becomes(status) = report {
            self.set_status(status, now);
        }
        report
    }

    /// Where it answers, once that is known.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        if self.host_addr.is_empty() || self.host_port.is_empty() || self.host_port == "0" {
            return None;
        }
        let bracketed = self.host_addr.contains(':');
        let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
        Some(format!("http://{open}{}{close}:{}", self.host_addr, self.host_port))
    }

    /// What people are shown of its id.
    #[must_use]
    pub fn short_id(&self) -> &str {
        short_id(&self.id)
    }

    /// The unit it is, of this app.
    #[must_use]
    pub fn unit(&self, app: &App) -> Unit {
        let kind = if self.kind.is_empty() { &app.platform } else { &self.kind };
        Unit {
            id: self.id.clone(),
            name: self.name.clone(),
            app_name: self.app_name.clone(),
            process_name: self.process_name.clone(),
            kind: kind.clone(),
            ip: self.host_addr.clone(),
            status: Some(self.status.unwrap_or(Status::Building)),
            address: self.address(),
        }
    }
}

/// What a reported status means for a unit in this one. A process that ended although it should run has failed; one that runs although it should be stopped has too.
#[must_use]
pub fn reported_status(
    status: Option<Status>,
    status_before_error: Option<Status>,
    reported: Status,
) -> Report {
    if matches!(status, Some(Status::Building | Status::Asleep)) {
        return Report::Ignored;
    }
    let should_be_stopped = status_before_error.or(status) == Some(Status::Stopped);
    Report::Becomes(match reported {
        Status::Stopped | Status::Created if should_be_stopped => Status::Stopped,
        Status::Stopped | Status::Created => Status::Error,
        Status::Started if should_be_stopped => Status::Error,
        Status::Started | Status::Starting | Status::Building | Status::Error | Status::Asleep => {
            reported
        }
    })
}

/// What a unit in this status is once it has told that it has begun.
#[must_use]
pub fn registered_status(status: Option<Status>) -> Report {
    match status {
        Some(Status::Building) => Report::Ignored,
        Some(
            Status::Created
            | Status::Error
            | Status::Starting
            | Status::Started
            | Status::Stopped
            | Status::Asleep,
        )
        | None => Report::Becomes(Status::Started),
    }
}

/// The first ten letters of an id.
#[must_use]
pub fn short_id(id: &str) -> &str {
    id.char_indices().nth(10).map_or(id, |(end, _)| id.get(..end).unwrap_or(id))
}

/// Which of these ids is meant by one of them or by a prefix that only one has.
///
/// # Errors
///
/// None or several; an empty text means none.
pub fn find_by_id_prefix<S: AsRef<str>>(ids: &[S], id: &str) -> Result<usize, Error> {
    if let Some(exact) = ids.iter().position(|known| !id.is_empty() && known.as_ref() == id) {
        return Ok(exact);
    }
    let mut matching = ids
        .iter()
        .enumerate()
        .filter(|(_, known)| !id.is_empty() && known.as_ref().starts_with(id))
        .map(|(index, _)| index);
    match (matching.next(), matching.next()) {
        (None, _) => Err(Error::UnitNotFound(id.to_owned())),
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(ContractError::AmbiguousContainer(id.to_owned()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_means_a_unit_when_only_one_has_it() {
        let ids = ["abc1", "abc2", "b", "bc", ""];
        assert_eq!(find_by_id_prefix(&ids, "abc1").unwrap(), 0);
        assert_eq!(find_by_id_prefix(&ids, "b").unwrap(), 2);
        assert_eq!(find_by_id_prefix(&ids, "bc").unwrap(), 3);
        for (id, message) in [
            ("abc", r#"ambiguous container name/id: "abc""#),
            ("x", r#"unit "x" not found"#),
            ("", r#"unit "" not found"#),
        ] {
            assert_eq!(find_by_id_prefix(&ids, id).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn an_address_needs_a_machine_and_a_port() {
        let at = |host_addr: &str, host_port: &str| {
            UnitRecord {
                host_addr: host_addr.to_owned(),
                host_port: host_port.to_owned(),
                ..UnitRecord::default()
            }
            .address()
        };
        assert_eq!(at("10.0.0.1", "80").as_deref(), Some("http://10.0.0.1:80"));
        assert_eq!(at("::1", "80").as_deref(), Some("http://[::1]:80"));
        assert_eq!(at("", "80"), None);
        assert_eq!(at("h", ""), None);
        assert_eq!(at("h", "0"), None);
    }

    #[test]
    fn a_record_without_status_and_kind_is_a_building_unit_of_the_apps_platform() {
        let app = App { platform: "python".to_owned(), ..App::default() };
        let unit = UnitRecord { host_addr: "h".to_owned(), ..UnitRecord::default() }.unit(&app);
        assert_eq!(unit.status, Some(Status::Building));
        assert_eq!((unit.kind.as_str(), unit.ip.as_str()), ("python", "h"));
    }

    #[test]
    fn only_good_news_moves_the_time_of_success() {
        let mut record = UnitRecord::default();
        record.set_status(Status::Started, 1);
        record.set_status(Status::Error, 2);
        record.set_status(Status::Asleep, 3);
        assert_eq!((record.last_status_update, record.last_success_status_update), (3, 1));
        assert_eq!(record.expected_status(), Some(Status::Asleep));
    }

    #[test]
    fn a_report_for_another_app_is_refused() {
        let mut record = UnitRecord { app_name: "a".to_owned(), ..UnitRecord::default() };
        let refused = record.report("b", Status::Started, 1).unwrap_err();
        assert_eq!(refused.to_string(), "wrong app name");
        assert_eq!(record.status, None);
        assert_eq!(record.report("", Status::Started, 1), Ok(Report::Becomes(Status::Started)));
        assert_eq!(record.report("a", Status::Error, 1), Ok(Report::Becomes(Status::Error)));
    }

    #[test]
    fn a_short_id_has_ten_letters() {
        assert_eq!(short_id("0123456789abc"), "0123456789");
        assert_eq!(short_id("0123"), "0123");
        assert_eq!(short_id("ééééééééééé"), "éééééééééé");
    }
}
