//! The README tells the truth: its commands are run, in order, in one shell, and what it shows of their output is compared.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use gantry_tests::artifacts;
use gantry_tests::daemon::docker;

/// A command of the README with the output shown below it.
struct Shown {
    command: String,
    output: Vec<String>,
}

/// The commands of all `console` blocks.
fn commands(text: &str) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside {
            match line.strip_prefix("$ ") {
                Some(command) => {
                    shown.push(Shown { command: command.to_owned(), output: Vec::new() })
                }
                None => {
                    if let Some(last) = shown.last_mut() {
                        last.output.push(line.to_owned());
                    }
                }
            }
        }
    }
    shown
}

#[test]
fn every_command_of_the_readme_does_what_it_says() -> Result<()> {
    // Built before, so that the shell's cargo finds nothing to do.
    let gantry = artifacts::gantry()?;
    artifacts::docker_plugin()?;
    artifacts::kubernetes_plugin()?;
    let target = gantry.ancestors().nth(2).context("the binary lies in the target directory")?;
    let home = tempfile::Builder::new().prefix("gantry-readme-").tempdir()?;

    let shown = commands(&std::fs::read_to_string(artifacts::top().join("README.md"))?);
    ensure!(shown.len() > 15, "the README has only {} commands", shown.len());
    let _guard = Leftovers;
    let mut script = String::from(
        "set -euo pipefail\nset -m\nstop_cluster() { :; }\ntrap 'jobs -p | xargs -r kill; stop_cluster' EXIT\n",
    );
    for (number, one) in shown.iter().enumerate() {
        script.push_str(&format!("echo '@@{number}'\n{}\n", one.command));
    }
    let mut bash = Command::new("bash");
    let output = artifacts::without_cargos_words(&mut bash)
        .arg("-c")
        .arg(&script)
        .current_dir(artifacts::top())
        .env("HOME", home.path())
        .env("CARGO_HOME", std::env::var("CARGO_HOME").unwrap_or_else(|_| default_home(".cargo")))
        .env(
            "RUSTUP_HOME",
            std::env::var("RUSTUP_HOME").unwrap_or_else(|_| default_home(".rustup")),
        )
        .env("CARGO_TARGET_DIR", target)
        // Where the test cluster's binary is kept. The cluster is the README's own.
        .env(
            "XDG_CACHE_HOME",
            std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| default_home(".cache")),
        )
        .env_remove("KUBECONFIG")
        .env_remove("CLUSTER_DIR")
        .env_remove("GANTRY_HOST")
        .output()?;
    let stdout = String::from_utf8(output.stdout)?;
    let log = std::fs::read_to_string(home.path().join("log")).unwrap_or_default();
    ensure!(
        output.status.success(),
        "the README's commands ended with {}\n{stdout}\n{}\nthe daemon's log: {log}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    for (number, one) in shown.iter().enumerate() {
        let after =
            stdout.split(&format!("@@{number}\n")).nth(1).context("each command was reached")?;
        let printed = after.split("@@").next().unwrap_or_default().trim_end();
        let expected = one.output.join("\n");
        ensure!(
            expected.trim_end().is_empty() || printed == expected.trim_end(),
            "`{}` printed\n{printed}\nand not\n{expected}",
            one.command
        );
    }
    for what in [
        ["ps", "-aq", "--filter", "label=app-name=shop"],
        ["images", "-q", "--filter", "reference=shop"],
    ] {
        let left = docker(&what)?;
        ensure!(left.trim().is_empty(), "the README leaves something on the engine: {left}");
    }
    println!("README: {} commands", shown.len());
    Ok(())
}

#[test]
fn an_app_lives_on_kubernetes_as_on_docker_with_one_word_changed() -> Result<()> {
    let shown = commands(&std::fs::read_to_string(artifacts::top().join("README.md"))?);
    let life = |pool: &str| -> Result<Vec<String>> {
        let created = format!("gantry app create shop --pool {pool}");
        let mut commands = shown.iter().map(|one| &one.command).skip_while(|one| **one != created);
        let mut life: Vec<String> =
            commands.by_ref().take_while(|one| !one.contains("app remove")).cloned().collect();
        ensure!(life.len() > 8, "the README tells no life of an app in the pool {pool}: {life:?}");
        life[0] = life[0].replace(pool, "POOL");
        Ok(life)
    };
    assert_eq!(life("default")?, life("kube")?);
    Ok(())
}

/// Removes what a README that failed half-way left on the Docker engine.
struct Leftovers;

impl Drop for Leftovers {
    fn drop(&mut self) {
        let ids = docker(&[
            "ps",
            "-aq",
            "--filter",
            "label=gantry.instance",
            "--filter",
            "label=app-name=shop",
        ]);
        for id in ids.unwrap_or_default().split_whitespace() {
            // Best effort: the test has its verdict.
            let _ = docker(&["rm", "-f", "-v", id]);
        }
        for image in ["shop:v1", "shop:v2"] {
            // The README removed it, when all went well.
            let _ = docker(&["rmi", image]);
        }
    }
}

/// Where a tool keeps its things when nobody says otherwise.
fn default_home(name: &str) -> String {
    format!("{}/{name}", std::env::var("HOME").unwrap_or_default())
}
