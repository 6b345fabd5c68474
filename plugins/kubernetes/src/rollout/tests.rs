use std::time::Duration;

use gantry_sdk::Error;
use serde_json::{Value, json};

use super::{Deadlines, Observation, Outcome, Rollout, go_duration};

const DEADLINES: Deadlines =
    Deadlines { full: Duration::from_secs(600), healthcheck: Duration::from_secs(120) };

/// A Deployment of two units with this status.
fn deployment(replicas: i64, updated: i64, unavailable: i64) -> Value {
    json!({
        "metadata": {"name": "myapp-web", "generation": 2, "annotations": {
            "deployment.kubernetes.io/revision": "2",
        }},
        "spec": {"replicas": 2},
        "status": {
            "observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated,
            "unavailableReplicas": unavailable,
        },
    })
}

fn replica_set(revision: &str, uid: &str) -> Value {
    let annotations = json!({"deployment.kubernetes.io/revision": revision});
    json!({"metadata": {"name": format!("rs-{uid}"), "uid": uid, "annotations": annotations}})
}

fn pod(name: &str, phase: &str, owner: &str) -> Value {
    json!({
        "metadata": {"name": name, "ownerReferences": [{"uid": owner}]},
        "status": {"phase": phase},
    })
}

fn ready(mut pod: Value) -> Value {
    pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    pod
}

fn event(name: &str, pod: &str, message: &str, version: &str) -> Value {
    json!({
        "metadata": {"name": name, "resourceVersion": version},
        "involvedObject": {"kind": "Pod", "name": pod},
        "message": message,
        "source": {"component": "kubelet", "host": "n1"},
    })
}

struct Scene {
    rollout: Rollout,
    replica_sets: Vec<Value>,
    pods: Vec<Value>,
    events: Vec<Value>,
}

impl Scene {
    fn new() -> Self {
        Self {
            rollout: Rollout::new("myapp-web", DEADLINES, &[]),
            replica_sets: Vec::new(),
            pods: Vec::new(),
            events: Vec::new(),
        }
    }

    fn at(&mut self, seconds: u64, deployment: &Value) -> (String, Outcome) {
        let (lines, outcome) = self.rollout.observe(&Observation {
            deployment,
            replica_sets: &self.replica_sets,
            pods: &self.pods,
            events: &self.events,
            elapsed: Duration::from_secs(seconds),
        });
        (lines.concat(), outcome)
    }
}

fn startup(message: &str) -> Outcome {
    Outcome::Failed(Error::UnitStartup(message.to_owned()))
}

#[test]
fn numbers_are_told_when_they_change() {
    let mut scene = Scene::new();
    assert_eq!(Rollout::headline("web"), "\n---- Updating units [web] ----\n");
    let (lines, outcome) = scene.at(0, &deployment(2, 0, 0));
    let expected = " ---> 0 of 2 new units created\n ---> 0 of 2 new units ready\n \
                    ---> 2 old units pending termination\n";
    assert_eq!((lines.as_str(), outcome), (expected, Outcome::Waiting));
    assert_eq!(scene.at(1, &deployment(2, 0, 0)), (String::new(), Outcome::Waiting));
    // More units are missing than are new.
    let (lines, _) = scene.at(2, &deployment(3, 1, 2));
    assert_eq!(lines, " ---> 1 of 2 new units created\n");
    let (lines, _) = scene.at(3, &deployment(3, 2, 0));
    let expected = " ---> 2 of 2 new units created\n ---> 2 of 2 new units ready\n \
                    ---> 1 old units pending termination\n";
    assert_eq!(lines, expected);
    let done = (" ---> Done updating units\n".to_owned(), Outcome::Done);
    assert_eq!(scene.at(4, &deployment(2, 2, 0)), done);
}

#[test]
fn no_unit_is_wanted_and_none_is_there() {
    let mut none = deployment(0, 0, 0);
    none["spec"]["replicas"] = json!(0);
    let (lines, outcome) = Scene::new().at(0, &none);
    let expected = " ---> 0 of 0 new units created\n ---> 0 of 0 new units ready\n \
                    ---> Done updating units\n";
    assert_eq!((lines.as_str(), outcome), (expected, Outcome::Done));
}

#[test]
fn a_change_the_cluster_has_not_seen_tells_nothing() {
    let mut scene = Scene::new();
    let mut old = deployment(2, 2, 0);
    old["status"]["observedGeneration"] = json!(1);
    assert_eq!(scene.at(599, &old), (String::new(), Outcome::Waiting));
    let failed = startup("timeout waiting for deployment generation to update");
    assert_eq!(scene.at(600, &old), (String::new(), failed));
}

#[test]
fn the_cluster_may_give_up_first() {
    let mut stuck = deployment(2, 1, 1);
    stuck["status"]["conditions"] = json!([
        {"type": "Available", "reason": "ProgressDeadlineExceeded"},
        {"type": "Progressing", "reason": "ReplicaSetUpdated"},
    ]);
    assert_eq!(Scene::new().at(0, &stuck).1, Outcome::Waiting);
    stuck["status"]["conditions"][1]["reason"] = json!("ProgressDeadlineExceeded");
    let failed = startup("deployment \"myapp-web\" exceeded its progress deadline");
    assert_eq!(Scene::new().at(0, &stuck), (String::new(), failed));
}

#[test]
fn what_the_cluster_gave_up_before_is_no_end_of_this_change() {
    let given_up = |at: &str| {
        let mut stuck = deployment(2, 1, 1);
        stuck["status"]["conditions"] = json!([
            {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "lastUpdateTime": at},
        ]);
        stuck
    };
    let mut scene = Scene::new();
    scene.rollout = scene.rollout.after(&given_up("12:00"));
    assert_eq!(scene.at(0, &given_up("12:00")).1, Outcome::Waiting);
    assert_eq!(scene.at(1, &deployment(2, 1, 1)).1, Outcome::Waiting);
    let failed = startup("deployment \"myapp-web\" exceeded its progress deadline");
    assert_eq!(scene.at(2, &given_up("12:10")).1, failed);
}

#[test]
fn health_is_waited_for_from_when_all_new_units_run() {
    let mut scene = Scene::new();
    scene.replica_sets = vec![replica_set("1", "old"), replica_set("2", "new")];
    scene.pods =
        vec![pod("p0", "Failed", "old"), pod("p1", "Running", "new"), pod("p2", "Pending", "new")];
    let starting = deployment(2, 2, 2);
    scene.at(0, &starting);
    assert_eq!(scene.at(200, &starting), (String::new(), Outcome::Waiting));

    scene.pods[2] = pod("p2", "Running", "new");
    let (lines, _) = scene.at(300, &starting);
    assert_eq!(lines, " ---> waiting healthcheck on 2 created units\n");
    assert_eq!(scene.at(419, &starting), (String::new(), Outcome::Waiting));
    scene.pods = vec![ready(pod("p1", "Running", "new")), pod("p2", "Running", "new")];
    scene.events = vec![event("e1", "p2", "Readiness probe failed", "7")];
    let why = "Pod p2: invalid pod phase \"Running\" - last event: Readiness probe failed";
    let line = format!(" ---> Pod not ready in time: {why}\n");
    let message = format!("timeout waiting healthcheck after 7m0s waiting for units: {why}");
    assert_eq!(scene.at(420, &starting), (line, startup(&message)));
}

#[test]
fn without_its_replica_set_a_rollout_has_one_deadline() {
    let mut scene = Scene::new();
    let mut unnamed = deployment(2, 2, 2);
    unnamed["metadata"]["annotations"] = json!({});
    scene.pods = vec![pod("p1", "Running", "new"), pod("p2", "Running", "new")];
    scene.replica_sets = vec![replica_set("1", "new")];
    assert!(!scene.at(0, &unnamed).0.contains("healthcheck"));
    assert_eq!(scene.at(599, &unnamed).1, Outcome::Waiting);
    let (_, outcome) = scene.at(600, &unnamed);
    let pods = "Pod p1: invalid pod phase \"Running\", Pod p2: invalid pod phase \"Running\"";
    let message = format!("timeout waiting full rollout after 10m0s waiting for units: {pods}");
    assert_eq!(outcome, startup(&message));

    // The generation stands in for a revision that is not told.
    scene.replica_sets = vec![replica_set("2", "new")];
    scene.rollout = Rollout::new("myapp-web", DEADLINES, &[]);
    assert!(scene.at(0, &unnamed).0.contains(" ---> waiting healthcheck on 2 created units\n"));
}

#[test]
fn of_two_deadlines_the_first_is_told() {
    let mut scene = Scene::new();
    scene.replica_sets = vec![replica_set("2", "new")];
    scene.pods = vec![ready(pod("p1", "Running", "new")), ready(pod("p2", "Running", "new"))];
    let starting = deployment(3, 2, 1);
    scene.at(500, &starting);
    let message = "timeout waiting full rollout after 8m20s waiting for units";
    assert_eq!(scene.at(1000, &starting).1, startup(message));
    scene.rollout = Rollout::new("myapp-web", DEADLINES, &[]);
    scene.at(0, &starting);
    let message = "timeout waiting healthcheck after 16m40s waiting for units";
    assert_eq!(scene.at(1000, &starting).1, startup(message));
}

#[test]
fn units_that_are_there_at_the_deadline_are_there() {
    assert_eq!(Scene::new().at(900, &deployment(2, 2, 0)).1, Outcome::Done);
}

#[test]
fn events_of_the_pods_are_told_once() {
    let mut scene = Scene::new();
    let before = event("myapp-web-1.a", "myapp-web-1", "old news", "1");
    scene.rollout = Rollout::new("myapp-web", DEADLINES, std::slice::from_ref(&before));
    let mut of_set = event("myapp-web-1.b", "myapp-web-1", "not of a pod", "2");
    of_set["involvedObject"]["kind"] = json!("ReplicaSet");
    let mut newer = event("myapp-web-1.c", "myapp-web-1", "Pulled", "3");
    newer["source"] = json!({});
    newer["reportingComponent"] = json!("scheduler");
    scene.events = vec![before, of_set, newer, event("other-1.d", "other-1", "not ours", "4")];
    let starting = deployment(2, 2, 2);
    let (lines, _) = scene.at(0, &starting);
    assert!(lines.ends_with("ready\n  ---> myapp-web-1 - Pulled [scheduler]\n"), "{lines}");
    assert_eq!(scene.at(1, &starting).0, "");
    scene.events.push(event("myapp-web-1.c", "myapp-web-1", "Pulled", "9"));
    assert_eq!(scene.at(2, &starting).0, "  ---> myapp-web-1 - Pulled [kubelet, n1]\n");
}

#[test]
fn a_pod_tells_its_own_message_and_the_last_event() {
    let mut waiting = pod("p1", "Pending", "new");
    waiting["status"]["message"] = json!("no \"room\"");
    let mut late = event("e1", "p1", "late", "1");
    late["lastTimestamp"] = json!("2018-04-26T17:00:02Z");
    let mut early = event("e2", "p1", "early", "2");
    early["lastTimestamp"] = json!("2018-04-26T17:00:01Z");
    assert_eq!(
        super::invalid_phase(&waiting, &[late, early, event("e3", "p2", "other", "3")]),
        r#"invalid pod phase "Pending"("no \"room\"") - last event: late"#
    );
}

#[test]
fn a_pod_whose_container_ended_tells_how() {
    let told = |statuses: Value| {
        let mut pod = pod("p1", "Running", "new");
        pod["status"]["containerStatuses"] = statuses;
        super::invalid_phase(&pod, &[])
    };
    let terminated = json!({"terminated": {"exitCode": 3}});
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let expected = r#"invalid pod phase "Running" - it ended with exit code 3"#;
    assert_eq!(told(json!([{"state": terminated, "lastState": {}}])), expected);
    assert_eq!(told(json!([{"state": waiting, "lastState": terminated}])), expected);
    assert_eq!(told(json!([{"state": {"running": {}}}])), r#"invalid pod phase "Running""#);
}

#[test]
fn failures_are_told_between_arrows() {
    let error = Error::UnitStartup("boom".to_owned());
    let text = "\n**** ROLLING BACK AFTER FAILURE ****\n ---> boom <---\n";
    assert_eq!(super::rolling_back(&error), text);
    let text = "\n**** ERROR DURING ROLLBACK ****\n ---> boom <---\n";
    assert_eq!(super::rollback_failed(&error), text);
}

#[test]
fn times_are_shown_as_go_shows_them() {
    for (nanos, shown) in [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (999_999_999, "999.999999ms"),
        (1_000_000_000, "1s"),
        (3_300_000_000, "3.3s"),
        (60_000_000_000, "1m0s"),
        (245_001_000_000, "4m5.001s"),
        (3_600_000_000_000, "1h0m0s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (480_000_000_001, "8m0.000000001s"),
    ] {
        assert_eq!(go_duration(Duration::from_nanos(nanos)), shown);
    }
}
