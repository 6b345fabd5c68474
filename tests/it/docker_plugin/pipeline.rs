//! The pipeline of a change, whole: what is left when anything happens at any call of it, how often a start is tried, and what of it people set in their `tsuru.yaml`.

mod matrix;
mod mishaps;
mod shop;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use gantry_core::{AppRouter, Error};
use gantry_runtime::{CallError, Cause};
use gantry_tests::artifacts;

use self::mishaps::{Mishap, kind};
use self::shop::{OTHER_ROUTER, Picture, ROUTER, Shop, What};

const HOOKED: Picture = (
    "shop:1",
    "web: serve\nworker: work\n",
    "hooks: {restart: {before: [b1, b2], after: [a1, a2]}}\nhealthcheck: {path: /up, use_in_router: true}\n",
);

const PLAIN: Picture = ("shop:2", "web: serve\nworker: work\n", "healthcheck: {path: /two}\n");

impl Shop {
    async fn of(pictures: &[Picture]) -> Result<Self> {
        Self::new(&artifacts::runtime()?, pictures).await
    }

    /// What was done in containers since somebody asked last, by their names.
    fn seen(&self) -> BTreeMap<String, Vec<String>> {
        let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, what) in std::mem::take(&mut *self.played.seen.lock().unwrap()) {
            by_name.entry(name).or_default().push(what);
        }
        by_name
    }

    /// What the plugin says to a change that it refuses or undoes: the same units serve, and nothing else is there.
    async fn refused(&mut self, what: What) -> Result<Error> {
        let names = |units: Vec<gantry_core::Unit>| -> BTreeSet<String> {
            units.into_iter().map(|unit| unit.name).collect()
        };
        let (before, current) = (names(self.units().await?), self.current().await);
        let Err(CallError { cause: Cause::Plugin(error), .. }) = self.run(what, None).await? else {
            anyhow::bail!("{what:?} is no failure of the plugin");
        };
        let is = self.look().await?;
        assert_eq!(names(is.units.clone()), before, "{error}");
        assert_eq!(self.current().await, current, "{error}");
        ensure!(is.left().is_empty() && is.routes == is.reachable(), "{error}: {is:?}");
        Ok(error)
    }

    fn asked(seen: &BTreeMap<String, Vec<String>>) -> usize {
        seen.values().flatten().filter(|what| what.starts_with("asked")).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_is_tried_four_times_more_and_each_attempt_goes() -> Result<()> {
    let one = ("shop:1", "web: serve\n", "");
    let mut shop = Shop::of(&[one]).await?;
    for failures in 1..=4 {
        shop.calls.fail("containers.start", failures);
        shop.cleanly(What::Deploy("shop:1")).await?;
        let places = shop.calls.script().places.clone();
        let count = |name: &str| places.iter().filter(|place| kind(place) == name).count();
        assert_eq!(count("containers.create"), failures + 1);
        assert_eq!(count("containers.start"), failures + 1);
        let is = shop.look().await?;
        ensure!(is.left().is_empty() && is.units.len() == 1, "{is:?}");
    }
    shop.calls.fail("containers.start", 5);
    let error = shop.refused(What::Deploy("shop:1")).await?;
    let Error::UnitStartup(text) = error else { anyhow::bail!("{error:?}") };
    ensure!(text.starts_with("multiple errors reported (5):\nerror #0: error in start"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_cannot_be_removed_is_no_unit_and_goes_later() -> Result<()> {
    let mut shop = Shop::of(&[("shop:1", "web: serve\n", "")]).await?;
    shop.calls.fail_all([("containers.start", 1), ("containers.remove", 2)]);
    if let Err(error) = shop.run(What::Deploy("shop:1"), None).await? {
        anyhow::bail!("the second attempt goes well: {error}");
    }
    for (containers, left) in [(2, 1), (1, 0)] {
        let counts = (shop.units().await?.len(), shop.containers().await?.len());
        assert_eq!((counts, shop.keys("orphans/").await?.len()), ((1, containers), left));
        shop.start_again().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_exceeded_refuses_before_anything_is_made() -> Result<()> {
    let mut shop = Shop::of(&[HOOKED, PLAIN]).await?;
    for image in ["shop:1", "shop:2"] {
        shop.cleanly(What::Deploy(image)).await?;
    }
    shop.platform = shop.platform.clone().quota(&shop.app.name, 1);
    for what in [What::Rollback("shop:1"), What::Deploy("shop:1")] {
        let error = shop.refused(what).await?;
        assert_eq!(error, Error::QuotaExceeded { available: 1, requested: 2 });
        let places = shop.calls.script().places.clone();
        let made = ["create", "start", "bind", "routers.", "append", "put-if"];
        let made = places.iter().map(kind).find(|kind| made.iter().any(|word| kind.contains(word)));
        assert_eq!(made, None);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_refuses_leaves_every_router_as_it_was() -> Result<()> {
    let mut shop = Shop::of(&[HOOKED, PLAIN]).await?;
    let other = AppRouter { name: OTHER_ROUTER.to_owned(), ..AppRouter::default() };
    shop.platform = shop.platform.clone().router(&shop.app.name, other);
    shop.cleanly(What::Deploy("shop:1")).await?;
    let routes = |shop: &Shop| -> Result<_> {
        Ok(shop.platform.record(&shop.app.name).context("the app")?.routes)
    };
    let before = routes(&shop)?;
    for router in [ROUTER, OTHER_ROUTER] {
        let check = before[router].healthcheck.as_ref().context("it looks")?;
        assert_eq!((check.path.as_str(), before[router].addresses.len()), ("/up", 1));
    }
    // The one refuses what the other has taken.
    for call in ["routers.add-routes", "routers.set-healthcheck", "routers.remove-routes"] {
        let aim = Some(((call.to_owned(), 2), Mishap::Fails));
        let ended = shop.run(What::Deploy("shop:2"), aim).await?;
        ensure!(ended.is_err() && shop.calls.script().met, "{call}: {ended:?}");
        assert_eq!(routes(&shop)?, before, "{call}");
        assert_eq!(shop.current().await.as_deref(), Some("shop:1"));
        let left = shop.look().await?.left();
        ensure!(left.is_empty(), "{call}: {left:?}");
    }
    // One that does not look is passed over, and the other is told.
    shop.platform = shop.platform.clone().without_healthcheck(ROUTER);
    shop.cleanly(What::Deploy("shop:2")).await?;
    let after = routes(&shop)?;
    let path = |router: &str| after[router].healthcheck.as_ref().map(|check| check.path.clone());
    // The image says nothing about routers, which look at `/` then.
    assert_eq!((path(ROUTER).as_deref(), path(OTHER_ROUTER).as_deref()), (Some("/up"), Some("/")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_run_before_each_process_and_after_it_works_in_every_new_unit() -> Result<()> {
    let mut shop = Shop::of(&[HOOKED]).await?;
    let changes = [
        (What::Deploy("shop:1"), 2),
        (What::Add(1, "worker"), 1),
        (What::Restart, 3),
        (What::Rebalance, 3),
    ];
    for (what, new) in changes {
        shop.cleanly(what).await?;
        let mut seen = shop.seen();
        let is = shop.look().await?;
        for unit in is.units.iter().filter(|unit| seen.contains_key(&unit.name)) {
            let container = is.containers.get(&unit.id).context("its container")?;
            let command = container.config.cmd.clone().unwrap_or_default();
            let program = if unit.process_name == "web" { "serve" } else { "work" };
            let line = command.last().context("a line")?;
            ensure!(line.ends_with(&format!("; b1 && b2 && exec {program}")), "{line}");
        }
        seen.retain(|_, done| done.as_slice() != ["started"]);
        assert_eq!(seen.len(), new, "{what:?}: {seen:?}");
        for unit in &is.units {
            let Some(done) = seen.remove(&unit.name) else { continue };
            let expected: &[&str] = match unit.process_name.as_str() {
                "web" => &["started", "asked for /up", "a1", "a2"],
                _ => &["started", "a1", "a2"],
            };
            assert_eq!(done, expected, "{what:?}");
        }
        ensure!(seen.is_empty(), "in no unit: {seen:?}");
    }
    // What only goes on where it is runs no hook after.
    for what in [What::Stop, What::Start] {
        shop.cleanly(what).await?;
    }
    let seen = shop.seen();
    assert_eq!(seen.values().flatten().collect::<Vec<_>>(), ["started"; 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_after_that_fails_is_the_last_and_the_old_units_go_on() -> Result<()> {
    let mut shop = Shop::of(&[HOOKED, PLAIN]).await?;
    shop.cleanly(What::Deploy("shop:2")).await?;
    *shop.played.fails.lock().unwrap() = Some("a1");
    shop.seen();
    let text = shop.refused(What::Deploy("shop:1")).await?.to_string();
    let (start, end) =
        ("couldn't execute restart:after hook \"a1\"(", "): unexpected exit code: 3");
    ensure!(text.starts_with(start) && text.ends_with(end), "{text}");
    let ran: Vec<String> = shop.seen().into_values().flatten().collect();
    ensure!(ran.contains(&"a1".to_owned()) && !ran.contains(&"a2".to_owned()), "{ran:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_before_that_fails_leaves_a_process_that_never_answers() -> Result<()> {
    let mut shop = Shop::of(&[HOOKED, PLAIN]).await?;
    shop.cleanly(What::Deploy("shop:2")).await?;
    // The shell ends with the hook, in place of the process.
    *shop.played.ends.lock().unwrap() = Some("b1 && b2 && exec serve");
    shop.seen();
    let text = shop.refused(What::Deploy("shop:1")).await?.to_string();
    ensure!(text.starts_with("healthcheck fail(") && text.contains("does not run"), "{text}");
    let web_ran = |done: &Vec<String>| done.iter().any(|what| what == "a1");
    assert_eq!(shop.seen().values().filter(|done| web_ran(done)).count(), 1, "in the worker alone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_are_checked_whatever_made_them_unless_an_old_one_is_stopped() -> Result<()> {
    let mut shop = Shop::of(&[HOOKED, PLAIN]).await?;
    for image in ["shop:1", "shop:2"] {
        shop.cleanly(What::Deploy(image)).await?;
    }
    for what in [
        What::Deploy("shop:1"),
        What::Rollback("shop:1"),
        What::Add(1, "web"),
        What::Restart,
        What::Rebalance,
    ] {
        shop.played.answers.lock().unwrap().push_back(404);
        let text = shop.refused(what).await?.to_string();
        ensure!(text.ends_with("wrong status code, expected 200, got: 404"), "{what:?}: {text}");
    }
    shop.cleanly(What::Stop).await?;
    shop.after(true).await?;
    shop.seen();
    shop.cleanly(What::Deploy("shop:1")).await?;
    assert_eq!(Shop::asked(&shop.seen()), 0, "nobody expects it to answer");
    shop.cleanly(What::Deploy("shop:2")).await?;
    assert_eq!(Shop::asked(&shop.seen()), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_web_process_is_the_one_of_that_name_or_the_only_one() -> Result<()> {
    let yaml = "healthcheck: {path: /up}\n";
    let pictures = [
        ("shop:1", "api: serve\n", yaml),
        ("shop:2", "api: serve\nworker: work\n", yaml),
        ("shop:3", "web: serve\napi: serve\n", yaml),
    ];
    let mut shop = Shop::of(&pictures).await?;
    for (image, web) in [("shop:1", Some("api")), ("shop:2", None), ("shop:3", Some("web"))] {
        shop.cleanly(What::Deploy(image)).await?;
        let (seen, is) = (shop.seen(), shop.look().await?);
        let mut asked = is.units.iter().filter(|unit| {
            seen.get(&unit.name).is_some_and(|done| done.contains(&"asked for /up".to_owned()))
        });
        assert_eq!(asked.next().map(|unit| unit.process_name.as_str()), web, "{image}");
        ensure!(asked.next().is_none(), "{image}: one process is asked");
        let routed: BTreeSet<String> = is
            .units
            .iter()
            .filter(|unit| Some(unit.process_name.as_str()) == web)
            .filter_map(|unit| unit.address.clone())
            .collect();
        assert_eq!(is.routes, routed, "{image}");
    }
    Ok(())
}
