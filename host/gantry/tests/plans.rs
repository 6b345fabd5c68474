//! Plans: what units may use, under a name.

use anyhow::{Context, Result, ensure};
use gantry::api::{AppInfo, PlanInfo, ProblemKind};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{House, refused};

#[tokio::test]
async fn apps_are_given_plans_and_keep_what_they_were_given() -> Result<()> {
    let house = House::with_docker("").await?;
    const MIB: i64 = 1 << 20;
    let plan = |name: &str, memory: i64, default: bool| json!({"name": name, "memory": memory * MIB, "cpu_share": 100, "default": default});
    for plan in [plan("small", 64, true), plan("large", 512, false)] {
        house.done(Method::POST, "/v1/plans", plan).await?;
    }
    let taken = house.change(Method::POST, "/v1/plans", plan("small", 8, false)).await?;
    let taken = taken.unwrap_err();
    assert_eq!(
        (taken.kind, taken.detail.as_str()),
        (ProblemKind::Conflict, "there is one of this name")
    );
    let tiny = house.change(Method::POST, "/v1/plans", plan("tiny", 1, false)).await?.unwrap_err();
    assert_eq!(
        (tiny.kind, tiny.detail.as_str()),
        (ProblemKind::Invalid, "the least memory is 4 MiB")
    );

    let has = async |app: &str| -> Result<(String, i64, i32)> {
        let plan = house.client.get::<AppInfo>(&format!("/v1/apps/{app}")).await?.app.plan;
        Ok((plan.name, plan.memory / MIB, plan.cpu_share))
    };
    let app = |name: &str, plan: Value| json!({"name": name, "plan": plan});
    for (body, expected) in [
        (json!({"name": "web"}), ("small", 64, 100)),
        (app("large", json!({"name": "large"})), ("large", 512, 100)),
        (app("more", json!({"name": "large", "memory": 0, "cpu_share": 7})), ("large", 0, 7)),
        (app("own", json!({"memory": 32 * MIB})), ("small", 32, 100)),
    ] {
        house.done(Method::POST, "/v1/apps", &body).await?;
        let (name, memory, cpu_share) = has(body["name"].as_str().context("a name")?).await?;
        assert_eq!((name.as_str(), memory, cpu_share), expected, "{body}");
    }
    let none = app("none", json!({"name": "lagre"}));
    let none = house.change(Method::POST, "/v1/apps", none).await?.unwrap_err();
    assert_eq!(
        (none.kind, none.hint.as_deref()),
        (ProblemKind::NotFound, Some("did you mean `large`?"))
    );

    // Its units are replaced by new ones.
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "plain:1"})).await?;
    let before = house.containers().await?;
    let update = async |plan: Value| {
        house.change(Method::PATCH, "/v1/apps/web", json!({"plan": plan})).await
    };
    let done = update(json!({"name": "large"})).await?.unwrap();
    assert_eq!(done.result.context("a result")?["restarted"], true);
    assert_eq!(has("web").await?, ("large".to_owned(), 512, 100));
    let after = house.containers().await?;
    ensure!(after.len() == 1 && after != before, "{after:?}");
    update(json!({"memory": 128 * MIB})).await?.unwrap();
    assert_eq!(has("web").await?, ("large".to_owned(), 128, 100));
    let same = update(json!({"memory": 128 * MIB})).await?.unwrap_err();
    assert_eq!(
        (same.kind, same.detail.as_str()),
        (ProblemKind::Conflict, "it may use that already")
    );
    assert_eq!(update(json!({"memory": -1})).await?.unwrap_err().kind, ProblemKind::Invalid);
    assert_eq!(update(json!({"name": "none"})).await?.unwrap_err().kind, ProblemKind::NotFound);

    // Units that cannot be replaced keep the limits of before, and so does the app.
    house.played.answers(200);
    house.done(Method::POST, "/v1/apps/web/deploy", json!({"image": "checked:1"})).await?;
    let before = house.containers().await?;
    house.played.answers(500);
    let problem = update(json!({"name": "small"})).await?.unwrap_err();
    assert_eq!(problem.title, "could not change what units of `web` may use");
    assert_eq!(house.containers().await?, before);
    assert_eq!(has("web").await?, ("large".to_owned(), 128, 100));

    // A plan that goes takes nothing from anybody.
    let large: PlanInfo = house.client.get("/v1/plans/large").await?;
    assert_eq!(
        (large.apps.as_slice(), large.default),
        (["large", "more", "web"].map(str::to_owned).as_slice(), false)
    );
    house.done(Method::DELETE, "/v1/plans/large", json!({})).await?;
    assert_eq!(has("web").await?, ("large".to_owned(), 128, 100));
    let gone = refused(house.client.get::<PlanInfo>("/v1/plans/large").await)?.unwrap_err();
    assert_eq!(gone.kind, ProblemKind::NotFound);
    for (words, code, says) in [
        (
            ["plan", "create", "mid", "--memory", "128MiB", "--default"].as_slice(),
            0,
            "created the plan `mid`",
        ),
        (&["plan", "create", "mid"], 5, "there is one of this name"),
        (&["plan", "list"], 0, "mid    128 MiB  -     -          yes      0"),
        (&["plan", "info", "smal"], 4, "did you mean `small`?"),
        (&["plan", "info", "mid", "--output", "json"], 0, "\"default\": true"),
        (&["plan", "remove", "mid", "--yes"], 0, "removed the plan `mid`"),
        (
            &["app", "create", "api", "--plan", "small", "--memory", "1GiB"],
            0,
            "created the app `api`",
        ),
        (&["app", "info", "api"], 0, "Plan:         small\nMemory:       1 GiB\n"),
        (&["app", "update", "api", "--plan", "small"], 0, "changed what units of `api` may use"),
        (&["app", "update", "api"], 2, "error:"),
        (&["app", "update", "api", "--pool", "x", "--plan", "small"], 2, "error:"),
    ] {
        let (ended, text) = house.program(words, "").await?;
        ensure!(ended == Some(code) && text.contains(says), "{words:?}: {ended:?} {text}");
    }
    Ok(())
}
