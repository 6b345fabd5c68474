use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_kubernetes::PREFIX;
use gantry_kubernetes::cluster::Timeouts;
use gantry_kubernetes::name;
use gantry_kubernetes::process::{Change, Plan, State, Step, Undo};
use gantry_kubernetes::rollout::{
    Deadlines, Observation, Outcome, Rollout, go_duration, rolling_back,
};
use gantry_sdk::gantry_core::error::is_startup_error;
use gantry_sdk::gantry_core::labels::{ServiceExtension, ServiceOptions};
use gantry_sdk::{App, Error, LabelSet};
use serde_json::{Value, json};

use crate::walk::{Ran, error, map, settings, text, texts, walk};

/// The process that the vectors of states were recorded with.
const PROCESS: &str = "p1";

/// The labels that a state shows in.
const SHOWN: [&str; 4] = ["app-process-replicas", "is-stopped", "is-asleep", "restarts"];

#[test]
fn kube_process_states() {
    walk("kube_process_states", |case| {
        let mut labels = BTreeMap::new();
        let (mut restarts, mut forgotten) = (0, false);
        let mut excused = false;
        for step in case["steps"].as_array().expect("steps") {
            let state = state(&step["state"]);
            let plan = plan(&labels, state);
            if let Some(expected) = error(step) {
                assert_eq!(plan.expect_err("an error").to_string(), expected);
                continue;
            }
            let plan = plan.expect("a plan");
            let Some(Step::Update { target, .. }) = plan.steps.first() else { panic!("an update") };
            let set = service_labels(target.replicas, |set| target.write(set));
            assert_eq!(Some(target.running), step["spec_replicas"].as_i64());
            assert_eq!(Some(plan.quota), step["quota_in_use"].as_i64());

            // The number of restarts survives other changes (design 10.6).
            forgotten |= restarts > 0 && !state.restart;
            restarts += i64::from(state.restart);
            let mut expected = map(step, "template_labels_subset");
            if forgotten {
                expected.insert(format!("{PREFIX}restarts"), restarts.to_string());
                excused = true;
            }
            // Those of the Deployment itself: its template follows when units are replaced (ARCHITECTURE.md, "Units that come and go").
            let mut shown = set.to_labels();
            shown.retain(|key, _| SHOWN.iter().any(|shown| *key == format!("{PREFIX}{shown}")));
            assert_eq!(shown, expected, "{}", step["state"]);
            labels.insert(PROCESS.to_owned(), LabelSet::new(set.to_labels(), PREFIX));
        }
        if excused { Ran::Excused(6) } else { Ran::AsTheReference }
    });
}

fn plan(labels: &BTreeMap<String, LabelSet>, state: State) -> Result<Plan, Error> {
    let processes = BTreeSet::from([PROCESS.to_owned()]);
    let states = BTreeMap::from([(PROCESS.to_owned(), state)]);
    Plan::new(&Change {
        image: "myimg",
        processes: &processes,
        current: &labels.keys().cloned().collect(),
        states: Some(&states),
        labels,
    })
}

fn state(value: &Value) -> State {
    let flag = |field: &str| value[field].as_bool().unwrap_or_default();
    State {
        start: flag("start"),
        stop: flag("stop"),
        restart: flag("restart"),
        sleep: flag("sleep"),
        increment: value["increment"].as_i64().unwrap_or_default(),
    }
}

fn service_labels(replicas: i64, write: impl Fn(&mut LabelSet)) -> LabelSet {
    let app = App { name: "myapp".to_owned(), ..App::default() };
    let extension = ServiceExtension { prefix: PREFIX, ..ServiceExtension::default() };
    let options = ServiceOptions { app: &app, routers: &[], process: PROCESS, replicas, extension };
    let mut set = LabelSet::service_labels(&options, &|_: &str| None).expect("no routers");
    write(&mut set);
    set
}

#[test]
fn kube_failures() {
    walk("kube_failures", |case| {
        let timeouts = Timeouts::from_settings(&settings(&case["config"]));
        let deadlines =
            Deadlines { full: timeouts.deployment_progress, healthcheck: timeouts.healthcheck };
        // The processes the reference got to, of which the last one failed.
        let log = text(case, "log");
        let reached: Vec<&str> = log
            .lines()
            .filter_map(|line| line.strip_prefix("---- Updating units [")?.strip_suffix("] ----"))
            .collect();
        let processes: BTreeSet<String> = reached.iter().map(|name| (*name).to_owned()).collect();
        let states: BTreeMap<String, State> =
            processes.iter().map(|process| (process.clone(), State::START)).collect();
        let starts_all = case["spec_nil_means_start_all"].as_bool().expect("a flag");
        let plan = Plan::new(&Change {
            image: "myimg",
            processes: &processes,
            current: &BTreeSet::new(),
            states: (!starts_all).then_some(&states),
            labels: &BTreeMap::new(),
        });
        let plan = plan.expect("a plan");

        let mut lines = String::new();
        let mut failure = None;
        for (number, process) in reached.iter().enumerate() {
            let fails = number + 1 == reached.len();
            let Step::Update { process: planned, .. } = &plan.steps[number] else {
                panic!("an update")
            };
            assert_eq!(planned, process);
            lines.push_str(&Rollout::headline(process));
            failure = replay(case, process, number + 1, fails, deadlines, &mut lines);
        }
        let failure = failure.expect("a failure");
        lines.push_str(&rolling_back(&failure));
        let spent = go_duration(deadlines.full);
        assert_eq!(lines.replace(&spent, "<dur>"), log);
        let message = failure.to_string().replace(&spent, "<dur>");
        assert_eq!(Some(message.as_str()), error(case));
        assert_eq!(Some(is_startup_error(&failure)), case["is_startup_error"].as_bool());
        assert!(texts(case, "images_recorded").is_empty());
        assert!(plan.steps[..reached.len()].iter().all(|step| *step != Step::RecordImage));

        // What was deployed before goes, by the plan; what failed was not there before, and leaves nothing: the reference leaves it (design 10.13).
        let undone: Vec<Undo> = reached[..reached.len() - 1]
            .iter()
            .map(|process| Undo::Remove { process: (*process).to_owned() })
            .collect();
        assert_eq!(plan.undo(reached.len() - 1), undone);
        let failed = name::deployment("myapp", reached.last().expect("a process"));
        assert_eq!(texts(case, "rollback_objects"), [failed.as_str()]);
        // Every case is a first deploy: of no input does the reference leave nothing.
        assert_eq!(texts(case, "deployments_left"), [failed]);
        Ran::Excused(13)
    });
}

/// The cluster of the recording: all new units are made at once; of a process that fails one pod runs and never answers, and one unit more is called unavailable than there are.
fn replay(
    case: &Value,
    process: &str,
    number: usize,
    fails: bool,
    deadlines: Deadlines,
    lines: &mut String,
) -> Option<Error> {
    let deployment = name::deployment("myapp", process);
    let message = error(case).expect("an error");
    let given_up = fails && message.ends_with("exceeded its progress deadline");
    let conditions =
        given_up.then(|| json!({"type": "Progressing", "reason": "ProgressDeadlineExceeded"}));
    let object = json!({
        "metadata": {"name": deployment, "generation": 1},
        "spec": {"replicas": 1},
        "status": {
            "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
            "unavailableReplicas": if fails { 2 } else { 0 },
            "conditions": conditions.into_iter().collect::<Vec<_>>(),
        },
    });
    let pod = json!({
        "metadata": {
            "name": format!("{deployment}-pod-{number}-1"),
            "ownerReferences": [{"name": "rs"}],
        },
        "status": {"phase": "Running"},
    });
    // Only a case that waits for health has a ReplicaSet of the new kind.
    let annotations = json!({"deployment.kubernetes.io/revision": "1"});
    let replica_set = json!({"metadata": {"name": "rs", "annotations": annotations}});
    let replica_sets: Vec<Value> =
        message.contains("healthcheck").then_some(replica_set).into_iter().collect();
    let mut rollout = Rollout::new(&deployment, deadlines, &[]);
    for elapsed in [Duration::ZERO, deadlines.healthcheck, deadlines.full] {
        let (shown, outcome) = rollout.observe(&Observation {
            deployment: &object,
            replica_sets: &replica_sets,
            pods: std::slice::from_ref(&pod),
            events: &[],
            elapsed,
        });
        lines.push_str(&shown.concat());
        match outcome {
            Outcome::Waiting => {}
            Outcome::Done => return None,
            Outcome::Failed(error) => return Some(error),
        }
    }
    panic!("nothing came of it")
}
