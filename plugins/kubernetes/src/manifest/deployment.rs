//! The Deployment of a process (spec 7.3).

use std::time::Duration;

use gantry_sdk::commands::{UnitAgent, unit_command};
use gantry_sdk::{Error, Result};
use serde_json::{Value, json};

use super::{Workload, env, literal, metadata, node_selector, pull_secrets};
use crate::name;
use crate::object::{unless_empty, without_nulls};
use crate::probe::probe;
use crate::quantity::Quantity;

/// The Deployment of a process.
///
/// # Errors
///
/// A process the image does not declare, a health check the cluster cannot do, an overcommit factor that is none.
pub fn deployment(workload: &Workload<'_>) -> Result<Value> {
    let Workload { app, process, cluster, defaults, volumes, .. } = *workload;
    let name = name::deployment(&app.name, process);
    let (labels, annotations) = workload.labels_and_annotations();
    let spec = without_nulls(json!({
        "containers": [container(workload, &name)?],
        "imagePullSecrets": pull_secrets(workload.image, &defaults.registry),
        "nodeSelector": node_selector(&app.pool),
        "restartPolicy": "Always",
        "securityContext": {"runAsUser": defaults.user},
        "serviceAccountName": name::app_account(&app.name),
        "subdomain": name::headless_service(&app.name, process),
        "volumes": unless_empty(volumes.volumes.clone()),
    }));
    let template = metadata("", "", labels.clone(), annotations.clone());
    Ok(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(&name, cluster.namespace(), labels, annotations),
        "spec": {
            "replicas": workload.replicas,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": workload.labels.to_selector()},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0},
            },
            "template": {"metadata": template, "spec": spec},
        },
    }))
}

/// Lets units of the same image serve on when their number changes. The template says the number too, and another template replaces every unit: what it says stays until another image
/// replaces them.
///
/// Differs from the reference on purpose, which replaces all units when one comes or goes.
pub fn keep_units(wanted: &mut Value, before: &Value) {
    const IMAGE: &str = "/spec/template/spec/containers/0/image";
    const UNITS: &str = "/spec/template/metadata/labels/tsuru.io~1app-process-replicas";
    if wanted.pointer(IMAGE) == before.pointer(IMAGE)
        && let (Some(wanted), Some(units)) = (wanted.pointer_mut(UNITS), before.pointer(UNITS))
    {
        *wanted = units.clone();
    }
}

/// Lets the cluster wait for units as long as the operator does. It gives up by itself after ten minutes without progress.
pub fn wait_for(wanted: &mut Value, time: Duration) {
    const CLUSTERS_OWN: Duration = Duration::from_secs(600);
    if time > CLUSTERS_OWN
        && let Some(spec) = wanted.pointer_mut("/spec").and_then(Value::as_object_mut)
    {
        spec.insert("progressDeadlineSeconds".to_owned(), time.as_secs().into());
    }
}

fn container(workload: &Workload<'_>, name: &str) -> Result<Value> {
    let Workload { app, process, metadata, agent, .. } = *workload;
    let command = match metadata.processes.get(process).map(Vec::as_slice) {
        // The image's own command, which nobody outside the image knows.
        Some([]) => None,
        Some(_) | None => {
            let register = [register_command(agent)];
            let command = unit_command(metadata, process, &register, agent)?.command;
            Some(command.iter().map(|word| literal(word, workload.envs)).collect::<Vec<_>>())
        }
    };
    let port = workload.port();
    let probe = if process == metadata.web_process_name() {
        probe(&metadata.healthcheck, port)?
    } else {
        None
    };
    let overcommit = workload.cluster.overcommit_factor(&app.pool)?;
    Ok(without_nulls(json!({
        "name": name,
        "image": workload.image,
        "command": command,
        "env": env(workload.envs),
        "ports": [{"containerPort": port}],
        "readinessProbe": probe,
        "livenessProbe": probe,
        "resources": resources(app.memory, overcommit)?,
        "volumeMounts": unless_empty(workload.volumes.mounts.clone()),
    })))
}

/// Tells the platform that the unit is there. A platform that does not answer stops no unit.
fn register_command(agent: &UnitAgent) -> String {
    let UnitAgent { host, token, app, .. } = agent;
    let scheme = if host.starts_with("http") { "" } else { "http://" };
    let mut platform = format!("{scheme}{host}");
    if !platform.ends_with('/') {
        platform.push('/');
    }
    format!(
        "curl -sSL -m15 -XPOST -d\"hostname=$(hostname)\" -o/dev/null \
         -H\"Content-Type:application/x-www-form-urlencoded\" \
         -H\"Authorization:bearer {token}\" {platform}apps/{app}/units/register || true"
    )
}

/// What a unit may use, and what is kept free for it. No word about memory is no limit.
fn resources(memory: i64, overcommit: i64) -> Result<Value> {
    if memory == 0 {
        return Ok(json!({}));
    }
    let request = memory.checked_div(overcommit).ok_or_else(|| {
        Error::InvalidArgument(format!("cannot divide {memory} bytes of memory by {overcommit}"))
    })?;
    Ok(json!({
        "limits": {"memory": Quantity::bytes(memory).to_string()},
        "requests": {"memory": Quantity::bytes(request).to_string()},
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::given;
    use super::*;

    fn agent(host: &str) -> UnitAgent {
        let [host, token, app] = [host, "tk", "myapp"].map(str::to_owned);
        UnitAgent { host, token, app, run_command: String::new(), deploy_command: String::new() }
    }

    #[test]
    fn units_of_the_same_image_serve_on_when_their_number_changes() {
        let mut given = given(json!({}));
        given.metadata.processes.insert("web".to_owned(), vec!["run".to_owned()]);
        let set = |units: &str| {
            let labels = [("tsuru.io/app-process-replicas".to_owned(), units.to_owned())];
            gantry_sdk::LabelSet::new(labels.into(), crate::PREFIX)
        };
        let make = |image, units: &str| {
            let labels = set(units);
            let workload = Workload { image, labels: &labels, ..given.workload("web") };
            deployment(&workload).unwrap()
        };
        let before = make("one", "2");
        let mut more = make("one", "3");
        keep_units(&mut more, &before);
        assert_eq!(more["spec"]["template"], before["spec"]["template"]);
        assert_eq!(more["metadata"]["labels"]["tsuru.io/app-process-replicas"], "3");
        wait_for(&mut more, Duration::from_secs(600));
        assert_eq!(more["spec"].get("progressDeadlineSeconds"), None, "as it is anyway");
        wait_for(&mut more, Duration::from_secs(900));
        assert_eq!(more["spec"]["progressDeadlineSeconds"], 900);
        let other = make("two", "3");
        let mut kept = other.clone();
        keep_units(&mut kept, &before);
        assert_eq!(kept, other);
    }

    #[test]
    fn the_platform_is_reached_under_any_spelling() {
        for (host, url) in [
            ("", "http://apps/myapp/units/register"),
            ("h", "http://h/apps/myapp/units/register"),
            ("h:80/", "http://h:80/apps/myapp/units/register"),
            ("https://h/x", "https://h/x/apps/myapp/units/register"),
            ("http://h/", "http://h/apps/myapp/units/register"),
        ] {
            let command = register_command(&agent(host));
            assert!(command.ends_with(&format!("bearer tk\" {url} || true")), "{command}");
        }
    }

    #[test]
    fn memory_is_requested_in_part_and_limited_in_full() {
        assert_eq!(resources(0, 3), Ok(json!({})));
        let expected = json!({"limits": {"memory": "1000Mi"}, "requests": {"memory": "349525333"}});
        assert_eq!(resources(1000 << 20, 3), Ok(expected));
        assert!(resources(1, 0).is_err());
    }
    #[test]
    fn only_the_web_process_is_probed_and_in_both_ways() {
        let mut given = given(json!({}));
        for process in ["web", "worker"] {
            given.metadata.processes.insert(process.to_owned(), vec!["run".to_owned()]);
        }
        "3000/tcp".clone_into(&mut given.metadata.exposed_port);
        "/up".clone_into(&mut given.metadata.healthcheck.path);
        let made = |process| deployment(&given.workload(process)).unwrap();
        let (web, worker) = (made("web"), made("worker"));
        let container = &web["spec"]["template"]["spec"]["containers"][0];
        let probe = json!({"httpGet": {"path": "/up", "port": 3000, "scheme": "HTTP"}});
        assert_eq!((&container["readinessProbe"], &container["livenessProbe"]), (&probe, &probe));
        assert_eq!(container["ports"], json!([{"containerPort": 3000}]));
        assert_eq!(container["volumeMounts"], json!([{"name": "v1-tsuru", "mountPath": "/mnt"}]));
        let container = &worker["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container.get("readinessProbe"), None);

        given.metadata.healthcheck.method = "PUT".to_owned();
        assert!(deployment(&given.workload("web")).is_err());
        assert!(deployment(&given.workload("worker")).is_ok());
        let error = deployment(&given.workload("other")).unwrap_err().to_string();
        let text = r#"process error: no command declared in Procfile for process "other""#;
        assert_eq!(error, text);
    }
}
