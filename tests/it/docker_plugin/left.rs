//! What does not count: units that others have replaced and that stay all the same, and units that a call had begun when it died. And what counts although it is not there.

use anyhow::{Context, Result};
use gantry_core::Status;
use gantry_core::healing::Findings;
use gantry_core::record::UnitRecord;
use gantry_engine::Containers as _;
use serde_json::json;

use super::nodes::{A, B, C};
use super::stage::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_is_ill_and_cannot_be_removed_is_replaced_once() -> Result<()> {
    let healing = json!({"docker": {"healing": {"heal-containers-timeout": 1}}});
    let mut stage = Stage::over(&[A], healing, |engine| engine).await?;
    stage.deploy("shop:1").await?;
    let ill = stage.ids().await?.remove(0);
    stage.on(A)?.stop(&ill, 0).await?;
    assert_eq!(stage.found_ill().await?.id, ill);
    stage.fault.is(Some(Kind::NoRemove));
    stage.heal(&ill).await?.context("it is replaced")?;
    assert_eq!((stage.containers_on(A).await?, stage.addresses().await?.len()), (2, 1));
    // It has been ill for long enough, and nobody needs another one in its place.
    assert_eq!(stage.examine().await?, Findings::default());
    assert_eq!(stage.heal(&ill).await?, None);
    assert_eq!(stage.containers_on(A).await?, 2);
    stage.fault.is(None);
    stage.add(1).await?;
    assert_eq!((stage.containers_on(A).await?, stage.units().await?.len()), (2, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_had_begun_that_died_counts_for_nothing() -> Result<()> {
    let mut stage = Stage::three(json!({})).await?;
    stage.deploy("shop:1").await?;
    let ip = stage.units().await?.remove(0).ip;
    let away = [A, B, C].into_iter().find(|host| !host.contains(&ip)).context("another host")?;
    let mut begun = UnitRecord {
        id: "1".to_owned(),
        name: "shop-begun".to_owned(),
        app_name: "shop".to_owned(),
        process_name: "web".to_owned(),
        node: away.to_owned(),
        host_addr: "10.9.9.9".to_owned(),
        host_port: "1".to_owned(),
        image: "shop:2".to_owned(),
        is_new: true,
        ..UnitRecord::default()
    };
    begun.set_status(Status::Starting, 1);
    stage.write("units/shop/shop-begun", &json!(begun)).await?;
    stage.fault.is(Some(Kind::Down(away)));
    assert_eq!(stage.addresses().await?.len(), 1, "nobody has checked it");
    stage.deploy("shop:2").await?;
    assert_eq!(stage.in_use().await?, 1, "as many as before");
    // Its host answers, and the platform has removed it.
    stage.fault.is(None);
    stage.add(1).await?;
    assert_eq!((stage.units().await?.len(), stage.keys("units/").await?.len()), (2, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_somebody_removed_is_replaced_also_when_its_host_is_added_again() -> Result<()>
{
    let healing = json!({"docker": {"healing": {"heal-containers-timeout": 1}}});
    let mut stage = Stage::over(&[A], healing, |engine| engine).await?;
    stage.add_host(A, 10).await?;
    stage.deploy("shop:1").await?;
    let removed = stage.ids().await?.remove(0);
    stage.on(A)?.remove(&removed, true).await?;
    stage.add_host(A, 10).await?;
    assert_eq!(stage.found_ill().await?.id, removed);
    stage.heal(&removed).await?.context("it is replaced")?;
    assert_eq!((stage.containers_on(A).await?, stage.units().await?.len()), (1, 1));
    Ok(())
}
