//! Pools, and everything that is refused of them.

use anyhow::{Result, ensure};
use gantry::api::{Items, Pool, ProblemKind};
use hyper::Method;
use serde_json::json;

use crate::support::House;

#[tokio::test]
async fn a_pool_is_made_used_and_removed() -> Result<()> {
    let mut house = House::with_web("").await?;
    let pools: Items<Pool> = house.client.get("/v1/pools").await?;
    let shown: Vec<_> =
        pools.items.iter().map(|pool| (pool.name.as_str(), pool.configured, pool.apps)).collect();
    assert_eq!(shown, [("default", true, 0), ("yard", false, 1)]);
    let problem = house.refusal(Method::DELETE, "/v1/pools/yard", json!({})).await?;
    assert_eq!(
        (problem.kind, problem.detail.as_str()),
        (ProblemKind::Conflict, "in it: the app `web`")
    );
    house.stop().await?;
    house.start().await?;
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    house.done(Method::DELETE, "/v1/pools/yard", json!({})).await?;
    let pools: Items<Pool> = house.client.get("/v1/pools").await?;
    assert_eq!(pools.items.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_pool_that_cannot_be_is_refused() -> Result<()> {
    let house = House::with_both("").await?;
    let new = |name: &str, provisioner: &str| json!({"name": name, "provisioner": provisioner});
    let cases = [
        (Method::POST, "/v1/pools", new("No", "docker"), ProblemKind::Invalid, "invalid pool name"),
        (
            Method::POST,
            "/v1/pools",
            new("prod", ""),
            ProblemKind::Invalid,
            "provisioner name is mandatory",
        ),
        (Method::POST, "/v1/pools", new("prod", "dokcer"), ProblemKind::NotFound, ""),
        (Method::POST, "/v1/pools", new("yard", "docker"), ProblemKind::Conflict, "there is one"),
        (
            Method::POST,
            "/v1/pools",
            new("default", "docker"),
            ProblemKind::Conflict,
            "there is one",
        ),
        (
            Method::DELETE,
            "/v1/pools/default",
            json!({}),
            ProblemKind::Conflict,
            "the configuration has it",
        ),
        (Method::DELETE, "/v1/pools/yrad", json!({}), ProblemKind::NotFound, ""),
    ];
    for (method, path, body, kind, why) in cases {
        let problem = house.refusal(method, path, body).await?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{problem:?}");
    }
    let problem = house.refusal(Method::POST, "/v1/pools", new("prod", "dokcer")).await?;
    assert_eq!(problem.hint.as_deref(), Some("did you mean `docker`?"));
    Ok(())
}
