//! The routes of apps, through a compiled component.

use gantry_core::{App, AppRouter, Error};
use gantry_engine::Chain;
use gantry_engine::memory::Platform;
use gantry_runtime::{CallError, Cause, Provisioner};
use serde_json::{Value, json};

use crate::calls::Kept;
use crate::world::{NAME, World, app, operation, plain};

/// A platform with the apps `web` and `api` on the router `front`, and `web` on `back` too, which does not look whether units work; `job` has no router.
fn platform() -> Platform {
    let router = |name: &str| AppRouter { name: name.into(), ..AppRouter::default() };
    let named = |name: &str| App { name: name.into(), ..app() };
    Platform::new()
        .app(app())
        .app(named("api"))
        .app(named("job"))
        .router("web", router("front"))
        .router("web", router("back"))
        .router("api", router("front"))
        .without_healthcheck("back")
}

struct Asking {
    plugin: Provisioner,
    platform: Platform,
}

impl Asking {
    async fn new() -> Self {
        let (world, platform) = (World::new(), platform());
        let backends = platform.backends(NAME, [("node-1", world.memory.clone())]);
        let world = World { chain: Chain::new(backends), ..world };
        Self { plugin: world.provisioner("routers", plain()).await, platform }
    }

    async fn ask(&self, command: &str, question: Value) -> Result<Value, CallError> {
        let (stdout, stderr) = (Kept::default(), Kept::default());
        let (operation, args) = (operation("op"), [question.to_string()]);
        let writers = (stdout.writer(), stderr.writer());
        self.plugin.execute(&operation, &app(), command, &args, writers.0, writers.1).await?;
        Ok(serde_json::from_str(&stdout.text()).unwrap())
    }

    async fn done(&self, command: &str, question: Value) -> Value {
        self.ask(command, question).await.unwrap()
    }

    /// The error that the guest sees.
    async fn refused(&self, command: &str, question: Value) -> Error {
        match self.ask(command, question).await.unwrap_err().cause {
            Cause::Plugin(error) => error,
            other => panic!("{other:?}"),
        }
    }
}

fn on(router: &str, app: &str, more: Value) -> Value {
    let mut question = json!({"router": router, "app": app});
    question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    question
}

fn addresses(addresses: &[&str]) -> Value {
    json!({"addresses": addresses})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_are_added_once_and_removed_whether_or_not_they_are_there() {
    let host = Asking::new().await;
    let (one, two) = ("http://10.0.0.1:32768", "http://10.0.0.2:32768");
    for _ in 0..2 {
        host.done("add-routes", on("front", "web", addresses(&[two, one]))).await;
    }
    let routes = || async { host.done("routes", on("front", "web", json!({}))).await };
    assert_eq!(routes().await, json!({"routes": [two, one]}), "in their order, each once");
    let other = host.done("routes", on("back", "web", json!({}))).await;
    assert_eq!(other, json!({"routes": []}), "each router has its own");
    for _ in 0..2 {
        host.done("remove-routes", on("front", "web", addresses(&[two, "http://no:1"]))).await;
    }
    assert_eq!(routes().await, json!({"routes": [one]}));
    // One that cannot be a route: none of them is added.
    let wrong = on("front", "web", addresses(&[two, "http://10.0.0.3"]));
    let error = host.refused("add-routes", wrong).await;
    assert!(matches!(&error, Error::InvalidArgument(text) if text.contains("http://10.0.0.3")));
    assert_eq!(routes().await, json!({"routes": [one]}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_or_an_app_that_is_not_there_is_not_found() {
    let host = Asking::new().await;
    for (router, app, told) in [
        ("side", "web", "the app `web` has no router \"side\""),
        ("back", "api", "the app `api` has no router \"back\""),
        ("front", "job", "the app `job` has no router \"front\""),
        ("front", "theirs", "no app `theirs`"),
    ] {
        let more = json!({"addresses": ["http://h:1"], "path": "/"});
        for command in ["add-routes", "remove-routes", "routes", "set-healthcheck"] {
            let error = host.refused(command, on(router, app, more.clone())).await;
            assert_eq!(error, Error::NotFound(told.into()), "{command} {router} {app}");
        }
    }
    for (router, other, told) in [
        ("side", "api", "the app `web` has no router \"side\""),
        ("back", "api", "the app `api` has no router \"back\""),
        ("front", "theirs", "no app `theirs`"),
    ] {
        let error = host.refused("swap", on(router, "web", json!({"other": other}))).await;
        assert_eq!(error, Error::NotFound(told.into()), "{router} {other}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_apps_exchange_their_names_and_keep_their_routes() {
    let host = Asking::new().await;
    host.done("add-routes", on("front", "web", addresses(&["http://w:1"]))).await;
    host.done("add-routes", on("front", "api", addresses(&["http://a:1"]))).await;
    let with = |app: &str| {
        let record = host.platform.record(app).unwrap();
        record.routes["front"].swapped_with.clone()
    };
    host.done("swap", on("front", "web", json!({"other": "api"}))).await;
    assert_eq!((with("web").as_deref(), with("api").as_deref()), (Some("api"), Some("web")));
    let routes = host.done("routes", on("front", "web", json!({}))).await;
    assert_eq!(routes, json!({"routes": ["http://w:1"]}));
    let itself = host.refused("swap", on("front", "web", json!({"other": "web"}))).await;
    assert!(matches!(itself, Error::InvalidArgument(_)), "{itself:?}");
    host.done("swap", on("front", "api", json!({"other": "web"}))).await;
    assert_eq!((with("web"), with("api")), (None, None), "a second time exchanges them back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_exchanged_with_one_other_only() {
    let host = Asking::new().await;
    let router = AppRouter { name: "front".into(), ..AppRouter::default() };
    let _ = host.platform.clone().router("job", router);
    host.done("swap", on("front", "web", json!({"other": "api"}))).await;
    for (app, other) in [("web", "job"), ("job", "api")] {
        let error = host.refused("swap", on("front", app, json!({"other": other}))).await;
        assert!(matches!(error, Error::Conflict(_)), "{app} {other}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_does_not_look_says_so_and_the_plugin_goes_on() {
    let host = Asking::new().await;
    let check = json!({"path": "/up", "status": 200, "body": "WORKING"});
    for _ in 0..2 {
        let looks = host.done("set-healthcheck", on("front", "web", check.clone())).await;
        assert_eq!(looks, json!({"looks": true}));
    }
    let looks = host.done("set-healthcheck", on("back", "web", check)).await;
    assert_eq!(looks, json!({"looks": false}));
    let routes = host.platform.record("web").unwrap().routes;
    let told = routes["front"].healthcheck.clone().unwrap();
    assert_eq!((&*told.path, told.status, &*told.body), ("/up", 200, "WORKING"));
    assert_eq!(routes.get("back").and_then(|routes| routes.healthcheck.clone()), None);
    for wrong in [json!({"path": "up"}), json!({"path": "/", "status": 99})] {
        let error = host.refused("set-healthcheck", on("front", "web", wrong)).await;
        assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    }
}
