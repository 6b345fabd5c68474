//! What a node's agent reports over HTTP: how its units are.

use anyhow::{Context, Result, ensure};
use gantry::api::AppInfo;
use gantry_core::Status;
use hyper::Method;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::support::{House, OPERATOR};

/// The reference's table: what is written down, what is reported, and what becomes of it.
const TABLE: &str = include_str!("../../../tests/vectors/docker_set_unit_status.json");

/// The machine of the house, as its agent knows it.
const HERE: &str = "10.1.1.1";

/// Sends a report as an agent does, and gives the status of the answer and its document.
async fn report(house: &House, report: &Value) -> Result<(u16, Value)> {
    house.post("/v1/nodes/status", "application/json", OPERATOR, report.to_string()).await
}

/// The same for one unit at this address, which must be taken; tells what was answered of it.
async fn report_one(house: &House, address: &str, unit: Value) -> Result<Value> {
    let (status, mut answer) =
        report(house, &json!({"addresses": [address], "units": [unit]})).await?;
    ensure!(status == 200, "{status}: {answer}");
    Ok(answer.get_mut("items").context("units")?.take())
}

/// A house with the app `web`, and the id and name of its unit.
async fn deployed() -> Result<(House, String, String)> {
    let house = House::with_docker("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let info = info(&house).await?;
    let unit = info.units.context("they are known")?.pop().context("one unit")?;
    Ok((house, unit.id, unit.name))
}

async fn info(house: &House) -> Result<AppInfo> {
    Ok(house.client.get("/v1/apps/web").await?)
}

async fn status(house: &House) -> Result<Option<Status>> {
    let units = info(house).await?.units.context("they are known")?;
    Ok(units.first().context("one unit")?.status)
}

/// What is written down of the only unit.
struct Written {
    store: Connection,
    key: String,
}

impl Written {
    fn of(house: &House, name: &str) -> Result<Self> {
        let store = Connection::open(house.folder.path().join("data/gantry.db"))?;
        store.busy_timeout(crate::support::SOON)?;
        Ok(Self { store, key: format!("units/web/{name}") })
    }

    fn read(&self) -> Result<Value> {
        let sql = "SELECT value FROM state WHERE owner = 'docker' AND key = ?";
        let value: Vec<u8> = self.store.query_row(sql, [&self.key], |row| row.get(0))?;
        Ok(serde_json::from_slice(&value)?)
    }

    fn write(&self, record: &Value) -> Result<()> {
        let sql = "UPDATE state SET value = ? WHERE owner = 'docker' AND key = ?";
        let changed = self.store.execute(sql, params![serde_json::to_vec(record)?, self.key])?;
        ensure!(changed == 1, "there is one record");
        Ok(())
    }
}

/// A status of the table as it is written down: an empty one is none.
fn written(status: &Value) -> Value {
    if status == "" { Value::Null } else { status.clone() }
}

#[tokio::test]
async fn a_reported_status_becomes_what_the_table_says() -> Result<()> {
    let (house, id, name) = deployed().await?;
    let record = Written::of(&house, &name)?;
    let table: Value = serde_json::from_str(TABLE)?;
    let cases = table["cases"].as_array().context("a list of cases")?;
    for (number, case) in cases.iter().enumerate() {
        let mut before = record.read()?;
        before["status"] = written(&case["status"]);
        before["status_before_error"] = written(&case["status_before_error"]);
        record.write(&before)?;
        // An agent knows some units by their name only.
        let known_as = if number % 2 == 0 { id.as_str() } else { "unknown" };
        let unit = json!({"id": known_as, "name": name, "status": case["incoming"]});
        let answer = report_one(&house, HERE, unit).await?;
        ensure!(case["error"].is_null(), "the table has no failure: {case}");
        ensure!(answer == json!([{"id": known_as, "found": true}]), "{case}: {answer}");
        let after = record.read()?;
        let became = (&after["status"], &after["status_before_error"]);
        let expected = (&written(&case["result"]), &written(&case["result_status_before_error"]));
        ensure!(became == expected, "{case}: {became:?}");
    }
    println!("docker_set_unit_status: {} cases over HTTP", cases.len());
    ensure!(cases.len() == 47);
    Ok(())
}

#[tokio::test]
async fn a_unit_that_is_reported_ill_is_not_routed_to_until_it_is_well() -> Result<()> {
    let (house, id, _) = deployed().await?;
    for (told, expected, routes) in [
        ("started", Status::Started, 1),
        ("error", Status::Error, 0),
        ("started", Status::Started, 1),
        // It should run.
        ("stopped", Status::Error, 0),
        ("starting", Status::Starting, 1),
    ] {
        // The beginning of an id is enough.
        let answer = report_one(&house, HERE, json!({"id": id[..12], "status": told})).await?;
        ensure!(answer == json!([{"id": id[..12], "found": true}]), "{answer}");
        assert_eq!(status(&house).await?, Some(expected), "{told}");
        assert_eq!(info(&house).await?.addresses.len(), routes, "{told}");
    }
    // What was stopped is to stay so.
    house.done(Method::POST, "/v1/apps/web/stop", json!({})).await?;
    for (told, expected) in [("stopped", Status::Stopped), ("started", Status::Error)] {
        report_one(&house, HERE, json!({"id": id, "status": told})).await?;
        assert_eq!(status(&house).await?, Some(expected), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn a_unit_is_looked_for_among_those_of_the_machine_that_reports_it() -> Result<()> {
    let (house, id, name) = deployed().await?;
    // Another app has one with the same beginning elsewhere.
    let record = Written::of(&house, &name)?;
    let mut other = record.read()?;
    other["id"] = json!(format!("{}-other", &id[..12]));
    other["name"] = json!("other-1");
    other["app_name"] = json!("other");
    other["node"] = json!("http://192.0.2.9:2375");
    let sql = "INSERT INTO state VALUES ('docker', 'units/other/other-1', ?, 1)";
    record.store.execute(sql, [serde_json::to_vec(&other)?])?;
    let answer = report_one(&house, HERE, json!({"id": id[..12], "status": "error"})).await?;
    ensure!(answer == json!([{"id": id[..12], "found": true}]), "{answer}");
    assert_eq!(record.read()?["status"], "error");
    Ok(())
}

#[tokio::test]
async fn what_nobody_knows_is_answered_so_and_what_is_no_status_is_refused() -> Result<()> {
    let (house, id, name) = deployed().await?;
    let before = status(&house).await?;
    // A unit that nobody knows, on a machine that somebody knows, beside one that is known.
    let units = json!([
        {"id": "stranger", "status": "started"},
        {"id": id, "name": name, "status": "started"},
        {"id": "another", "name": "also-not", "status": "error"},
    ]);
    let (code, answer) = report(&house, &json!({"addresses": [HERE], "units": units})).await?;
    assert_eq!(code, 200);
    let found = json!([
        {"id": "stranger", "found": false},
        {"id": id, "found": true},
        {"id": "another", "found": false},
    ]);
    assert_eq!(answer["items"], found);
    assert_eq!(status(&house).await?, Some(Status::Started));

    // A machine that nobody knows: its units are nobody's.
    let unit = json!({"id": "stranger", "status": "started"});
    let answer = report_one(&house, "192.0.2.1", unit).await?;
    assert_eq!(answer, json!([{"id": "stranger", "found": false}]));
    // The machine is known by the unit, however it calls itself.
    let answer = report_one(&house, "192.0.2.1", json!({"id": id, "status": "error"})).await?;
    assert_eq!(answer, json!([{"id": id, "found": true}]));
    assert_eq!(status(&house).await?, Some(Status::Error));
    ensure!(before != Some(Status::Error));

    for wrong in [
        json!({"addresses": [HERE], "units": [{"id": id, "status": "unreachable"}]}),
        json!({"addresses": HERE}),
    ] {
        let (code, answer) = report(&house, &wrong).await?;
        ensure!(code == 400 && answer["title"].is_string(), "{code}: {answer}");
    }
    assert_eq!(status(&house).await?, Some(Status::Error), "nothing of it was taken");
    let (code, answer) = report(&house, &json!({"addresses": [HERE], "units": []})).await?;
    ensure!(code == 200 && answer["items"] == json!([]), "{code}: {answer}");
    Ok(())
}
