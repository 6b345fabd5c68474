//! Plugins: how they are installed, swapped and granted what they ask for.

use anyhow::{Context, Result, ensure};
use gantry::api::{Items, Operation, OperationInfo, PluginInfo, ProblemKind};
use gantry::client::Change;
use hyper::Method;
use serde_json::{Value, json};

use crate::life::web;
use crate::support::{House, plugin, refused, warehouse};

#[tokio::test]
async fn a_plugin_is_proven_before_it_serves() -> Result<()> {
    let house = House::new("[provisioners.docker]\ngrants = [\"images:remove\"]\n").await?;
    let put = |path: &str, bytes: Vec<u8>| {
        let (client, path) = (house.client.clone(), path.to_owned());
        async move { client.change_bytes(Method::PUT, &path, bytes, &Change::default()).await }
    };
    let garbage = put("/v1/plugins/docker?file=x.wasm", b"garbage".to_vec()).await?;
    let problem = house.end_of(&garbage).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::PluginRefused);
    let wrong = refused(put("/v1/plugins/docker?grant=root", plugin()?).await)?.unwrap_err();
    assert_eq!(wrong.kind, ProblemKind::Invalid);
    let wrong = refused(put("/v1/plugins/Docker", plugin()?).await)?.unwrap_err();
    assert_eq!(wrong.kind, ProblemKind::Invalid);
    let none: Items<Value> = house.client.get("/v1/plugins").await?;
    assert_eq!(none.items, [] as [Value; 0]);

    let looked: PluginInfo = house.client.ask_bytes("/v1/inspect?file=d.wasm", plugin()?).await?;
    assert_eq!(looked.plugin.plugin, "docker");
    ensure!(looked.grants.iter().all(|grant| !grant.in_force), "nothing is granted to a look");

    let good = put("/v1/plugins/docker?file=d.wasm&grant=cluster:read:Pod", plugin()?).await?;
    house.end_of(&good).await?.unwrap();
    let info: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    let grant = |name: &str| info.grants.iter().find(|grant| grant.grant == name).cloned();
    let remove = grant("images:remove").expect("it is asked for");
    ensure!(remove.asked.is_some() && remove.granted && remove.in_force, "{remove:?}");
    let pods = grant("cluster:read:Pod").expect("it is granted");
    ensure!(pods.granted && !pods.in_force, "granted and not asked for: {pods:?}");
    let taken = refused(put("/v1/plugins/docker", plugin()?).await)?.unwrap_err();
    assert_eq!(taken.kind, ProblemKind::Conflict);
    Ok(())
}

#[tokio::test]
async fn a_swap_that_fails_leaves_the_old_plugin_serving() -> Result<()> {
    let house = web("").await?;
    let before: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    let swap = |bytes: Vec<u8>| {
        let client = house.client.clone();
        async move {
            let path = "/v1/plugins/docker/swap?file=new.wasm";
            client.change_bytes(Method::POST, path, bytes, &Change::default()).await
        }
    };
    let problem = house.end_of(&swap(b"\0asm".to_vec()).await?).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::PluginRefused);
    let after: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    assert_eq!(after, before);
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    house.end_of(&swap(plugin()?).await?).await?.unwrap();
    let after: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    assert_eq!(after.plugin.file, "new.wasm");
    assert_eq!(house.units("web").await?.len(), 1, "units belong to the name, not to the plugin");
    Ok(())
}

#[tokio::test]
async fn a_plugin_of_another_name_takes_no_place_unless_it_is_forced() -> Result<()> {
    let house = web("").await?;
    let bytes = warehouse()?;
    let swap = |path: &'static str| {
        let (client, bytes) = (house.client.clone(), bytes.clone());
        async move { client.change_bytes(Method::POST, path, bytes, &Change::default()).await }
    };
    let accepted = swap("/v1/plugins/docker/swap?file=w.wasm").await?;
    let problem = house.end_of(&accepted).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Conflict);
    assert_eq!(problem.detail, "the file is the plugin `warehouse`, and `docker` serves");
    let info: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    assert_eq!(info.plugin.plugin, "docker");
    let accepted = swap("/v1/plugins/docker/swap?file=w.wasm&force=true").await?;
    house.end_of(&accepted).await?.unwrap();
    let info: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    assert_eq!(info.plugin.plugin, "warehouse");
    Ok(())
}

#[tokio::test]
async fn everything_a_plugin_asks_for_is_granted_when_so_asked_and_listed() -> Result<()> {
    let house = House::with_both("").await?;
    let info: PluginInfo = house.client.get("/v1/plugins/warehouse").await?;
    ensure!(info.grants.iter().all(|grant| grant.in_force), "{:?}", info.grants);
    let operations: Items<Operation> = house.client.get("/v1/operations").await?;
    let install = operations
        .items
        .iter()
        .find(|one| one.verb == "plugin-install" && one.plugin.as_deref() == Some("warehouse"));
    let id = &install.context("it was installed")?.id;
    let told: OperationInfo = house.client.get(&format!("/v1/operations/{id}")).await?;
    let lines: Vec<_> = told.lines.iter().map(|line| line.text.as_str()).collect();
    ensure!(lines.contains(&"granted cluster:*:ConfigMap: keeps a note for each app"), "{lines:?}");
    // A swap keeps them, and without the word it adds none.
    let change = Change::default();
    let docker = house.client.change_bytes(
        Method::POST,
        "/v1/plugins/docker/swap?file=d.wasm",
        plugin()?,
        &change,
    );
    house.end_of(&docker.await?).await?.unwrap();
    let info: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    ensure!(info.grants.iter().all(|grant| !grant.in_force), "{:?}", info.grants);
    let docker = house.client.change_bytes(
        Method::POST,
        "/v1/plugins/docker/swap?file=d.wasm&grant-asked=true",
        plugin()?,
        &change,
    );
    house.end_of(&docker.await?).await?.unwrap();
    let info: PluginInfo = house.client.get("/v1/plugins/docker").await?;
    ensure!(info.grants.iter().all(|grant| grant.in_force), "{:?}", info.grants);
    Ok(())
}
