//! The processes that an app has, for whoever names one.
//!
//! An image declares its processes; what is known of a plain image may be the provisioner's alone, and then the units tell of which processes they are.

use std::collections::BTreeSet;

use gantry_core::{Error, Unit};
use gantry_engine::Images;
use gantry_runtime::Provisioner;

use super::Change;
use crate::api::{Problem, ProblemKind};
use crate::near;
use crate::service::{OrProblem, Service};
use crate::store::AppRecord;

/// What is known of the processes of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Processes {
    /// Those of its image; none when the host does not know them.
    declared: BTreeSet<String>,
    /// Those that its units are of.
    of_units: BTreeSet<String>,
    /// Whether something was deployed.
    deployed: bool,
}

impl Processes {
    /// Refuses a process that the app does not have. Where nobody can tell, it is the provisioner's to say.
    pub(super) fn check(&self, app: &str, process: &str) -> Result<(), Problem> {
        let Self { declared, of_units, deployed } = self;
        if process.is_empty() || declared.contains(process) || of_units.contains(process) {
            return Ok(());
        }
        if !declared.is_empty() {
            let title = format!("`{app}` has no process `{process}`");
            return Err(refused(title, "there is", process, declared));
        }
        if !of_units.is_empty() {
            let title = format!("`{app}` has no unit of a process `{process}`");
            return Err(refused(title, "there are some of", process, of_units));
        }
        if *deployed {
            return Ok(());
        }
        let title = format!("`{app}` has no process `{process}`");
        Err(Problem::new(ProblemKind::NotFound, title)
            .because("nothing was deployed yet")
            .hint(format!("`gantry app deploy {app} --image IMAGE`")))
    }

    /// The same for more units: a process may have none yet, so only the image tells.
    pub(super) fn check_new(&self, app: &str, process: &str) -> Result<(), Problem> {
        if self.declared.is_empty() { Ok(()) } else { self.check(app, process) }
    }

    /// Refuses to guess which process of several is meant.
    pub(super) fn check_one(&self, title: &str, process: &str) -> Result<(), Problem> {
        match self.choice("").filter(|_| process.is_empty()) {
            None => Ok(()),
            Some(choice) => Err(Problem::new(ProblemKind::Invalid, title)
                .because("no process is named, and the app has several")
                .hint(choice)),
        }
    }

    /// Which processes there are, for whoever named another one, or none of several.
    pub(super) fn choice(&self, process: &str) -> Option<String> {
        let names = if self.declared.is_empty() { &self.of_units } else { &self.declared };
        let chosen = match process {
            "" => names.len() < 2,
            process => names.is_empty() || names.contains(process),
        };
        (!chosen).then(|| format!("name one with `--process`: there is {}", quoted(names)))
    }
}

fn quoted(names: &BTreeSet<String>) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn refused(title: String, there: &str, process: &str, names: &BTreeSet<String>) -> Problem {
    let hint = match near::nearest(process, names) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "name one of them with `--process`".to_owned(),
    };
    let why = format!("{there} {}", quoted(names));
    Problem::new(ProblemKind::NotFound, title).because(why).hint(hint)
}

impl Service {
    /// Refuses a process that an app does not have. Its units are asked for only when its image does not tell.
    pub(in crate::service) async fn known_process(
        &self,
        record: &AppRecord,
        provisioner: &Provisioner,
        operation: &gantry_engine::Operation,
        process: &str,
    ) -> Result<(), Problem> {
        if process.is_empty() {
            return Ok(());
        }
        let name = &record.app.name;
        let mut processes = self.processes(record, &[]).await?;
        if processes.declared.contains(process) {
            return Ok(());
        }
        let units = provisioner.units(operation, std::slice::from_ref(&record.app)).await;
        let units = units.or_problem(|| format!("could not ask for the units of `{name}`"))?;
        processes.of_units = of_units(&units);
        processes.check(name, process)
    }

    /// What is known of the processes of an app that has these units.
    pub(super) async fn processes(
        &self,
        record: &AppRecord,
        units: &[Unit],
    ) -> Result<Processes, Problem> {
        let name = &record.app.name;
        let title = || format!("could not read the processes of `{name}`");
        let platform = self.platform(&record.provisioner);
        let metadata = match Images::current(&platform, name).await {
            Ok(image) => Images::metadata(&platform, &image).await.or_problem(title)?,
            Err(Error::NotFound(_)) => None,
            Err(error) => return Err(error).or_problem(title),
        };
        Ok(Processes {
            declared: metadata.unwrap_or_default().processes.into_keys().collect(),
            of_units: of_units(units),
            deployed: record.app.deploys > 0,
        })
    }
}

impl Change {
    /// Refuses a process that the app does not have.
    pub(super) async fn known_process(&self, process: &str) -> Result<(), Problem> {
        let Self { service, record, provisioner, operation } = self;
        service.known_process(record, provisioner, operation, process).await
    }
}

fn of_units(units: &[Unit]) -> BTreeSet<String> {
    let named = units.iter().filter(|unit| !unit.process_name.is_empty());
    named.map(|unit| unit.process_name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processes(declared: &[&str], of_units: &[&str], deployed: bool) -> Processes {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Processes { declared: names(declared), of_units: names(of_units), deployed }
    }

    #[test]
    fn a_process_that_the_app_has_or_that_nobody_knows_of_is_taken() {
        for (known, process) in [
            (processes(&["web"], &[], true), ""),
            (processes(&[], &[], false), ""),
            (processes(&["web", "worker"], &["web"], true), "worker"),
            // What is left of the image before.
            (processes(&["web"], &["old"], true), "old"),
            (processes(&[], &["web"], true), "web"),
            (processes(&[], &[], true), "web"),
        ] {
            assert_eq!(known.check("app", process), Ok(()), "{known:?} {process}");
        }
    }

    #[test]
    fn another_one_is_not_found_and_those_that_there_are_are_named() {
        let mistyped = "did you mean `web`?";
        let table = [
            (
                processes(&["web", "worker"], &["old"], true),
                "wbe",
                "there is `web`, `worker`",
                mistyped,
            ),
            (
                processes(&["web"], &[], true),
                "nope",
                "there is `web`",
                "name one of them with `--process`",
            ),
            (processes(&[], &["web"], true), "wbe", "there are some of `web`", mistyped),
            (
                processes(&[], &[], false),
                "web",
                "nothing was deployed yet",
                "`gantry app deploy app --image IMAGE`",
            ),
        ];
        for (known, process, why, hint) in table {
            let problem = known.check("app", process).unwrap_err();
            assert_eq!(problem.kind, ProblemKind::NotFound, "{problem:?}");
            assert!(problem.title.contains(&format!("process `{process}`")), "{problem:?}");
            assert_eq!((problem.detail.as_str(), problem.hint.as_deref()), (why, Some(hint)));
        }
    }

    #[test]
    fn more_units_may_be_of_a_process_that_has_none() {
        let of_units = processes(&[], &["web"], true);
        assert_eq!(of_units.check_new("app", "worker"), Ok(()));
        let declared = processes(&["web"], &[], true);
        assert!(declared.check_new("app", "worker").is_err());
    }

    #[test]
    fn who_named_none_of_several_or_another_one_is_told_which_there_are() {
        let table: [(&[&str], &str, Option<&str>); 7] = [
            (&[], "", None),
            (&[], "web", None),
            (&["web"], "", None),
            (&["web"], "web", None),
            (&["web"], "nope", Some("name one with `--process`: there is `web`")),
            (&["web", "worker"], "", Some("name one with `--process`: there is `web`, `worker`")),
            (&["web", "worker"], "worker", None),
        ];
        for (names, process, expected) in table {
            for known in [processes(names, &[], true), processes(&[], names, true)] {
                assert_eq!(known.choice(process).as_deref(), expected, "{known:?} {process:?}");
            }
            // Another one than there are may be new.
            let known = processes(names, &[], true);
            let refused = known.check_one("title", process).err().and_then(|one| one.hint);
            assert_eq!(refused.as_deref(), expected.filter(|_| process.is_empty()));
        }
    }
}
