//! How many units an app may have.

use anyhow::{Result, ensure};
use gantry::api::{ProblemKind, Quota};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::House;

#[tokio::test]
async fn a_quota_is_never_below_what_is_used_and_nothing_is_made_beyond_it() -> Result<()> {
    let house = House::with_docker("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web", "unit_quota": 0})).await?;
    let deploy = json!({"image": "plain:1"});
    let problem = house.change(Method::POST, "/v1/apps/web/deploy", &deploy).await?.unwrap_err();
    ensure!(problem.detail.contains("Quota exceeded. Available: 0. Requested: 1."), "{problem:?}");
    assert_eq!(house.containers().await?, [], "nothing was made");
    let quota = async || house.client.get::<Quota>("/v1/apps/web/quota").await;
    let change =
        |units: Value| house.change(Method::PUT, "/v1/apps/web/quota", json!({"units": units}));
    assert_eq!(quota().await?, Quota { limit: Some(0), in_use: 0 });
    change(json!(2)).await?.unwrap();
    house.done(Method::POST, "/v1/apps/web/deploy", &deploy).await?;
    house.done(Method::POST, "/v1/apps/web/units", json!({"count": 1})).await?;
    assert_eq!(quota().await?, Quota { limit: Some(2), in_use: 2 });
    let problem = change(json!(1)).await?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Quota);
    assert_eq!(problem.detail, "it uses 2 units, and may not be given less");
    assert_eq!(quota().await?, Quota { limit: Some(2), in_use: 2 });
    let more = house.change(Method::POST, "/v1/apps/web/units", json!({"count": 1})).await?;
    assert_eq!(more.unwrap_err().kind, ProblemKind::Quota);
    assert_eq!(house.containers().await?.len(), 2);
    change(json!("unlimited")).await?.unwrap();
    assert_eq!(quota().await?, Quota { limit: None, in_use: 2 });
    house.done(Method::POST, "/v1/apps/web/units", json!({"count": 1})).await?;
    for wrong in [json!(null), json!(-1), json!("many")] {
        assert_eq!(change(wrong).await?.unwrap_err().kind, ProblemKind::Invalid);
    }
    for (words, code, says) in [
        (["app", "quota", "web"].as_slice(), 0, "3/unlimited units\n"),
        (&["app", "quota", "web", "--units", "3"], 0, "`web` may have 3 units\n"),
        (&["app", "quota", "web", "--units", "2"], 3, "caused by: it uses 3 units"),
        (&["app", "quota", "web", "--output", "json"], 0, "\"limit\": 3"),
        (&["app", "quota", "web", "--units", "many"], 2, "neither a number"),
        (&["app", "quota", "none"], 4, "no app `none`"),
    ] {
        let (ended, text) = house.program(words, "").await?;
        ensure!(ended == Some(code) && text.contains(says), "{words:?}: {ended:?} {text}");
    }
    Ok(())
}
