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
        ("unit-set", true) => "its new units are units of the app",
        ("unit-set", false) => {
            "some of the units may be gone, or what it had made is removed once its host answers"
        }
        ("unit-remove", _) => "some of the units may be gone",
        ("unit-kill", _) => "the unit may be started anew",
        ("unit-heal", true) => "its new unit is the app, and the ill one may still be there",
        ("unit-heal", false) => {
            "the ill unit is as it was, and what it had made is removed once its host answers"
        }
        ("app-start", _) => "some of the units may be started",
        ("app-stop", _) => "some of the units may be stopped",
        ("app-sleep", _) => "some of the units may be asleep",
        ("app-create", _) => "the app it was creating is forgotten",
        ("app-remove", _) => "some of the units may be gone, or the whole app",
        ("app-run", _) => "nobody knows how the command ended",
        ("app-shell", _) => "the shell is closed",
        ("app-update", true) => {
            "its new units are the app, and some of the old ones may still be there"
        }
        ("app-update", false) => {
            "the app may be of either pool, and what it had made is removed once its host answers"
        }
        ("app-routers", _) => "the routers may be changed",
        ("app-swap", _) => "the two may be swapped",
        ("quota-change", _) => "the quota may be changed",
        ("image-clean", _) => "some of the images that are too old may be gone",
        ("env-change", true) => {
            "the variables are changed, its new units have them, and some of the old ones may still be there"
        }
        ("env-change", false) => {
            "the variables may be changed, and the units from before do not have them"
        }
        ("plan-change", true) => {
            "the plan is changed, its new units have it, and some of the old ones may still be there"
        }
        ("plan-change", false) => {
            "the plan may be changed, and the units from before do not have it"
        }
        ("service-bind" | "volume-bind", true) => {
            "it is bound, its new units know it, and some of the old ones may still be there"
        }
        ("service-bind" | "volume-bind", false) => {
            "it may be bound, and the units from before do not know it"
        }
        ("service-unbind" | "volume-unbind", true) => {
            "it is unbound, its new units know it, and some of the old ones may still be there"
        }
        ("service-unbind" | "volume-unbind", false) => {
            "it may be unbound, and the units from before do not know it"
        }
        ("service-add" | "cluster-add" | "plan-create" | "pool-create" | "volume-create", _) => {
            "it may be there"
        }
        ("service-update" | "cluster-update" | "node-update", _) => "it may be changed",
        (
            "service-remove" | "cluster-remove" | "plan-remove" | "pool-remove" | "volume-remove",
            _,
        ) => "it may be gone",
        ("node-add", _) => "the node may be there",
        ("node-remove" | "node-rebalance", true) => {
            "some of the units have moved, and what else it had made is removed once its host answers"
        }
        ("node-remove" | "node-rebalance", false) => {
            "no unit has moved, and what it had made is removed once its host answers"
        }
        ("node-give-up", _) => "the node may be given up",
        ("node-take-back", _) => "the node may be in use again",
        (
            "node-container-add"
            | "node-container-update"
            | "node-container-upgrade"
            | "node-container-remove",
            _,
        ) => "some of the nodes may run what they ran before",
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

/// What the daemon does by itself, and does again when there is still something to do.
const BY_ITSELF: [&str; 4] = ["image-clean", "unit-heal", "node-give-up", "node-take-back"];

/// What changes the number of units, and nothing of those that stay.
const UNITS: [&str; 3] = ["unit-add", "unit-remove", "unit-set"];

fn hint(record: &OperationRecord, counts: bool) -> String {
    let begin = &record.begin;
    let verb = begin.verb.as_str();
    match (&begin.app, &begin.plugin) {
        _ if BY_ITSELF.contains(&verb) => "it is looked at again without you".to_owned(),
        _ if verb.starts_with("node-") => {
            "`gantry node list` shows the nodes; then do it again".to_owned()
        }
        (Some(app), _) if verb == "app-create" => {
            format!("`gantry app create {app}` does it again")
        }
        (Some(app), _) if verb == "app-remove" => {
            format!(
                "`gantry app remove {app}` removes what is left; `gantry app list` tells whether the app is"
            )
        }
        (Some(app), _) if UNITS.contains(&verb) && counts => {
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
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::{Begin, PluginRecord};

    const VERBS: [&str; 50] = [
        "app-create",
        "app-remove",
        "app-restart",
        "app-routers",
        "app-run",
        "app-shell",
        "app-sleep",
        "app-start",
        "app-stop",
        "app-swap",
        "app-update",
        "cluster-add",
        "cluster-remove",
        "cluster-update",
        "deploy",
        "env-change",
        "image-clean",
        "node-add",
        "node-container-add",
        "node-container-remove",
        "node-container-update",
        "node-container-upgrade",
        "node-give-up",
        "node-rebalance",
        "node-remove",
        "node-take-back",
        "node-update",
        "plan-change",
        "plan-create",
        "plan-remove",
        "plugin-install",
        "plugin-swap",
        "pool-create",
        "pool-remove",
        "quota-change",
        "rollback",
        "service-add",
        "service-bind",
        "service-remove",
        "service-unbind",
        "service-update",
        "unit-add",
        "unit-heal",
        "unit-kill",
        "unit-remove",
        "unit-set",
        "volume-bind",
        "volume-create",
        "volume-remove",
        "volume-unbind",
    ];

    /// The words with which the service begins operations.
    fn begun_in(folder: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                begun_in(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            for before in ["verb: \"", "request(\"", "caller, \""] {
                let after = text.split(before).skip(1).filter_map(|after| after.split('"').next());
                found.extend(after.map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_verb_that_begins_an_operation_is_known_here() {
        let service = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/service");
        let mut found = BTreeSet::new();
        begun_in(&service, &mut found);
        assert!(found.len() > 30, "the search finds nothing any more: {found:?}");
        found.retain(|verb| !VERBS.contains(&verb.as_str()));
        assert_eq!(found, BTreeSet::new());
    }

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
        assert_eq!(
            told(false),
            [
                "app-restart",
                "app-update",
                "deploy",
                "node-rebalance",
                "node-remove",
                "rollback",
                "unit-add",
                "unit-heal",
                "unit-set",
            ]
        );
        // They change several apps, one after the other.
        assert_eq!(told(true), ["node-rebalance", "node-remove"]);
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
            (hint(&web("unit-set"), true), "`gantry unit list web` shows the units"),
            (hint(&web("image-clean"), false), "it is looked at again without you"),
            (hint(&web("unit-heal"), true), "it is looked at again without you"),
            (
                hint(&record("node-remove", None, Some("docker")), true),
                "`gantry node list` shows the nodes; then do it again",
            ),
            (hint(&record("pool-create", None, None), false), "do it again"),
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
