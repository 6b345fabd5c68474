//! What the operator and an app's plan say of containers, as the Docker hosts have it.

use anyhow::{Context, Result, ensure};
use gantry_tests::hosts::Host;
use serde_json::{Value, json};

use super::stage::Three;

/// The name of the folder of the app `web`: of the salt and its name, by SHA-1.
const FOLDER: &str = "006e87a48fddd2979d891c99046aca315608c1d7";

fn config(shared: &str) -> String {
    format!(
        r#"
[healing]
every = "0s"
[provisioners.docker]
grants = ["containers:binds:{shared}/*", "containers:security-options"]
[provisioners.docker.config.docker]
security-opts = ["no-new-privileges"]
log-driver = "local"
log-options = {{ max-size = "5m", max-file = "2" }}
sharedfs = {{ hostdir = "{shared}", mountpoint = "/shared", app-isolation = true, salt = "s" }}
"#
    )
}

/// The only unit of `web` on a host, as Docker's inspect shows it.
fn inspect(three: &Three, host: &Host) -> Result<Value> {
    three.inspect(host, &one(three, host)?)
}

fn one(three: &Three, host: &Host) -> Result<String> {
    let ids = three.ids(host, "label=app-name=web")?;
    ensure!(ids.len() == 1, "one on each host: {ids:?}");
    ids.into_iter().next().context("it is there")
}

/// Runs a line in the unit on a host.
fn run(three: &Three, host: &Host, line: &str) -> Result<String> {
    let id = one(three, host)?;
    let said = three.hosts.docker(host, &["exec", &id, "/bin/busybox", "sh", "-c", line])?;
    Ok(said.trim_end().to_owned())
}

#[test]
fn limits_logs_security_and_the_shared_folder_are_what_each_host_runs_units_with() -> Result<()> {
    const MIB: i64 = 1 << 20;
    let shared = tempfile::Builder::new().prefix("gantry-shared-").tempdir()?;
    let folder = shared.path().to_str().context("a path of letters")?;
    let three = Three::with("limits", &config(folder))?;
    let (hosts, daemon) = (&three.hosts.hosts, &three.daemon);
    let small = ["--memory", "64MiB", "--swap", "32MiB", "--cpu-share", "512"];
    daemon.cli(&[&["plan", "create", "small"], &small[..]].concat())?.success()?;
    daemon.cli(&["app", "create", "web", "--pool", "three", "--plan", "small"])?.success()?;
    daemon.cli(&["app", "deploy", "web", "--image", &three.image])?.success()?;
    daemon.cli(&["unit", "set", "web", "3"])?.success()?;

    let is_limited = |memory: i64, swap: i64, share: i64| -> Result<()> {
        for host in hosts {
            let config = &inspect(&three, host)?["HostConfig"];
            let found = [&config["Memory"], &config["MemorySwap"], &config["CpuShares"]];
            let expected = [json!(memory * MIB), json!((memory + swap) * MIB), json!(share)];
            ensure!(found == expected.each_ref(), "{}: {config}", host.name);
            // What the kernel holds the unit to, of either version of its cgroups.
            let held = run(
                &three,
                host,
                "cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes",
            )?;
            ensure!(held == (memory * MIB).to_string(), "{}: {held}", host.name);
        }
        Ok(())
    };
    is_limited(64, 32, 512)?;
    for host in hosts {
        let container = inspect(&three, host)?;
        let config = &container["HostConfig"];
        ensure!(config["SecurityOpt"] == json!(["no-new-privileges"]), "{config}");
        let options = json!({"max-size": "5m", "max-file": "2"});
        ensure!(config["LogConfig"] == json!({"Type": "local", "Config": options}), "{config}");
        ensure!(config["Binds"] == json!([format!("{folder}/{FOLDER}:/shared:rw")]), "{config}");
        let privileges = run(&three, host, "cat /proc/1/status | /bin/busybox grep NoNewPrivs")?;
        ensure!(privileges == "NoNewPrivs:\t1", "{privileges}");
        ensure!(run(&three, host, "echo $TSURU_SHAREDFS_MOUNTPOINT")? == "/shared");
        run(&three, host, "hostname >/shared/$(hostname)")?;
    }
    // Every unit sees what the others wrote, and so does the folder's machine.
    for host in hosts {
        let seen = run(&three, host, "ls /shared | /bin/busybox wc -l")?;
        ensure!(seen.trim() == "3", "{seen}");
    }
    ensure!(std::fs::read_dir(shared.path().join(FOLDER))?.count() == 3);
    ensure!(daemon.cli(&["app", "log", "web"])?.success()?.contains("serving on 8888"));

    let more = ["--memory", "96MiB", "--swap", "0", "--cpu-share", "256"];
    daemon.cli(&[&["app", "update", "web"], &more[..]].concat())?.success()?;
    is_limited(96, 0, 256)
}

#[test]
fn what_the_operator_did_not_grant_is_refused_by_name_and_nothing_is_made() -> Result<()> {
    let three = Three::with("ungranted", &config("/srv/gantry-shared").replace("grants", "#"))?;
    let daemon = &three.daemon;
    daemon.cli(&["app", "create", "web", "--pool", "three"])?.success()?;
    let refused = daemon.cli(&["app", "deploy", "web", "--image", &three.image])?.failure(3)?;
    let named = ["containers:binds:", "containers:security-options"];
    ensure!(named.iter().any(|grant| refused.contains(grant)), "{refused}");
    three.nothing_else(&["web"])
}
