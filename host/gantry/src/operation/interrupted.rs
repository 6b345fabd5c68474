//! The operations that a daemon died in: marked at the next start, and told with what they have left.

use crate::api::{OperationState, Problem, ProblemKind};
use crate::clock;
use crate::store::{OperationRecord, Store, StoreError};

/// An operation that was under way when the last daemon ended.
#[derive(Clone, Debug)]
pub(crate) struct Interrupted {
    /// The operation.
    pub(crate) record: OperationRecord,
    /// What has become of what it changes.
    left: &'static str,
}

impl Interrupted {
    /// The line for the operator.
    pub(crate) fn line(&self) -> String {
        let begin = &self.record.begin;
        let what = begin.app.as_ref().or(begin.plugin.as_ref()).map_or("", String::as_str);
        let left = self.left;
        format!("interrupted last time: operation {} ({} {what}): {left}", begin.id, begin.verb)
    }
}

/// Marks the operations that were under way when the last daemon ended, and gives them.
pub(crate) async fn mark_interrupted(store: &Store) -> Result<Vec<Interrupted>, StoreError> {
    let running = OperationState::Running.word();
    let mut records = store.operations(None, Some(running), None, u32::MAX).await?;
    records.reverse();
    let plugins = store.plugins().await?;
    let mut interrupted = Vec::with_capacity(records.len());
    for record in records {
        let begin = &record.begin;
        let installed = plugins.iter().any(|plugin| plugin.operation == begin.id);
        let counts = record.in_service || installed;
        let left = left(&begin.verb, counts);
        let problem = Problem::new(ProblemKind::Interrupted, title(&record))
            .because(format!("the daemon ended in the middle of it; {left}"))
            .hint(hint(&record, counts));
        let problem = serde_json::to_string(&problem).ok();
        let word = OperationState::Interrupted.word();
        store.end_operation(&begin.id, word, clock::now(), problem, None).await?;
        interrupted.push(Interrupted { record, left });
    }
    Ok(interrupted)
}

fn title(record: &OperationRecord) -> String {
    let begin = &record.begin;
    match begin.app.as_ref().or(begin.plugin.as_ref()) {
        Some(what) => format!("{} of `{what}` was interrupted", begin.verb),
        None => format!("{} was interrupted", begin.verb),
    }
}

/// What an operation has left, by its verb and by whether what it made counts: its units are in service, its plugin is installed.
fn left(verb: &str, counts: bool) -> &'static str {
    match (verb, counts) {
        ("deploy" | "rollback" | "app-restart", true) => {
            "its new units are the app, and some of the old ones may still be there"
        }
        ("deploy" | "rollback" | "app-restart", false) => {
            "the units from before are the app, and what it had made is removed once its host answers"
        }
        ("unit-add", true) => "its new units are units of the app",
        ("unit-add", false) => {
            "no unit is added, and what it had made is removed once its host answers"
        }
        ("unit-remove", _) => "some of the units may be gone",
        ("app-start", _) => "some of the units may be started",
        ("app-stop", _) => "some of the units may be stopped",
        ("app-sleep", _) => "some of the units may be asleep",
        ("app-create", _) => "the app it was creating is forgotten",
        ("app-remove", _) => "some of the units may be gone, or the whole app",
        ("app-run", _) => "nobody knows how the command ended",
        ("env-change", true) => {
            "the variables are changed, its new units have them, and some of the old ones may still be there"
        }
        ("env-change", false) => {
            "the variables may be changed, and the units from before do not have them"
        }
        ("plugin-install", true) => "the plugin is installed",
        ("plugin-install", false) => "nothing is installed",
        ("plugin-swap", true) => "the new plugin serves",
        ("plugin-swap", false) => "the plugin from before serves",
        // A verb of another version of Gantry.
        _ => "nobody knows how far it came",
    }
}

/// What makes no units, and comes to the same when it is done twice.
const AGAIN: [&str; 3] = ["app-start", "app-stop", "app-sleep"];

fn hint(record: &OperationRecord, counts: bool) -> String {
    let begin = &record.begin;
    let verb = begin.verb.as_str();
    match (&begin.app, &begin.plugin) {
        (Some(app), _) if verb == "app-create" => {
            format!("`gantry app create {app}` does it again")
        }
        (Some(app), _) if verb == "app-remove" => {
            format!(
                "`gantry app remove {app}` removes what is left; `gantry app list` tells whether the app is"
            )
        }
        (Some(app), _) if ["unit-add", "unit-remove"].contains(&verb) && counts => {
            format!("`gantry unit list {app}` shows the units")
        }
        (Some(app), _) if counts && !AGAIN.contains(&verb) => format!(
            "`gantry unit list {app}` shows the units; `gantry unit remove {app} N` takes the oldest first"
        ),
        (Some(app), _) => format!("`gantry app info {app}` shows what runs; then do it again"),
        (None, Some(plugin)) if counts => format!("`gantry plugin inspect {plugin}` shows it"),
        (None, _) => "do it again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Begin, PluginRecord};

    const VERBS: [&str; 14] = [
        "app-create",
        "app-remove",
        "app-restart",
        "app-run",
        "app-sleep",
        "app-start",
        "app-stop",
        "deploy",
        "env-change",
        "plugin-install",
        "plugin-swap",
        "rollback",
        "unit-add",
        "unit-remove",
    ];

    #[test]
    fn every_verb_says_what_it_leaves() {
        for verb in VERBS {
            for counts in [true, false] {
                assert_ne!(left(verb, counts), left("", counts), "{verb}");
            }
        }
    }

    #[test]
    fn only_what_starts_units_and_has_not_put_them_in_service_is_told_to_be_removed() {
        let told = |counts: bool| {
            let removed = |verb: &&str| left(verb, counts).contains("is removed");
            VERBS.into_iter().filter(removed).collect::<Vec<_>>()
        };
        assert_eq!(told(false), ["app-restart", "deploy", "rollback", "unit-add"]);
        assert_eq!(told(true), [""; 0]);
    }

    #[test]
    fn the_hint_does_not_start_what_is_there_once_more() {
        let record = |verb: &str, app: Option<&str>, plugin: Option<&str>| OperationRecord {
            begin: Begin {
                verb: verb.to_owned(),
                app: app.map(str::to_owned),
                plugin: plugin.map(str::to_owned),
                ..Begin::default()
            },
            ..OperationRecord::default()
        };
        let web = |verb| record(verb, Some("web"), Some("docker"));
        let docker = record("plugin-swap", None, Some("docker"));
        let table = [
            (
                hint(&web("deploy"), true),
                "`gantry unit list web` shows the units; `gantry unit remove web N` takes the oldest first",
            ),
            (hint(&web("unit-add"), true), "`gantry unit list web` shows the units"),
            (hint(&web("unit-remove"), true), "`gantry unit list web` shows the units"),
            (
                hint(&web("app-stop"), true),
                "`gantry app info web` shows what runs; then do it again",
            ),
            (
                hint(&web("app-remove"), true),
                "`gantry app remove web` removes what is left; `gantry app list` tells whether the app is",
            ),
            (hint(&web("app-remove"), false), &hint(&web("app-remove"), true)),
            (
                hint(&web("deploy"), false),
                "`gantry app info web` shows what runs; then do it again",
            ),
            (hint(&web("app-create"), false), "`gantry app create web` does it again"),
            (hint(&docker, true), "`gantry plugin inspect docker` shows it"),
            (hint(&docker, false), "do it again"),
        ];
        for (hint, wanted) in table {
            assert_eq!(hint, wanted);
        }
    }

    #[tokio::test]
    async fn a_swap_that_was_written_down_is_done() {
        let (_folder, store) = Store::fresh();
        for id in ["01", "02"] {
            let begin = Begin {
                id: id.into(),
                verb: "plugin-swap".into(),
                plugin: Some("docker".into()),
                detail: "{}".into(),
                ..Begin::default()
            };
            store.begin_operation(begin).await.unwrap();
        }
        let plugin = PluginRecord {
            name: "docker".into(),
            digest: "d".into(),
            file: "f".into(),
            grants: Vec::new(),
            operation: "02".into(),
            since: 1,
        };
        store.put_plugin(plugin).await.unwrap();
        let lines = mark_interrupted(&store).await.unwrap();
        let lines: Vec<String> = lines.iter().map(Interrupted::line).collect();
        let line = "interrupted last time: operation";
        assert_eq!(
            lines,
            [
                format!("{line} 01 (plugin-swap docker): the plugin from before serves"),
                format!("{line} 02 (plugin-swap docker): the new plugin serves"),
            ]
        );
        assert!(mark_interrupted(&store).await.unwrap().is_empty(), "told once");
    }
}
