use gantry_engine::call::cluster::{PodExecOptions, PodLogOptions};
use gantry_engine::stream::Output;
use gantry_engine::{Request, layer::identity::OWNER};

use super::*;

/// Calls with everything beside them that they may need.
async fn sent(house: &House, scope: &Arc<Scope>, call: ClusterCall) -> Result<Reply, Error> {
    let output =
        Output { stdout: Box::pin(tokio::io::sink()), stderr: Box::pin(tokio::io::sink()) };
    let request = Request::new(on_cluster(call), None, Some(output));
    house.chain.send(scope, request).await.map(|response| response.reply)
}

/// A call of every sort that names an object, with the verb that it needs.
fn all_about(kind: &Kind, name: &str) -> Vec<(&'static str, ClusterCall)> {
    let note = || json!({"metadata": {"annotations": {"note": "seen"}}});
    let operation = json!([{"op": "add", "path": "/metadata/finalizers", "value": []}]);
    let mut applied = object(kind, name);
    applied["metadata"]["annotations"] = json!({"note": "seen"});
    let mut calls = vec![
        ("read", get(kind, name)),
        ("write", apply(applied)),
        ("write", merge(kind, name, note())),
        ("write", patch(kind, name, Patch::Strategic(note()))),
        ("write", patch(kind, name, Patch::Json(operation))),
        ("write", put_back(kind, name)),
        ("write", delete(kind, name)),
    ];
    if kind.kind == "Pod" {
        let (namespace, pod) = (|| home(kind), || name.to_owned());
        let options = || PodExecOptions { command: vec!["true".to_owned()], ..Default::default() };
        let log = PodLogOptions::default();
        calls.extend([
            ("exec", ClusterCall::Exec { namespace: namespace(), pod: pod(), options: options() }),
            (
                "exec",
                ClusterCall::ExecSession { namespace: namespace(), pod: pod(), options: options() },
            ),
            (
                "exec",
                ClusterCall::Attach { namespace: namespace(), pod: pod(), options: options() },
            ),
            (
                "exec",
                ClusterCall::AttachSession {
                    namespace: namespace(),
                    pod: pod(),
                    options: options(),
                },
            ),
            ("exec", ClusterCall::PortForward { namespace: namespace(), pod: pod(), port: 80 }),
            ("logs", ClusterCall::Logs { namespace: namespace(), pod: pod(), options: log }),
            (
                "write",
                ClusterCall::Evict { namespace: namespace(), pod: pod(), grace_seconds: None },
            ),
        ]);
    }
    calls
}

fn some_kinds() -> [Kind; 6] {
    [
        config_maps(),
        Kind::new("v1", "Secret"),
        pods(),
        deployments(),
        nodes(),
        Kind::new("v1", "PersistentVolume"),
    ]
}

/// Objects that are not ours: made by hand, by another plugin, and by another installation.
async fn strangers(kind: &Kind) -> (House, [&'static str; 3]) {
    let house = House::new();
    house.cluster.put(&object(kind, "by-hand")).unwrap();
    house.object(&acme("op-0"), create(object(kind, "theirs"))).await;
    let elsewhere = scope_of("kubernetes", "elsewhere", "op-0", &OWN);
    house.object(&elsewhere, create(object(kind, "elsewhere"))).await;
    (house, ["by-hand", "theirs", "elsewhere"])
}

#[tokio::test]
async fn what_is_done_to_an_object_of_another_needs_the_grant_that_the_refusal_names() {
    let mut rows = 0;
    for kind in some_kinds() {
        for (verb, call) in all_about(&kind, "by-hand") {
            let what = call.name();
            // Nothing granted, the right to its own, and the right to everybody's.
            let own = format!("cluster:{verb}:{kind}");
            let foreign = format!("cluster:foreign:{verb}:{kind}");
            let (house, names) = strangers(&kind).await;
            let nothing = scope_of("kubernetes", INSTANCE, "op-1", &[]);
            let error = sent(&house, &nothing, call).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "`{what}` is refused: the grant `{own}` is needed, and the plugin does not \
                     ask for it"
                )
            );
            for name in names {
                let call = || {
                    let all = all_about(&kind, name).into_iter();
                    all.map(|(_, call)| call).find(|call| call.name() == what).unwrap()
                };
                let before = house.there(&kind, &home(&kind), name).await.unwrap();
                let scope = scope_of("kubernetes", INSTANCE, "op-2", &[&own]);
                let error = sent(&house, &scope, call()).await.unwrap_err();
                assert_eq!(error.kind(), "denied", "{what} {kind}: {error}");
                let told = error.to_string();
                let why = format!(
                    "is not of the provisioner `kubernetes`: the grant `{foreign}` is needed, \
                     and the plugin does not ask for it"
                );
                assert!(told.starts_with(&format!("`{what}` is refused: the {}", kind.kind)));
                assert!(told.ends_with(&why) && told.contains(name), "{told}");
                assert_eq!(house.there(&kind, &home(&kind), name).await, Some(before));

                let scope = scope_of("kubernetes", INSTANCE, "op-3", &[&foreign]);
                match sent(&house, &scope, call()).await {
                    Ok(_) => {}
                    // It came to the cluster, which plays no pods.
                    Err(error) => {
                        assert!(["exec", "logs"].contains(&verb), "{what} {kind}: {error}");
                        assert_eq!(error.kind(), "conflict", "{what}: {error}");
                    }
                }
                rows += 1;
            }
        }
    }
    println!("{rows} refusals, each allowed with its grant");
}

#[tokio::test]
async fn lists_watches_and_creates_need_their_grants_too() {
    for kind in some_kinds() {
        let house = House::new();
        for (verb, call) in
            [("read", list(&kind)), ("read", watch(&kind)), ("write", create(object(&kind, "web")))]
        {
            let nothing = scope_of("kubernetes", INSTANCE, "op-1", &[]);
            let grant = format!("cluster:{verb}:{kind}");
            let (case, told) = house.refused(&nothing, call.clone()).await;
            assert_eq!(case, "denied");
            assert!(told.contains(&format!("`{grant}`")), "{told}");
            let scope = scope_of("kubernetes", INSTANCE, "op-1", &[&grant]);
            house.done(&scope, call).await;
        }
    }
}

#[tokio::test]
async fn a_grant_is_in_force_when_it_is_asked_for_and_given() {
    let house = House::new();
    let foreign = "cluster:foreign:write:ConfigMap".parse().unwrap();
    house.cluster.put(&map("by-hand", "1")).unwrap();
    let own = OWN.map(|grant| grant.parse().unwrap());
    let grants =
        gantry_core::policy::Grants::new(own.iter().cloned().chain([foreign]), own.clone());
    let scope = Scope::new("kubernetes", INSTANCE, operation("op-1"));
    let scope = Arc::new(scope.with_grants(Arc::new(grants)));
    let (_, told) = house.refused(&scope, apply(map("by-hand", "2"))).await;
    assert!(told.ends_with("and the operator did not give it"), "{told}");
}

#[tokio::test]
async fn another_namespace_needs_a_grant_and_all_of_them_another() {
    let house = House::new();
    let mut there = map("web", "1");
    there["metadata"]["namespace"] = "kube-public".into();
    let selection =
        |namespace: &str| Selection { namespace: namespace.to_owned(), ..Selection::default() };
    let list_in = |namespace: &str| ClusterCall::List {
        kind: config_maps(),
        selection: selection(namespace),
        limit: 0,
        after: String::new(),
    };
    let watch_in = |namespace: &str| ClusterCall::Watch {
        kind: config_maps(),
        selection: selection(namespace),
    };
    let name = || "web".to_owned();
    let namespace = || "kube-public".to_owned();
    let get = ClusterCall::Get { kind: config_maps(), namespace: namespace(), name: name() };
    let patch = ClusterCall::Patch {
        kind: config_maps(),
        namespace: namespace(),
        name: name(),
        subresource: String::new(),
        patch: Patch::Merge(json!({"data": {"word": "2"}})),
        dry_run: false,
    };
    let options = DeleteOptions::default();
    let delete =
        ClusterCall::Delete { kind: config_maps(), namespace: namespace(), name: name(), options };
    let one = "cluster:namespace:kube-public";
    let all = "cluster:namespace:*";
    for (call, grant) in [
        (create(there.clone()), one),
        (apply(there.clone()), one),
        (get, one),
        (patch, one),
        (list_in("kube-public"), one),
        (watch_in("kube-public"), one),
        (delete, one),
        (list_in(""), all),
        (watch_in(""), all),
    ] {
        let (kind, told) = house.refused(&ours("op-1"), call.clone()).await;
        assert_eq!(kind, "denied", "{}", call.name());
        assert!(told.contains(&format!("`{grant}`")), "{told}");
        if grant == all {
            let (_, told) = house.refused(&ours_and("op-1", &[one]), call.clone()).await;
            assert!(told.contains(&format!("`{all}`")), "{told}");
        }
        house.done(&ours_and("op-1", &[grant]), call).await;
    }
}

#[tokio::test]
async fn a_cluster_is_only_there_for_whom_it_was_given_to() {
    let house = House::new();
    let clusters = &house.chain.backends().clusters;
    clusters.take("kubernetes", NORTH);
    let (kind, told) = house.refused(&ours("op-1"), get(&config_maps(), "web")).await;
    assert_eq!(kind, "not-found");
    assert_eq!(told, "no cluster `north` was given to the provisioner `kubernetes`");
}

/// What pods reach for, and the grant that it takes.
fn reaches() -> Vec<(Value, &'static str)> {
    let container = |more: Value| {
        let mut container = json!({"name": "web", "image": "web:1"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let context = |context: Value| container(json!({"securityContext": context}));
    vec![
        (json!({"hostNetwork": true}), "containers:host-network"),
        (
            container(json!({"ports": [{"containerPort": 80, "hostPort": 80}]})),
            "containers:host-network",
        ),
        (json!({"hostPID": true}), "containers:host-pid"),
        (json!({"hostIPC": true}), "containers:host-pid"),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/srv"}}]}),
            "containers:binds:/srv",
        ),
        (context(json!({"privileged": true})), "containers:privileged"),
        (context(json!({"procMount": "Unmasked"})), "containers:privileged"),
        (context(json!({"windowsOptions": {"hostProcess": true}})), "containers:privileged"),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "containers:privileged",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.x", "value": "1"}]}}),
            "containers:privileged",
        ),
        (context(json!({"capabilities": {"add": ["NET_ADMIN"]}})), "containers:capabilities"),
        (context(json!({"seccompProfile": {"type": "Unconfined"}})), "containers:security-options"),
    ]
}

/// The pods of an object with more in them.
fn reaching(kind: &Kind, name: &str, more: &Value) -> Value {
    let mut object = object(kind, name);
    let path = match &*kind.kind {
        "Pod" => "/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    };
    let spec = object.pointer_mut(path).unwrap().as_object_mut().unwrap();
    spec.extend(more.as_object().unwrap().clone());
    object
}

#[tokio::test]
async fn what_a_pod_reaches_for_needs_the_grant_of_a_container_whichever_kind_makes_it() {
    let mut rows = 0;
    for kind in [pods(), deployments(), Kind::new("batch/v1", "CronJob")] {
        for (more, grant) in reaches() {
            let house = House::new();
            house.object(&ours("op-0"), create(object(&kind, "old"))).await;
            let change = || {
                let mut document = reaching(&kind, "old", &more);
                document["metadata"] = json!({});
                document
            };
            for call in [
                create(reaching(&kind, "new-1", &more)),
                apply(reaching(&kind, "new-2", &more)),
                merge(&kind, "old", change()),
                patch(&kind, "old", Patch::Strategic(change())),
            ] {
                let what = call.name();
                let before = house.there(&kind, "default", "old").await;
                let (case, told) = house.refused(&ours("op-1"), call.clone()).await;
                assert_eq!(case, "denied", "{what} {kind} {more}");
                assert_eq!(
                    told,
                    format!(
                        "`{what}` is refused: the grant `{grant}` is needed, and the plugin does \
                         not ask for it"
                    )
                );
                assert_eq!(house.there(&kind, "default", "old").await, before);
                match house.send(&ours_and("op-1", &[grant]), call).await {
                    Ok(_) => {}
                    // Of a pod that is there hardly anything can be changed, says the cluster.
                    Err(error) => assert!(
                        kind == pods() && what == "cluster.patch" && error.kind() == "invalid",
                        "{what} {kind} {more}: {error}"
                    ),
                }
                rows += 1;
            }
        }
    }
    println!("{rows} pods that reach for something");
}

#[tokio::test]
async fn a_profile_in_the_annotations_of_a_pod_needs_what_the_field_does() {
    const PROFILE: &str = "container.apparmor.security.beta.kubernetes.io/web";
    let annotations = json!({PROFILE: "unconfined"});
    let with = |kind: &Kind, name: &str| {
        let mut object = object(kind, name);
        let pod = if *kind == pods() { "/metadata" } else { "/spec/template/metadata" };
        object.pointer_mut(pod).unwrap()["annotations"] = annotations.clone();
        object
    };
    let path = format!("/metadata/annotations/{}", PROFILE.replace('/', "~1"));
    let operations = |path: &str, value: Value| {
        Patch::Json(json!([{"op": "add", "path": path, "value": value}]))
    };
    for kind in [pods(), deployments()] {
        let house = House::new();
        let mut old = object(&kind, "old");
        old["metadata"]["annotations"] = json!({"note": "x"});
        house.object(&ours("op-0"), create(old)).await;
        let change = || {
            let mut document = with(&kind, "old");
            let metadata = document["metadata"].as_object_mut().unwrap();
            metadata.retain(|key, _| key == "annotations");
            document
        };
        let mut calls = vec![
            create(with(&kind, "new-1")),
            apply(with(&kind, "new-2")),
            merge(&kind, "old", change()),
            patch(&kind, "old", Patch::Strategic(change())),
        ];
        if kind == pods() {
            calls.push(patch(&kind, "old", operations(&path, "unconfined".into())));
            calls.push(patch(
                &kind,
                "old",
                operations("/metadata/annotations", annotations.clone()),
            ));
        }
        for call in calls {
            let what = call.name();
            let (case, told) = house.refused(&ours("op-1"), call.clone()).await;
            assert_eq!(case, "denied", "{what} {kind}");
            assert!(told.contains("the grant `containers:security-options` is needed"), "{told}");
            house.done(&ours_and("op-1", &["containers:security-options"]), call).await;
        }
        let harmless = operations("/metadata/annotations", json!({"note": "y"}));
        house.done(&ours("op-1"), patch(&kind, "old", harmless)).await;
    }
}

#[tokio::test]
async fn single_fields_of_a_pod_need_everything() {
    let house = House::new();
    house.object(&ours("op-0"), apply(object(&deployments(), "web"))).await;
    let image = "/spec/template/spec/containers/0/image";
    let change = Patch::Json(json!([{"op": "replace", "path": image, "value": "web:2"}]));
    let change = patch(&deployments(), "web", change);
    let (_, told) = house.refused(&ours("op-1"), change.clone()).await;
    assert!(told.contains("`containers:privileged`"), "{told}");
    house.done(&ours_and("op-1", &["containers:privileged"]), change).await;
    let scale = Patch::Json(json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]));
    house.done(&ours("op-1"), patch(&deployments(), "web", scale)).await;
}

#[tokio::test]
async fn what_else_reaches_the_machine_needs_a_grant_too() {
    let (volumes, services) = (Kind::new("v1", "PersistentVolume"), Kind::new("v1", "Service"));
    let mut volume = object(&volumes, "web");
    volume["spec"] = json!({"hostPath": {"path": "/srv/web"}, "capacity": {"storage": "1Gi"}});
    let mut local = object(&volumes, "local");
    local["spec"] = json!({"local": {"path": "/srv/local"}, "capacity": {"storage": "1Gi"}});
    let mut service = object(&services, "web");
    service["spec"]["externalIPs"] = json!(["10.0.0.1"]);
    for (object, grant) in [
        (volume, "containers:binds:/srv/web"),
        (local, "containers:binds:/srv/local"),
        (service, "containers:host-network"),
    ] {
        let house = House::new();
        let (_, told) = house.refused(&ours("op-1"), apply(object.clone())).await;
        assert!(told.contains(&format!("`{grant}`")), "{told}");
        house.done(&ours_and("op-1", &[grant]), apply(object)).await;
    }
}

/// How a pod is given something of another object, and the kind of that.
fn given() -> Vec<(Value, &'static str)> {
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        json!({"volumes": [volume]})
    };
    let container = |key: &str, value: Value| json!({"containers": [{"name": "web", "image": "web:1", key: value}]});
    let env = |source: Value| container("env", json!([{"name": "A", "valueFrom": source}]));
    vec![
        (json!({"serviceAccountName": "it"}), "ServiceAccount"),
        (json!({"imagePullSecrets": [{"name": "it"}]}), "Secret"),
        (volume(json!({"secret": {"secretName": "it"}})), "Secret"),
        (volume(json!({"configMap": {"name": "it"}})), "ConfigMap"),
        (volume(json!({"persistentVolumeClaim": {"claimName": "it"}})), "PersistentVolumeClaim"),
        (volume(json!({"projected": {"sources": [{"secret": {"name": "it"}}]}})), "Secret"),
        (container("envFrom", json!([{"secretRef": {"name": "it"}}])), "Secret"),
        (container("envFrom", json!([{"configMapRef": {"name": "it"}}])), "ConfigMap"),
        (env(json!({"secretKeyRef": {"name": "it", "key": "k"}})), "Secret"),
        (env(json!({"configMapKeyRef": {"name": "it", "key": "k"}})), "ConfigMap"),
    ]
}

#[tokio::test]
async fn a_pod_is_given_own_objects_and_others_with_the_grant_to_read_them() {
    let mut rows = 0;
    for maker in [pods(), deployments(), Kind::new("batch/v1", "CronJob")] {
        for (more, kind) in given() {
            let kind = Kind::new("v1", kind);
            let house = House::new();
            let make = || apply(reaching(&maker, "web", &more));
            let grant = format!("cluster:foreign:read:{kind}");
            // What is not there is nobody's, unless the pods are given it when somebody makes it.
            let handed = more.get("imagePullSecrets").is_none()
                && ["Secret", "ConfigMap"].contains(&&*kind.kind);
            let scope = if handed {
                let (case, told) = house.refused(&ours("op-1"), make()).await;
                assert_eq!(case, "denied", "{more}");
                assert_eq!(
                    told,
                    format!(
                        "`cluster.apply` is refused: the {} `default/it` is not there, and whoever \
                         makes it gives it to these pods: make what pods are given before them; \
                         else the grant `{grant}` is needed, and the plugin does not ask for it",
                        kind.kind
                    )
                );
                assert_eq!(house.there(&maker, "default", "web").await, None);
                ours_and("op-1", &[&grant])
            } else {
                ours("op-1")
            };
            house.done(&scope, make()).await;
            house.done(&scope, delete(&maker, "web")).await;

            house.object(&acme("op-0"), create(object(&kind, "it"))).await;
            let change = json!({"spec": reaching(&maker, "web", &more)["spec"]});
            let mut calls = vec![create(reaching(&maker, "web", &more)), make()];
            if maker != pods() {
                house.object(&ours("op-1"), create(object(&maker, "old"))).await;
                calls.push(merge(&maker, "old", change.clone()));
                calls.push(patch(&maker, "old", Patch::Strategic(change)));
            }
            for call in calls {
                let (case, told) = house.refused(&ours("op-2"), call.clone()).await;
                assert_eq!(case, "denied", "{more}");
                assert!(told.contains(&format!("the {} `default/it`", kind.kind)), "{told}");
                assert!(told.contains(&format!("`{grant}`")), "{told}");
                house.done(&ours_and("op-2", &[&grant]), call.clone()).await;
                if let ClusterCall::Create { object, .. } = &call {
                    let name = object["metadata"]["name"].as_str().unwrap();
                    house.done(&ours("op-2"), delete(&maker, name)).await;
                }
                rows += 1;
            }
            let house = House::new();
            house.object(&ours("op-0"), create(object(&kind, "it"))).await;
            house.done(&ours("op-1"), make()).await;
        }
    }
    println!("{rows} pods that are given something of others");
}

#[tokio::test]
async fn what_was_ours_and_is_made_anew_by_somebody_else_is_given_to_no_pod_of_ours() {
    for (more, kind) in given() {
        let kind = Kind::new("v1", kind);
        let (house, scope) = (House::new(), ours("op-1"));
        let make = || apply(reaching(&deployments(), "web", &more));
        house.object(&scope, apply(object(&kind, "it"))).await;
        house.done(&scope, make()).await;
        house.done(&scope, delete(&deployments(), "web")).await;
        // Behind our back it is deleted, and somebody else makes one of that name.
        house.cluster.delete(&kind, "default", "it", &DeleteOptions::default()).await.unwrap();
        house.object(&acme("op-2"), create(object(&kind, "it"))).await;
        for scope in [&scope, &ours("op-3")] {
            let (case, told) = house.refused(scope, make()).await;
            assert_eq!(case, "denied", "{more}");
            assert!(told.contains(&format!("`cluster:foreign:read:{kind}`")), "{told}");
            assert_eq!(house.there(&deployments(), "default", "web").await, None);
        }
    }
}

#[tokio::test]
async fn what_an_object_names_is_looked_at_together() {
    let house = House::new();
    let names = ["a", "b", "c"];
    for name in names {
        house.object(&ours("op-1"), create(map(name, "1"))).await;
    }
    let below = Arc::new(Together(tokio::sync::Barrier::new(names.len())));
    let chain = house.chain_over(below);
    let volumes: Vec<_> =
        names.iter().map(|name| json!({"name": name, "configMap": {"name": name}})).collect();
    let pod = reaching(&pods(), "web", &json!({"volumes": volumes}));
    let scope = ours("op-2");
    let sent = chain.send(&scope, on_cluster(create(pod)));
    tokio::time::timeout(Duration::from_secs(10), sent).await.unwrap().map(drop).unwrap();
}

/// Holds each get back until there are as many as are looked at together.
struct Together(tokio::sync::Barrier);

#[async_trait::async_trait]
impl gantry_engine::Layer for Together {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: gantry_engine::Next,
    ) -> Result<Response, Error> {
        if request.call.name() == "cluster.get" {
            self.0.wait().await;
        }
        next.send(scope, request).await
    }
}

#[tokio::test]
async fn an_object_of_somebody_else_under_a_name_that_was_ours_is_theirs() {
    let kinds = [config_maps(), deployments(), pods()];
    for kind in kinds {
        for (_, call) in all_about(&kind, "web") {
            let house = House::new();
            let scope = ours("op-1");
            house.object(&scope, create(object(&kind, "web"))).await;
            house.object(&scope, get(&kind, "web")).await;
            // Behind our back it is deleted, and somebody else makes one of that name.
            house.cluster.delete(&kind, "default", "web", &DeleteOptions::default()).await.unwrap();
            house.object(&acme("op-2"), create(object(&kind, "web"))).await;
            let theirs = house.there(&kind, "default", "web").await;
            for scope in [&scope, &ours("op-3")] {
                let what = call.name();
                let error = sent(&house, scope, call.clone()).await.unwrap_err();
                assert!(["denied", "conflict"].contains(&error.kind()), "{what}: {error}");
                assert_eq!(house.there(&kind, "default", "web").await, theirs, "{what}");
            }
            let cleaned = crate::journal_clean_up(&house.chain, &scope).await;
            assert_eq!(cleaned, Default::default());
            assert_eq!(house.there(&kind, "default", "web").await, theirs);
        }
    }
}

#[tokio::test]
async fn an_object_that_appears_between_the_look_and_the_apply_is_never_touched() {
    let house = House::new();
    let scope = ours("op-1");
    let cluster = house.cluster.clone();
    // Somebody makes it right before our apply comes to the cluster.
    house.cluster.fail(move |call, number| {
        if call.name() == "cluster.apply" && number == 1 {
            cluster.put(&object(&config_maps(), "web")).unwrap();
        }
        None
    });
    let (kind, _) = house.refused(&scope, apply(map("web", "ours"))).await;
    assert_eq!(kind, "conflict");
    let there = house.there(&config_maps(), "default", "web").await.unwrap();
    assert_eq!(there.get("data"), None);
    assert_eq!(there["metadata"]["labels"].get(OWNER), None);
    let (kind, _) = house.refused(&scope, apply(map("web", "ours"))).await;
    assert_eq!(kind, "denied");
    assert_eq!(crate::journal_clean_up(&house.chain, &scope).await, Default::default());
    assert_eq!(house.there(&config_maps(), "default", "web").await, Some(there));
}

#[tokio::test]
async fn what_would_be_made_is_nobodys() {
    let house = House::new();
    let scope = ours("op-1");
    for asked in [
        ClusterCall::Create { object: map("web", "1"), dry_run: true },
        ClusterCall::Apply { object: map("web", "1"), dry_run: true },
    ] {
        house.object(&scope, asked).await;
    }
    assert_eq!(house.word("web").await, None);
    assert!(scope.ledger.loose_objects().is_empty());
    house.cluster.put(&map("web", "theirs")).unwrap();
    for call in [apply(map("web", "ours")), delete(&config_maps(), "web")] {
        assert_eq!(house.refused(&scope, call).await.0, "denied");
    }
    assert_eq!(house.word("web").await.as_deref(), Some("theirs"));
}

#[tokio::test]
async fn a_plugin_that_means_a_certain_object_touches_no_other() {
    let (house, scope) = (House::new(), ours("op-1"));
    house.object(&scope, apply(map("web", "1"))).await;
    let other = "00000000-0000-0000-0000-000000000000";
    let mut applied = map("web", "2");
    applied["metadata"]["uid"] = other.into();
    let options = DeleteOptions { uid: other.to_owned(), ..DeleteOptions::default() };
    for call in [
        apply(applied),
        merge(&config_maps(), "web", json!({"metadata": {"uid": other}, "data": {"word": "2"}})),
        ClusterCall::Delete {
            kind: config_maps(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            options,
        },
    ] {
        let what = call.name();
        assert_eq!(house.refused(&scope, call).await.0, "conflict", "{what}");
        assert_eq!(house.word("web").await.as_deref(), Some("1"), "{what}");
    }
}

#[tokio::test]
async fn an_object_that_is_not_there_is_not_found_and_not_denied() {
    for kind in some_kinds() {
        for (_, call) in all_about(&kind, "nobody") {
            let house = House::new();
            let what = call.name();
            match sent(&house, &ours("op-1"), call).await {
                Ok(Reply::Done) => {
                    assert!(
                        ["cluster.delete", "cluster.put-back", "cluster.evict"].contains(&what),
                        "{what}"
                    );
                }
                Ok(_) => assert_eq!(what, "cluster.apply"),
                Err(error) => assert_eq!(error.kind(), "not-found", "{what}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn an_own_object_is_looked_at_once_an_operation() {
    let house = House::new();
    let asked = || {
        let made = house.cluster.made();
        made.iter().map(|call| call.name()).collect::<Vec<_>>()
    };
    let scope = ours("op-1");
    house.object(&scope, apply(map("web", "1"))).await;
    assert_eq!(asked(), ["cluster.get", "cluster.apply"]);
    house.object(&scope, apply(map("web", "2"))).await;
    house.object(&scope, merge(&config_maps(), "web", json!({"data": {"more": "1"}}))).await;
    house.done(&scope, delete(&config_maps(), "web")).await;
    assert_eq!(asked()[2..], ["cluster.apply", "cluster.patch", "cluster.delete"]);
}

#[tokio::test]
async fn a_claim_takes_own_volumes_and_a_secret_the_token_of_an_own_account() {
    let claims = Kind::new("v1", "PersistentVolumeClaim");
    let secrets = Kind::new("v1", "Secret");
    let with = |kind: &Kind, pointer: &str, value: Value| {
        let mut object = object(kind, "web");
        object[pointer] = value;
        object
    };
    let claim = |spec: Value| with(&claims, "spec", spec);
    let mut token = object(&secrets, "web");
    token["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "it"});
    for (made, kind) in [
        (claim(json!({"volumeName": "it"})), "PersistentVolume"),
        (
            claim(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "it"}})),
            "PersistentVolumeClaim",
        ),
        (token, "ServiceAccount"),
    ] {
        let kind = Kind::new("v1", kind);
        let house = House::new();
        house.object(&acme("op-0"), create(object(&kind, "it"))).await;
        let (case, told) = house.refused(&ours("op-1"), apply(made.clone())).await;
        let grant = format!("cluster:foreign:read:{kind}");
        assert_eq!(case, "denied");
        assert!(told.contains(&format!("`{grant}`")), "{told}");
        house.done(&ours_and("op-1", &[&grant]), apply(made.clone())).await;

        let house = House::new();
        house.object(&ours("op-0"), create(object(&kind, "it"))).await;
        house.done(&ours("op-1"), apply(made)).await;
    }
}

#[tokio::test]
async fn what_is_no_part_of_an_object_cannot_be_patched() {
    let house = House::new();
    house.object(&ours("op-1"), create(object(&pods(), "web"))).await;
    for (part, refused) in [("proxy", true), ("exec", true), ("../secrets", true), ("", false)] {
        let note = json!({"metadata": {"annotations": {"note": part}}});
        let mut call = merge(&pods(), "web", note);
        if let ClusterCall::Patch { subresource, .. } = &mut call {
            part.clone_into(subresource);
        }
        let answer = house.send(&ours("op-1"), call).await.map(drop);
        assert_eq!(answer.is_err_and(|error| error.kind() == "invalid"), refused, "{part}");
    }
}

#[tokio::test]
async fn single_fields_of_other_kinds_need_what_the_whole_object_would() {
    let claims = Kind::new("v1", "PersistentVolumeClaim");
    let services = Kind::new("v1", "Service");
    let account = "/metadata/annotations/kubernetes.io~1service-account.name";
    for (kind, path, value, grant) in [
        // What stands before the first slash is passed over by the cluster too.
        (deployments(), "x/spec/template/spec/hostNetwork", json!(true), "containers:privileged"),
        (services, "/spec/externalIPs", json!(["10.0.0.1"]), "containers:host-network"),
        (claims, "/spec/volumeName", json!("theirs"), "cluster:foreign:read:PersistentVolume"),
        (Kind::new("v1", "Secret"), account, json!("robot"), "cluster:foreign:read:ServiceAccount"),
    ] {
        let house = House::new();
        let mut made = object(&kind, "web");
        made["metadata"]["annotations"] = json!({"note": "x"});
        house.object(&ours("op-0"), create(made)).await;
        let operations = json!([{"op": "add", "path": path, "value": value}]);
        let change = patch(&kind, "web", Patch::Json(operations));
        let (case, told) = house.refused(&ours("op-1"), change).await;
        assert_eq!(case, "denied", "{path}");
        assert!(told.contains(&format!("`{grant}`")), "{told}");
    }
}
