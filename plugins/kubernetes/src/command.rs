//! Commands in units: which pods they run in, and how they are told (spec 7.8).

use gantry_sdk::{Error, Result, quote};
use serde_json::Value;

use crate::PREFIX;
use crate::name;
use crate::object::{is_leaving, label_set, name as name_of, text, texts};

/// A shell of the image's own: bash where it is, and else sh (design 10.15). The shell tells itself what the terminal is: not every image has an `env`.
const OWN_SHELL: &str =
    "export TERM=\"$0\"; command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l";

/// A command for a unit; the arguments are the positional parameters of its line, from `$0` on.
pub fn in_unit(line: &str, args: &[String]) -> Vec<String> {
    let start = ["/bin/sh", "-lc", line].map(str::to_owned);
    start.into_iter().chain(args.iter().cloned()).collect()
}

/// A shell for somebody at a terminal of this kind.
pub fn shell(terminal: &str) -> Vec<String> {
    ["/bin/sh", "-c", OWN_SHELL, terminal].map(str::to_owned).into()
}

/// The units of an app that commands run in, in their order.
///
/// Differs from the reference on purpose (design 10.4): only those that run, and neither builds nor the commands of others.
///
/// # Errors
///
/// There is none.
pub fn runnable<'a>(pods: &'a [Value], app: &str) -> Result<Vec<&'a Value>> {
    let runs = |pod: &&Value| {
        let labels = texts(pod, "/metadata/labels");
        let is = |key: &str| labels.get(&format!("{PREFIX}{key}")).is_some_and(|is| is == "true");
        label_set(pod).app_name() == app
            && text(pod, "/status/phase") == "Running"
            && !is_leaving(pod)
            && !is("is-build")
            && !is("is-isolated-run")
    };
    let pods: Vec<&Value> = pods.iter().filter(runs).collect();
    if pods.is_empty() { Err(Error::EmptyApp) } else { Ok(pods) }
}

/// The container of a unit that commands run in.
///
/// # Errors
///
/// The unit is another app's.
pub fn container(pod: &Value, app: &str) -> Result<String> {
    let labels = label_set(pod);
    if labels.app_name() != app {
        let (pod, owner) = (quote(name_of(pod)), quote(labels.app_name()));
        let text = format!("pod {pod} do not belong to app {owner}");
        return Err(Error::InvalidArgument(text));
    }
    Ok(name::deployment(app, labels.app_process()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, flags: &[&str]) -> Value {
        let mut labels = json!({"tsuru.io/app-name": "a", "tsuru.io/app-process": "Web_1"});
        for flag in flags {
            labels[format!("tsuru.io/{flag}")] = json!("true");
        }
        json!({"metadata": {"name": name, "labels": labels}, "status": {"phase": phase}})
    }

    #[test]
    fn a_command_runs_in_units_that_run() {
        let mut leaving = pod("p5", "Running", &[]);
        leaving["metadata"]["deletionTimestamp"] = json!("2018-04-26T17:00:00Z");
        let pods = [
            pod("p0", "Pending", &[]),
            pod("p1", "Running", &["is-build"]),
            pod("p2", "Running", &["is-isolated-run"]),
            pod("p3", "Running", &["is-service"]),
            pod("p4", "Failed", &[]),
            leaving,
            pod("p6", "Running", &[]),
        ];
        let chosen: Vec<&str> = runnable(&pods, "a").unwrap().into_iter().map(name_of).collect();
        assert_eq!(chosen, ["p3", "p6"]);
        assert_eq!(runnable(&pods, "b"), Err(Error::EmptyApp));
        assert_eq!(runnable(&pods[..3], "a"), Err(Error::EmptyApp));
    }

    #[test]
    fn a_unit_is_one_of_the_app() {
        let unit = pod("p", "Running", &[]);
        assert_eq!(container(&unit, "a").as_deref(), Ok("a-web-1"));
        let error = container(&unit, "b").unwrap_err().to_string();
        assert_eq!(error, r#"pod "p" do not belong to app "a""#);
    }

    #[test]
    fn a_command_keeps_its_arguments() {
        let args = ["a b".to_owned()];
        assert_eq!(in_unit("ls $0", &args), ["/bin/sh", "-lc", "ls $0", "a b"]);
        assert_eq!(shell("xterm")[3], "xterm");
    }
}
