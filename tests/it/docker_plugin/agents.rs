//! The agents of machines: what they checked is written down and asked before a machine is given up, and where they pass the lines of units on is told.

use anyhow::{Context, Result, ensure};
use gantry_core::node::{AddNodeOptions, NodeCheckResult, NodeStatusData};
use gantry_engine::State;
use serde_json::{Value, json};

use super::stage::*;

const A: &str = "tcp://10.0.0.1:2375";
const B: &str = "tcp://10.0.0.2:2375";

/// An hour, in milliseconds.
const HOUR: i64 = 3_600_000;

fn check(name: &str, error: &str) -> NodeCheckResult {
    NodeCheckResult { name: name.to_owned(), error: error.to_owned(), successful: error.is_empty() }
}

impl Stage {
    /// One host in the pool `p`, another in none.
    async fn healed(healing: Value) -> Result<Self> {
        let config = json!({"docker": {"healing": healing}});
        let mut stage = Self::over(&[A, B], config, |engine| engine).await?;
        let options = AddNodeOptions {
            address: A.to_owned(),
            pool: "p".to_owned(),
            register: true,
            wait: 10,
            ..AddNodeOptions::default()
        };
        let (operation, _) = stage.operation();
        stage.provisioner.add_node(&operation, &options).await?;
        Ok(stage)
    }

    /// The agent on the first host says so.
    async fn report(&self, checks: &[NodeCheckResult]) -> Result<()> {
        let addresses = vec!["10.0.0.1".to_owned(), "127.0.0.1".to_owned()];
        let data = NodeStatusData { addresses, checks: checks.to_vec(), ..Default::default() };
        let node = self.provisioner.node_for_node_data(&question(), &data).await?;
        ensure!(node.address == A, "{node:?}");
        Ok(())
    }

    /// Changes what is written down of the first host.
    async fn rewrite(&self, change: impl Fn(&mut Value)) -> Result<Value> {
        let key = format!("nodes/{A}");
        let entry = State::get(&self.platform, "docker", &key).await?.context("a record")?;
        let mut record: Value = serde_json::from_slice(&entry.value)?;
        change(&mut record);
        let value = serde_json::to_vec(&record)?;
        State::put_if(&self.platform, "docker", &key, &value, Some(entry.version)).await?;
        Ok(record)
    }

    /// The first host has not answered for two hours, and its agent spoke and was well so long ago.
    async fn aged(&self, report: i64, success: i64) -> Result<()> {
        let is_later = |record: &mut Value| {
            let since = record["failing_since"].as_i64().unwrap_or_default();
            for field in ["failing_since", "last_success"] {
                record[field] = json!(since - 2 * HOUR);
            }
            record["checks"]["last_success"] = json!(since - success);
            for one in record["checks"]["reports"].as_array_mut().into_iter().flatten() {
                one["time"] = json!(since - report);
            }
        };
        self.rewrite(is_later).await.map(drop)
    }

    /// The machines that are found dead.
    async fn dead(&self) -> Result<Vec<String>> {
        let findings = self.provisioner.examine(&question()).await?;
        Ok(findings.dead.into_iter().map(|node| node.address).collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_ten_reports_of_an_agent_are_written_down_with_its_machine() -> Result<()> {
    let stage = Stage::healed(json!({})).await?;
    let before = stage.provisioner.node(&question(), A).await?;
    stage.report(&[check("disk", "")]).await?;
    let well = stage.rewrite(|_| {}).await?["checks"]["last_success"].clone();
    ensure!(well.as_i64().is_some_and(|time| time > 0), "{well}");
    for number in 0..11 {
        stage.report(&[check("disk", ""), check("net", &format!("lost {number}"))]).await?;
    }
    let checks = stage.rewrite(|_| {}).await?["checks"].take();
    assert_eq!(checks["last_success"], well, "one of them has failed since");
    let reports = checks["reports"].as_array().context("a list")?;
    assert_eq!(reports.len(), 10);
    for (report, number) in reports.iter().zip(1..) {
        let expected = json!([check("disk", ""), check("net", &format!("lost {number}"))]);
        assert_eq!(report["checks"], expected);
        ensure!(report["time"].as_i64() >= well.as_i64(), "{report}");
    }
    // What people see of it is the same, and it takes units.
    assert_eq!(stage.provisioner.node(&question(), A).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_given_up_by_the_rules_of_its_pool_and_not_while_its_agent_speaks()
-> Result<()> {
    let base = json!({"max-failures": 1, "max-unresponsive-time": 3600});
    let with = |more: Value| {
        let mut healing = base.clone();
        healing["pools"] = json!({"p": more, "other": {"enabled": false}});
        healing
    };
    let minute = HOUR / 60;
    for (healing, report, success, is_dead) in [
        // Its agent speaks, whatever it says.
        (base.clone(), 0, 3 * HOUR, false),
        (base.clone(), HOUR + minute, HOUR + minute, true),
        (with(json!({})), HOUR + minute, HOUR + minute, true),
        (with(json!({"enabled": false})), HOUR + minute, HOUR + minute, false),
        (with(json!({"max-unresponsive-time": 3 * 3600})), HOUR + minute, HOUR + minute, false),
        (with(json!({"max-unresponsive-time": 60})), 2 * minute, 2 * minute, true),
        (with(json!({"max-time-since-success": 600})), 0, 20 * minute, true),
        (with(json!({"max-time-since-success": 1800})), 0, 20 * minute, false),
    ] {
        let stage = Stage::healed(healing.clone()).await?;
        stage.report(&[check("disk", "")]).await?;
        stage.fault.is(Some(Kind::Down(A)));
        assert_eq!(stage.dead().await?, Vec::<String>::new(), "it has not been long");
        stage.aged(report, success).await?;
        let expected: &[&str] = if is_dead { &[A] } else { &[] };
        assert_eq!(stage.dead().await?, expected, "{healing} {report} {success}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_an_agent_is_given_up_when_it_has_not_answered_for_long() -> Result<()> {
    let stage = Stage::healed(json!({"max-failures": 1, "max-unresponsive-time": 3600})).await?;
    stage.fault.is(Some(Kind::Down(A)));
    assert_eq!(stage.dead().await?, Vec::<String>::new());
    let long_ago = |record: &mut Value| {
        record["failing_since"] =
            json!(record["failing_since"].as_i64().unwrap_or_default() - HOUR);
    };
    stage.rewrite(long_ago).await?;
    assert_eq!(stage.dead().await?, [A]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_agent_of_a_pool_passes_lines_on_is_told_instead_of_them() -> Result<()> {
    let told = "Logs not available through gantry. Enabled log backends are:";
    let of_pool = |env: &[&str]| json!({"": {"image": "bs:v1"}, "p": {"config": {"env": env}}});
    let elsewhere = ["LOG_BACKENDS=syslog, gelf", "LOG_GELF_DOC=at graylog.example.com", "A=1"];
    let lines = format!("{told}\n* syslog\n* gelf: at graylog.example.com");
    for (pools, expected) in [
        (json!({}), None),
        (of_pool(&["HOST_PROC=/prochost"]), None),
        (of_pool(&["LOG_BACKENDS="]), None),
        (of_pool(&["LOG_BACKENDS=syslog, tsuru "]), None),
        (of_pool(&elsewhere), Some(lines.as_str())),
        (
            json!({"": {"image": "bs:v1", "config": {"env": elsewhere}}, "p": {}}),
            Some(lines.as_str()),
        ),
        // What a pool says counts there and nowhere else.
        (json!({"": {"image": "bs:v1"}, "q": {"config": {"env": elsewhere}}}), None),
        (json!({"": {"config": {"env": elsewhere}}, "p": {"config": {"env": ["A=1"]}}}), None),
    ] {
        let config = json!({
            "docker": {"log-driver": "bs"},
            "node-containers": {"big-sibling": pools, "other": {"": {"config": {"env": elsewhere}}}},
        });
        let stage = Stage::over(&[A], config.clone(), |engine| engine).await?;
        let available = stage.provisioner.logs_enabled(&question(), &stage.app).await?;
        assert_eq!(available.enabled, expected.is_none(), "{config}");
        assert_eq!(available.doc, expected.unwrap_or_default(), "{config}");
    }
    // Where no agent gets the lines, nobody asks for one.
    let config = json!({
        "docker": {"log-driver": "gelf"},
        "node-containers": {"big-sibling": of_pool(&elsewhere)},
    });
    let stage = Stage::over(&[A], config, |engine| engine).await?;
    let available = stage.provisioner.logs_enabled(&question(), &stage.app).await?;
    let text = "Logs not available through gantry. Enabled log driver is \"gelf\".";
    assert_eq!((available.enabled, available.doc.as_str()), (false, text));
    Ok(())
}
