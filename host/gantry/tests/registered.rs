//! What the agent in a unit says over HTTP: that the unit is there.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use gantry::api::Items;
use gantry_core::{Status, Unit};
use hyper::Method;
use serde_json::json;

use crate::support::{House, OPERATOR};

/// A house with the deployed apps `web` and `api`.
async fn deployed() -> Result<House> {
    let house = House::with_docker("").await?;
    for app in ["web", "api"] {
        house.done(Method::POST, "/v1/apps", json!({"name": app})).await?;
        let deploy = format!("/v1/apps/{app}/deploy");
        house.done(Method::POST, &deploy, json!({"image": "plain:1"})).await?;
    }
    Ok(house)
}

async fn unit(house: &House, app: &str) -> Result<Unit> {
    let path = format!("/v1/apps/{app}/units");
    house.client.get::<Items<Unit>>(&path).await?.items.pop().context("a unit")
}

#[tokio::test]
async fn a_unit_that_says_it_is_there_is_started_and_is_told_the_environment() -> Result<()> {
    let house = deployed().await?;
    let env = json!({"set": {"COLOUR": "blue"}, "private": true, "no_restart": true});
    house.done(Method::PATCH, "/v1/apps/web/env", env).await?;
    let before = unit(&house, "web").await?;
    ensure!(before.status == Some(Status::Starting), "{before:?}");

    let token = house.token("web").await?;
    // A container is called by the beginning of its id.
    let hostname = before.id.get(..12).context("an id")?;
    let form = format!("hostname={hostname}");
    let (status, told) = house.register("web", &format!("Bearer {token}"), &form).await?;
    ensure!(status == 200, "{status} {told}");
    let told = told.as_array().context("a list")?;
    let told: BTreeMap<&str, (&str, bool)> = told
        .iter()
        .filter_map(|env| {
            Some((env["name"].as_str()?, (env["value"].as_str()?, env["public"] == true)))
        })
        .collect();
    let expected = [
        ("COLOUR", ("blue", false)),
        ("TSURU_APP_TOKEN", (token.as_str(), false)),
        ("TSURU_SERVICES", ("{}", false)),
    ];
    assert_eq!(told, expected.into());
    let after = unit(&house, "web").await?;
    assert_eq!((after.status, after.id), (Some(Status::Started), before.id));
    Ok(())
}

#[tokio::test]
async fn only_the_token_of_its_app_lets_a_unit_in_and_lets_it_in_nowhere_else() -> Result<()> {
    let mut house = deployed().await?;
    let (web, api) = (house.token("web").await?, house.token("api").await?);
    ensure!(web.len() == 64 && web != api, "each app has one of its own");
    let unit_of_web = unit(&house, "web").await?.id;
    let form = format!("hostname={unit_of_web}");
    let mut answers = Vec::new();
    for (app, shown) in [
        ("web", format!("Bearer {api}")),
        ("web", format!("Basic {web}")),
        ("web", web.clone()),
        ("web", String::new()),
        ("web", "Bearer ".to_owned()),
        ("web", OPERATOR.to_owned()),
        // Nobody learns which apps there are.
        ("nothing", format!("Bearer {web}")),
    ] {
        let (status, told) = house.register(app, &shown, &form).await?;
        ensure!(status == 401, "{app} {shown}: {status} {told}");
        answers.push(told);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(unit(&house, "web").await?.status, Some(Status::Starting), "nothing was changed");

    // A unit of another app is none.
    let (status, told) = house.register("api", &format!("Bearer {api}"), &form).await?;
    ensure!(status == 404, "{status} {told}");
    assert_eq!(unit(&house, "web").await?.status, Some(Status::Starting));
    // And an app's token is nothing to the rest of the daemon.
    for path in ["/v1/apps/web/start", "/v1/nodes/status", "/v1/nothing"] {
        let bearer = format!("Bearer {web}");
        let (status, told) = house.post(path, "application/json", &bearer, "{}".to_owned()).await?;
        ensure!(status == 401, "{path}: {status} {told}");
    }

    // It is the same as long as there is the app, and another one for the next of its name.
    house.stop().await?;
    house.start().await?;
    let (status, told) = house.register("web", &format!("Bearer {web}"), &form).await?;
    ensure!(status == 200, "{status} {told}");
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    ensure!(house.token("web").await? != web);
    Ok(())
}

#[tokio::test]
async fn what_is_no_registration_is_refused_with_the_reason() -> Result<()> {
    let house = deployed().await?;
    let token = format!("Bearer {}", house.token("web").await?);
    for (form, why) in [
        ("", "missing field `hostname`"),
        ("hostname=", "`hostname` is empty"),
        ("customdata={}", "missing field `hostname`"),
    ] {
        let (status, told) = house.register("web", &token, form).await?;
        ensure!(status == 400, "{form}: {status} {told}");
        ensure!(told["detail"].as_str().is_some_and(|text| text.contains(why)), "{form}: {told}");
    }
    let (status, told) = house.register("web", &token, "hostname=0123456789ab").await?;
    ensure!(status == 404 && told.to_string().contains("0123456789ab"), "{status} {told}");
    // As the reference's agents, and the units of its provisioner for Kubernetes, address it.
    let path = "/apps/web/units/register";
    let (status, told) = house.post(path, "application/json", &token, "{}".to_owned()).await?;
    ensure!(status == 400 && told.to_string().contains("x-www-form-urlencoded"), "{status} {told}");
    Ok(())
}
