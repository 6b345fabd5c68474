//! One list of promises of the contract of provisioners, kept by the compiled plugins of both backends: Docker hosts and a cluster, in memory. Where a backend differs, the list says so and why,
//! and that it differs so is found out too.

mod commands;
mod deploys;
mod docker;
mod ends;
mod kubernetes;
mod machines;
mod promise;
mod promises;
mod rest;
mod stage;
mod units;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, stream};
use gantry_runtime::Interface;

use self::promise::{Expected, Plugin, Promise};
use self::promises::PROMISES;

/// How many promises are looked at side by side: units that do not answer are waited for.
const SIDE_BY_SIDE: usize = 6;

/// The table of what the backends do, and why where they differ.
fn table(promises: &[Promise]) -> Result<String> {
    let width = promises.iter().map(|promise| promise.says.len()).max().unwrap_or_default();
    let [docker, kubernetes] = Plugin::BOTH;
    let (mut table, mut whys) = (String::new(), String::new());
    writeln!(table, "{:width$} | {docker:12} | {kubernetes}", "promise")?;
    for promise in promises {
        let [one, other] = Plugin::BOTH.map(|plugin| promise.expected(plugin));
        writeln!(table, "{:width$} | {:12} | {}", promise.says, one.word(), other.word())?;
        for plugin in Plugin::BOTH {
            if let Some(why) = promise.expected(plugin).why() {
                writeln!(whys, "{plugin}: {}\n    {why}", promise.says)?;
            }
        }
    }
    let count = |plugin: Plugin| {
        let kept = promises.iter().filter(|of| of.expected(plugin).why().is_none());
        kept.count()
    };
    let (all, one, other) = (promises.len(), count(docker), count(kubernetes));
    Ok(format!("{table}\n{whys}\n{all} promises: {docker} keeps {one}, {kubernetes} {other}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_backends_keep_every_promise_or_differ_as_it_is_written_down() -> Result<()> {
    let says: BTreeSet<&str> = PROMISES.iter().map(|promise| promise.says).collect();
    ensure!(says.len() == PROMISES.len(), "two promises say the same");
    let all = PROMISES.iter().flat_map(|promise| Plugin::BOTH.map(|plugin| (promise, plugin)));
    let faults: Vec<String> = stream::iter(all)
        .map(async |(promise, plugin)| {
            let fault = promise.examine(plugin).await.err();
            fault.map(|fault| format!("{plugin}: {}:\n    {fault:#}", promise.says))
        })
        .buffered(SIDE_BY_SIDE)
        .filter_map(async |fault| fault)
        .collect()
        .await;
    ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    println!("{}", table(PROMISES)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_that_a_backend_lacks_is_in_the_list() -> Result<()> {
    // Each builds in its own way, and one promise is about both.
    let builders = [Interface::DockerBuilder, Interface::ClusterBuilder];
    let any = PROMISES.first().context("there are promises")?;
    for plugin in Plugin::BOTH {
        let provisioner = plugin.stage(any).await?.provisioner;
        let exported = builders.map(|builder| provisioner.supports(builder));
        ensure!(exported.contains(&true), "{plugin} builds nothing");
        let lacks = |of: Interface| {
            let all = PROMISES.iter().map(|promise| promise.expected(plugin));
            all.into_iter().any(|is| matches!(is, Expected::Lacks(one, _) if one == of))
        };
        let others = Interface::ALL.iter().copied().filter(|of| !builders.contains(of));
        for interface in others {
            let supports = provisioner.supports(interface);
            ensure!(
                supports != lacks(interface),
                "{plugin}: `{interface}` is exported: {supports}"
            );
        }
    }
    Ok(())
}
