//! Volumes, and everything that is refused of them.

use anyhow::{Result, ensure};
use gantry::api::{Items, OperationInfo, ProblemKind, Volume};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::House;

/// Plans of volumes for two provisioners.
pub(crate) const PLANS: &str = "[volume-plans.small.warehouse]\ncapacity = \"1Gi\"\n[volume-plans.docker-only.docker]\na = \"b\"\n";

#[tokio::test]
async fn a_volume_is_made_given_to_an_app_taken_back_and_removed() -> Result<()> {
    let house = House::with_web(PLANS).await?;
    let new =
        json!({"name": "data", "plan": "small", "pool": "yard", "options": {"capacity": "5Gi"}});
    house.done(Method::POST, "/v1/volumes", new).await?;
    let before = house.units("web").await?[0].id.clone();
    let bind = |mount_point: &str, more: Value| {
        let mut body = json!({"app": "web", "mount_point": mount_point});
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        body
    };
    let binds = "/v1/volumes/data/binds";
    let quiet = bind("/quiet", json!({"read_only": true, "no_restart": true}));
    house.done(Method::POST, binds, quiet).await?;
    assert_eq!(house.units("web").await?[0].id, before);
    let done = house.done(Method::POST, binds, bind("/data", json!({}))).await?;
    assert_eq!(done.result, Some(json!({"restarted": true})));
    let unit = house.units("web").await?.swap_remove(0);
    // The plugin says where it has the first one.
    assert_eq!((unit.id == before, unit.address.as_deref()), (false, Some("/data")));
    let data: Volume = house.client.get("/v1/volumes/data").await?;
    let shown: Vec<_> =
        data.binds.iter().map(|bind| (bind.mount_point.as_str(), bind.read_only)).collect();
    assert_eq!(shown, [("/data", false), ("/quiet", true)]);

    let problem = house.refusal(Method::DELETE, "/v1/volumes/data", json!({})).await?;
    assert_eq!(problem.detail, "cannot delete volume with existing binds");
    house.done(Method::DELETE, binds, bind("/data", json!({}))).await?;
    // An app that goes gives its volumes back.
    house.done(Method::DELETE, "/v1/apps/web", json!({})).await?;
    let done = house.done(Method::DELETE, "/v1/volumes/data", json!({})).await?;
    let info: OperationInfo = house.client.get(&format!("/v1/operations/{}", done.id)).await?;
    assert_eq!(info.lines[0].text, "deleted the data of data");
    let left: Items<Volume> = house.client.get("/v1/volumes").await?;
    assert_eq!(left.items, []);
    Ok(())
}

#[tokio::test]
async fn a_volume_that_cannot_be_is_refused() -> Result<()> {
    let house = House::with_web(PLANS).await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "far"})).await?;
    for name in ["data", "stuck"] {
        let new = json!({"name": name, "plan": "small", "pool": "yard"});
        house.done(Method::POST, "/v1/volumes", new).await?;
    }
    let at =
        |mount_point: &str| json!({"app": "web", "mount_point": mount_point, "no_restart": true});
    house.done(Method::POST, "/v1/volumes/data/binds", at("/data")).await?;
    let new = |name: &str, plan: &str, pool: &str| {
        (Method::POST, "/v1/volumes", json!({"name": name, "plan": plan, "pool": pool}))
    };
    let bind = |body: Value| (Method::POST, "/v1/volumes/data/binds", body);
    let cases = [
        (new("No", "small", "yard"), ProblemKind::Invalid, "no name of a volume"),
        (new("new", "smal", "yard"), ProblemKind::NotFound, ""),
        (
            new("new", "docker-only", "yard"),
            ProblemKind::Invalid,
            "means nothing to the provisioner `warehouse`",
        ),
        (new("new", "small", "yrad"), ProblemKind::NotFound, ""),
        (new("data", "small", "yard"), ProblemKind::Conflict, "there is one of this name"),
        (bind(at("data")), ProblemKind::Invalid, "no folder to mount at"),
        (bind(at("/data")), ProblemKind::Conflict, "volume already bound in mountpoint"),
        (bind(json!({"app": "nobody", "mount_point": "/a"})), ProblemKind::NotFound, ""),
        (
            bind(json!({"app": "far", "mount_point": "/a"})),
            ProblemKind::Conflict,
            "it is of the pool `yard`",
        ),
        ((Method::POST, "/v1/volumes/dtaa/binds", at("/a")), ProblemKind::NotFound, ""),
        (
            (Method::DELETE, "/v1/volumes/data/binds", at("/other")),
            ProblemKind::NotFound,
            "volume bind not found",
        ),
        ((Method::DELETE, "/v1/volumes/dtaa", json!({})), ProblemKind::NotFound, ""),
    ];
    for ((method, path, body), kind, why) in cases {
        let case = format!("{method} {path} {body}");
        let problem = house.refusal(method, path, body).await?;
        ensure!(problem.kind == kind && problem.detail.contains(why), "{case}: {problem:?}");
    }
    // Storage that does not answer keeps the volume, and apps can have it again.
    let stuck = house.change(Method::DELETE, "/v1/volumes/stuck", json!({})).await?.unwrap_err();
    assert_eq!(stuck.kind, ProblemKind::Unavailable);
    house.done(Method::POST, "/v1/volumes/stuck/binds", at("/stuck")).await?;
    Ok(())
}
