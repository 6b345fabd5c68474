//! What is going on with an app, by its units.
//!
//! A provisioner may keep no unit of an app that is stopped or asleep. Then the journal tells: what was asked of the units last.

use gantry_core::{Status, Unit};

use crate::api::{AppState, OperationState, Problem};
use crate::service::{OrProblem, Service};

/// The changes after which units run.
const STARTING: [&str; 4] = ["deploy", "rollback", "app-start", "app-restart"];

/// How many operations are read at a time.
const PAGE: u32 = 50;

/// The state of an app that has been deployed so often and has these units; `asked` is what was asked of them last.
pub(super) fn state(deploys: u32, units: &[Unit], asked: Option<AppState>) -> AppState {
    let some = |wanted: &[Status]| {
        units.iter().any(|unit| unit.status.is_some_and(|status| wanted.contains(&status)))
    };
    if units.is_empty() {
        return if deploys == 0 { AppState::New } else { asked.unwrap_or(AppState::Empty) };
    }
    // One that nobody has registered yet, as those of plain images are for ever, is `starting` and serves.
    if some(&[Status::Started, Status::Starting]) {
        AppState::Running
    } else if some(&[Status::Created, Status::Building]) {
        AppState::Starting
    } else if some(&[Status::Error]) {
        AppState::Error
    } else if some(&[Status::Stopped]) {
        AppState::Stopped
    } else if some(&[Status::Asleep]) {
        AppState::Asleep
    } else {
        AppState::Starting
    }
}

/// Whether units are stopped or asleep after an operation; none when it does not tell.
fn after(verb: &str) -> Option<Option<AppState>> {
    match verb {
        "app-stop" => Some(Some(AppState::Stopped)),
        "app-sleep" => Some(Some(AppState::Asleep)),
        verb if STARTING.contains(&verb) => Some(None),
        _ => None,
    }
}

impl Service {
    /// The state of an app with these units.
    pub(super) async fn state(
        &self,
        app: &str,
        deploys: u32,
        units: &[Unit],
    ) -> Result<AppState, Problem> {
        let asked = match units.is_empty() && deploys > 0 {
            true => self.asked_last(app).await?,
            false => None,
        };
        Ok(state(deploys, units, asked))
    }

    /// Whether the units of an app were stopped or put to sleep since they were started last.
    pub(in crate::service) async fn asked_last(
        &self,
        app: &str,
    ) -> Result<Option<AppState>, Problem> {
        let title = || format!("could not read the operations of `{app}`");
        let done = OperationState::Done.word();
        let mut before: Option<String> = None;
        loop {
            let page = self.store.operations(Some(app), Some(done), before.as_deref(), PAGE).await;
            let page = page.or_problem(title)?;
            if let Some(told) = page.iter().find_map(|record| after(&record.begin.verb)) {
                return Ok(told);
            }
            // The deploy that there was may be older than the journal.
            let Some(last) = page.last() else { return Ok(None) };
            before = Some(last.begin.id.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(statuses: &[Status]) -> Vec<Unit> {
        let unit = |status: &Status| Unit { status: Some(*status), ..Unit::default() };
        statuses.iter().map(unit).collect()
    }

    #[test]
    fn an_app_is_what_the_most_alive_of_its_units_is() {
        use Status::{Asleep, Created, Error, Started, Starting, Stopped};
        let table: [(&[Status], AppState); 8] = [
            (&[Error, Stopped, Started], AppState::Running),
            (&[Starting, Created], AppState::Running),
            (&[Created, Error], AppState::Starting),
            (&[Created], AppState::Starting),
            (&[Stopped, Error], AppState::Error),
            (&[Stopped, Stopped], AppState::Stopped),
            (&[Asleep, Stopped], AppState::Stopped),
            (&[Asleep], AppState::Asleep),
        ];
        for (statuses, expected) in table {
            assert_eq!(state(1, &units(statuses), None), expected, "{statuses:?}");
        }
    }

    #[test]
    fn an_app_without_units_is_what_was_asked_of_it() {
        assert_eq!(state(0, &[], None), AppState::New);
        assert_eq!(state(1, &[], None), AppState::Empty);
        assert_eq!(state(1, &[], Some(AppState::Asleep)), AppState::Asleep);
        let told = ["env-change", "app-run", "app-sleep", "deploy"];
        let of = |verbs: &[&str]| verbs.iter().find_map(|verb| after(verb)).flatten();
        assert_eq!(of(&told), Some(AppState::Asleep));
        assert_eq!(of(&["app-start", "app-stop"]), None);
        assert_eq!(of(&["unit-add", "app-stop"]), Some(AppState::Stopped));
        assert_eq!(of(&["unit-remove"]), None);
    }
}
