use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_core::container::LogConfig;
use gantry_core::policy::Grants;
use gantry_engine::call::{BuildOptions, ContainersCall, ExecOptions, HttpRequest, LogOptions};
use gantry_engine::{Config, Containers as _, Operation, Reply, Scope};

use crate::*;

/// A call of every kind that names a container.
fn all_about(id: &str) -> Vec<ContainersCall> {
    let id = || id.to_owned();
    let path = || "/".to_owned();
    let request = HttpRequest {
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        path: path(),
        port: PORT.to_owned(),
        timeout: 1000,
    };
    let options = LogOptions { lines: 1, follow: false, timestamps: false };
    let command = ExecOptions { command: vec!["true".to_owned()], ..ExecOptions::default() };
    vec![
        ContainersCall::Start { id: id() },
        ContainersCall::Stop { id: id(), seconds: 1 },
        ContainersCall::Remove { id: id(), force: true },
        ContainersCall::Inspect { id: id() },
        ContainersCall::Wait { id: id() },
        ContainersCall::Commit {
            id: id(),
            repository: String::new(),
            tag: String::new(),
            comment: String::new(),
            labels: BTreeMap::new(),
        },
        ContainersCall::Download { id: id(), path: path() },
        ContainersCall::Upload { id: id(), path: path() },
        ContainersCall::StatPath { id: id(), path: path() },
        ContainersCall::AttachCopy { id: id(), logs: false },
        ContainersCall::Attach { id: id(), logs: false },
        ContainersCall::Logs { id: id(), options },
        ContainersCall::Http { id: id(), request },
        ContainersCall::CreateExec { id: id(), options: command.clone() },
        ContainersCall::ExecSession { id: id(), options: command },
    ]
}

#[tokio::test]
async fn no_call_touches_a_container_of_another() {
    let engine = engine();
    let chain = Chain::new(backends(&engine));
    let operation = || Operation::new("op-2", Duration::from_secs(60));
    let others = Arc::new(Scope::new("acme", INSTANCE, operation()));
    let elsewhere = Arc::new(Scope::new("docker", "elsewhere", operation()));
    let ours = Arc::new(scope().with_grants(granted(&["images:commit"])));
    created(&chain, &others, "others").await;
    created(&chain, &elsewhere, "elsewhere").await;
    engine.create("by-hand", &spec()).await.unwrap();
    for name in ["others", "elsewhere", "by-hand"] {
        let id = engine.inspect(name).await.unwrap().id;
        for text in [name, &id, &id[..12]] {
            for call in all_about(text) {
                let what = format!("{} {text}", call.name());
                let error = reply(&chain, &ours, on_node(call)).await.unwrap_err();
                assert_eq!(error.kind(), "denied", "{what}");
                assert_eq!(
                    error.to_string(),
                    format!(
                        "the container `{name}` is not of the provisioner `docker`: the grant \
                         `containers:foreign` is needed, and the plugin does not ask for it"
                    )
                );
            }
        }
    }
    assert_eq!(engine.list(true, &BTreeMap::new()).await.unwrap().len(), 3);
    assert_eq!(engine.list(false, &BTreeMap::new()).await.unwrap(), []);
}

#[tokio::test]
async fn the_grant_for_containers_of_others_needs_both() {
    let engine = engine();
    let chain = Chain::new(backends(&engine));
    engine.create("by-hand", &spec()).await.unwrap();
    let foreign = || ["containers:foreign".parse().unwrap()];
    let asked = Arc::new(scope().with_grants(Arc::new(Grants::new(foreign(), []))));
    let error = reply(&chain, &asked, start("by-hand")).await.unwrap_err();
    assert!(error.to_string().ends_with("and the operator did not give it"), "{error}");
    let both = Arc::new(scope().with_grants(granted(&["containers:foreign"])));
    reply(&chain, &both, start("by-hand")).await.unwrap();
    assert!(engine.inspect("by-hand").await.unwrap().state.running);
    // What one scope may is not remembered for another.
    assert_eq!(reply(&chain, &asked, stop("by-hand")).await.unwrap_err().kind(), "denied");
    assert_eq!(names(&chain, &both).await, [""; 0], "a list has its own only");
}

#[tokio::test]
async fn an_unknown_container_is_not_found_and_not_denied() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    for call in all_about("nobody") {
        let (name, commits) = (call.name(), matches!(call, ContainersCall::Commit { .. }));
        let removes = matches!(call, ContainersCall::Remove { .. });
        match reply(&chain, &scope, on_node(call)).await {
            Ok(_) => assert!(removes, "{name}"),
            // Without the grant for it nothing is asked at all.
            Err(error) if commits => assert_eq!(error.kind(), "not-found", "{name}: {error}"),
            Err(error) => assert_eq!(error.kind(), "not-found", "{name}"),
        }
    }
}

#[tokio::test]
async fn a_container_that_reaches_the_machine_needs_a_grant() {
    let (chain, scope) = (Chain::new(backends(&engine())), scope());
    let mut privileged = spec();
    privileged.host_config.privileged = true;
    let mut bound = spec();
    bound.host_config.binds = vec!["/etc:/host:ro".to_owned()];
    let mut network = spec();
    "host".clone_into(&mut network.host_config.network_mode);
    let cases = [
        (privileged, "containers:privileged"),
        (bound, "containers:binds:/etc"),
        (network, "containers:host-network"),
    ];
    let denied = Arc::new(scope);
    for (index, (spec, grant)) in cases.into_iter().enumerate() {
        let name = format!("web-{index}");
        let call =
            || on_node(ContainersCall::Create { name: name.clone(), spec: Box::new(spec.clone()) });
        let error = reply(&chain, &denied, call()).await.unwrap_err();
        assert_eq!(error.kind(), "denied");
        assert_eq!(
            error.to_string(),
            format!(
                "`containers.create` is refused: the grant `{grant}` is needed, and the plugin \
                 does not ask for it"
            )
        );
        let allowed = Arc::new(crate::scope().with_grants(granted(&[grant])));
        reply(&chain, &allowed, call()).await.unwrap();
    }
}

#[tokio::test]
async fn a_path_is_bound_and_what_is_below_it_is_not() {
    let chain = Chain::new(backends(&engine()));
    let create = |name: &str, source: &str| {
        let mut spec = spec();
        spec.host_config.binds = vec![format!("{source}:/here")];
        on_node(ContainersCall::Create { name: name.to_owned(), spec: Box::new(spec) })
    };
    let exact = Arc::new(scope().with_grants(granted(&["containers:binds:/data"])));
    reply(&chain, &exact, create("web-1", "/data")).await.unwrap();
    // What is below may be a link that a container with the path made.
    let error = reply(&chain, &exact, create("web-2", "/data/link")).await.unwrap_err();
    assert!(error.to_string().contains("`containers:binds:/data/link`"), "{error}");
    let below = Arc::new(scope().with_grants(granted(&["containers:binds:/data/*"])));
    reply(&chain, &below, create("web-2", "/data/link")).await.unwrap();
}

#[tokio::test]
async fn logs_go_where_the_operator_configured_or_need_a_grant() {
    let chain = Chain::new(backends(&engine()));
    let create = |name: &str, driver: &str| {
        let mut spec = spec();
        let driver = driver.to_owned();
        spec.host_config.log_config = Some(LogConfig { driver, ..LogConfig::default() });
        on_node(ContainersCall::Create { name: name.to_owned(), spec: Box::new(spec) })
    };
    let tables = serde_json::json!({"docker": {"log-driver": "journald"}});
    let scope = || scope().with_config(Arc::new(Config::new(tables.clone())));
    let denied = Arc::new(scope());
    let error = reply(&chain, &denied, create("web-1", "syslog")).await.unwrap_err();
    assert_eq!(error.kind(), "denied");
    assert!(error.to_string().contains("`containers:log-drivers`"), "{error}");
    reply(&chain, &denied, create("web-2", "journald")).await.unwrap();
    let allowed = Arc::new(scope().with_grants(granted(&["containers:log-drivers"])));
    reply(&chain, &allowed, create("web-3", "syslog")).await.unwrap();
}

#[tokio::test]
async fn changing_images_needs_a_grant_and_looking_at_them_none() {
    let (chain, denied) = (Chain::new(backends(&engine())), Arc::new(scope()));
    created(&chain, &denied, "web-1").await;
    let image = || IMAGE.to_owned();
    let options = BuildOptions { name: "built:v1".to_owned(), ..BuildOptions::default() };
    let cases = [
        (ContainersCall::RemoveImage { image: image() }, "images:remove"),
        (
            ContainersCall::TagImage {
                image: image(),
                repository: "other".to_owned(),
                tag: "v1".to_owned(),
            },
            "images:tag",
        ),
        (ContainersCall::BuildImage { options }, "images:build"),
        (ContainersCall::PushImage { image: image() }, "images:push"),
        (
            ContainersCall::Commit {
                id: "web-1".to_owned(),
                repository: String::new(),
                tag: String::new(),
                comment: String::new(),
                labels: BTreeMap::new(),
            },
            "images:commit",
        ),
    ];
    for (call, grant) in cases {
        let error = reply(&chain, &denied, on_node(call)).await.unwrap_err();
        assert_eq!(error.kind(), "denied", "{grant}");
        assert!(error.to_string().contains(&format!("`{grant}`")), "{error}");
    }
    for call in [
        ContainersCall::InspectImage { image: image() },
        ContainersCall::ImageHistory { image: image() },
    ] {
        reply(&chain, &denied, on_node(call)).await.unwrap();
    }
    let pull = ContainersCall::PullImage { image: image() };
    let error = reply(&chain, &denied, on_node(pull)).await.unwrap_err();
    assert_eq!(error.kind(), "not-found", "it was asked for: {error}");
}

#[tokio::test]
async fn a_command_belongs_to_the_call_that_prepared_it() {
    let (chain, ours) = (Chain::new(backends(&engine())), Arc::new(scope()));
    created(&chain, &ours, "web-1").await;
    reply(&chain, &ours, start("web-1")).await.unwrap();
    let options = ExecOptions { command: vec!["true".to_owned()], ..ExecOptions::default() };
    let prepare = ContainersCall::CreateExec { id: "web-1".to_owned(), options };
    let Reply::Text(exec_id) = reply(&chain, &ours, on_node(prepare)).await.unwrap() else {
        panic!("no exec");
    };
    let inspect = || on_node(ContainersCall::InspectExec { exec_id: exec_id.clone() });
    reply(&chain, &ours, inspect()).await.unwrap();
    let error = reply(&chain, &Arc::new(scope()), inspect()).await.unwrap_err();
    assert_eq!(error.kind(), "not-found");
    assert_eq!(error.to_string(), format!("no exec `{exec_id}` was prepared by this call"));
}
