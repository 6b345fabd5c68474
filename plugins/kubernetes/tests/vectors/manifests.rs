use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_kubernetes::cluster::Cluster;
use gantry_kubernetes::manifest::{Defaults, Workload, account, deployment, secret, service};
use gantry_kubernetes::probe::probe;
use gantry_kubernetes::process::{Change, Plan, Step};
use gantry_kubernetes::rollout::{Deadlines, Observation, Outcome, Rollout};
use gantry_kubernetes::volume::{Attached, Bind, Volume};
use gantry_kubernetes::{PREFIX, PROVISIONER, name};
use gantry_sdk::commands::UnitAgent;
use gantry_sdk::gantry_core::env::{PlatformEnv, app_envs, envs_for_app};
use gantry_sdk::gantry_core::labels::{
    ServiceAccountOptions, ServiceExtension, ServiceOptions, VolumeOptions,
};
use gantry_sdk::image::{Healthcheck, ImageMetadata};
use gantry_sdk::{App, EnvVar, Error, LabelSet};
use serde_json::{Value, json};

use crate::objects;
use crate::walk::{Ran, error, map, settings, text, texts, walk};

/// The variables of the platform, at the end of every environment.
const PLATFORM: [&str; 4] = ["TSURU_PROCESSNAME", "TSURU_HOST", "port", "PORT"];

#[test]
fn kube_probes() {
    walk("kube_probes", |case| {
        let check: Healthcheck =
            serde_json::from_value(case["healthcheck"].clone()).expect("a check");
        match probe(&check, case["port"].as_i64().expect("a port")) {
            Ok(made) => {
                assert_eq!((made.unwrap_or_default(), None), (case["probe"].clone(), error(case)))
            }
            Err(made) => assert_eq!(Some(made.to_string().as_str()), error(case)),
        }
        Ran::AsTheReference
    });
}

/// All objects of an app, by the name the vectors have for their kind.
#[derive(Default)]
struct Made {
    objects: BTreeMap<&'static str, Vec<Value>>,
    pods: i64,
    log: String,
}

impl Made {
    fn add(&mut self, field: &'static str, object: &Value) {
        let (api_version, kind) = match field {
            "deployments" => ("apps/v1", "Deployment"),
            "services" => ("v1", "Service"),
            "service_accounts" => ("v1", "ServiceAccount"),
            "secrets" => ("v1", "Secret"),
            "persistent_volumes" => ("v1", "PersistentVolume"),
            "persistent_volume_claims" => ("v1", "PersistentVolumeClaim"),
            unknown => panic!("no objects {unknown}"),
        };
        let objects = self.objects.entry(field).or_default();
        objects.push(objects::ours(object, api_version, kind));
        objects.sort_by_key(objects::name);
    }
}

#[test]
fn kube_manifests() {
    walk("kube_manifests", |case| {
        let input = &case["in"];
        let theirs = &case["objects"];
        let made = match make(input) {
            Ok(made) => made,
            Err(made) => {
                assert_eq!(Some(made.to_string().as_str()), error(case));
                // An app that cannot be made leaves no object behind, the service account neither (design 10.13): objects are made before the first is sent.
                let has_processes = input["custom_data"]["processes"] != json!({});
                assert_eq!(has_processes, theirs["service_accounts"].is_array());
                return if has_processes { Ran::Excused(13) } else { Ran::AsTheReference };
            }
        };
        assert_eq!(error(case), None);
        assert_eq!(made.log, text(case, "log"));
        assert_eq!(Some(made.pods), theirs["pod_count"].as_i64());
        for field in theirs.as_object().expect("objects").keys().filter(|key| *key != "pod_count") {
            let mut theirs = objects::all(theirs, field);
            if field == "deployments" {
                theirs.iter_mut().for_each(sort_env);
            }
            assert_eq!(made.objects.get(field.as_str()).unwrap_or(&Vec::new()), &theirs, "{field}");
        }
        assert!(made.objects.keys().all(|field| theirs[*field].is_array()));
        // A variable that the platform's hides is not there (design 10.9).
        let set = map(&input["app"], "envs_besides_TSURU_SERVICES");
        let hidden = set.keys().any(|name| PLATFORM.contains(&name.as_str()));
        if hidden { Ran::Excused(9) } else { Ran::AsTheReference }
    });
}

/// The app's variables came in no fixed order: ours are sorted by name, without those that the platform's hide.
fn sort_env(deployment: &mut Value) {
    let containers = &mut deployment["spec"]["template"]["spec"]["containers"];
    let env = containers[0]["env"].as_array_mut().expect("an environment");
    let system = env.split_off(env.len() - PLATFORM.len());
    env.retain(|variable| !PLATFORM.contains(&text(variable, "name")));
    env.sort_by_key(|variable| text(variable, "name").to_owned());
    env.extend(system);
}

/// What the first deploy of an image makes, and what it tells.
fn make(input: &Value) -> Result<Made, Error> {
    let app = &input["app"];
    let number = |field: &str| app[field].as_i64().unwrap_or_default();
    let app = App {
        name: text(app, "name").to_owned(),
        platform: text(app, "platform").to_owned(),
        pool: text(app, "pool").to_owned(),
        memory: number("memory"),
        swap: number("swap"),
        cpu_share: number("cpu_share").try_into().expect("in range"),
        ..App::default()
    };
    let image = text(input, "image");
    let mut metadata = ImageMetadata::from_custom_data(&input["custom_data"]).expect("custom data");
    if !text(input, "exposed_port").is_empty() {
        text(input, "exposed_port").clone_into(&mut metadata.exposed_port);
    }
    let processes: BTreeSet<String> = metadata.processes.keys().cloned().collect();
    let plan = Plan::new(&Change {
        image,
        processes: &processes,
        current: &BTreeSet::new(),
        states: None,
        labels: &BTreeMap::new(),
    })?;

    let settings = settings(&input["config"]);
    let cluster = Cluster { name: "c1".to_owned(), custom_data: map(input, "cluster_custom_data") };
    let defaults = Defaults::from_settings(&settings);
    let set: Vec<EnvVar> = map(&input["app"], "envs_besides_TSURU_SERVICES")
        .into_iter()
        .map(|(name, value)| EnvVar { name, value, public: true })
        .collect();
    let set = app_envs(&set, &[]);
    let token = set.iter().find(|env| env.name == "TSURU_APP_TOKEN");
    let token = token.map(|env| env.value.clone()).unwrap_or_default();
    let agent = UnitAgent::from_settings(&settings, &app.name, &token);

    let mut made = Made::default();
    let labels = LabelSet::service_account_labels(&ServiceAccountOptions {
        app_name: Some(&app.name),
        node_container_name: "",
        provisioner: PROVISIONER,
        prefix: PREFIX,
    });
    made.add("service_accounts", &account::of_app(&app.name, cluster.namespace(), &labels));
    if let Some(secret) = secret::for_image(image, &defaults.registry, cluster.namespace()) {
        made.add("secrets", &secret);
    }
    let volumes = volumes(&input["volume"], &app, &cluster)?;
    for object in &volumes.objects {
        let field = match text(object, "kind") {
            "PersistentVolume" => "persistent_volumes",
            _ => "persistent_volume_claims",
        };
        made.add(field, object);
    }
    let routers = texts(&input["app"], "routers");
    for step in &plan.steps {
        let Step::Update { process, target } = step else { continue };
        let options = ServiceOptions {
            app: &app,
            routers: &routers,
            process,
            replicas: target.replicas,
            extension: ServiceExtension {
                provisioner: PROVISIONER,
                prefix: PREFIX,
                ..ServiceExtension::default()
            },
        };
        let types = |router: &str| (router == "fake").then(|| "fake".to_owned());
        let mut labels = LabelSet::service_labels(&options, &types).expect("known routers");
        target.write(&mut labels);
        let envs = envs_for_app(&set, process, false, &PlatformEnv::from_settings(&settings));
        let workload = Workload {
            app: &app,
            process,
            image,
            metadata: &metadata,
            labels: &labels,
            replicas: target.running,
            envs: &envs,
            agent: &agent,
            volumes: &volumes,
            cluster: &cluster,
            defaults: &defaults,
        };
        made.add("deployments", &deployment::deployment(&workload)?);
        made.add("services", &service::service(&workload));
        made.add("services", &service::headless(&workload));
        made.pods += target.running;
        made.log += &rollout(&name::deployment(&app.name, process), process, target.running);
    }
    Ok(made)
}

fn volumes(volume: &Value, app: &App, cluster: &Cluster) -> Result<Attached, Error> {
    let mut attached = Attached::default();
    if volume.is_null() {
        return Ok(attached);
    }
    let name = text(volume, "name");
    let labels = LabelSet::volume_labels(&VolumeOptions {
        name,
        provisioner: PROVISIONER,
        pool: text(volume, "pool"),
        plan: text(volume, "plan_name"),
        prefix: PREFIX,
    });
    let bind = Bind {
        app: app.name.clone(),
        mount_point: text(volume, "mountpoint").to_owned(),
        read_only: volume["read_only"].as_bool().unwrap_or_default(),
    };
    let volume = Volume {
        name: name.to_owned(),
        plan: map(volume, "plan_opts"),
        options: map(volume, "opts"),
        binds: vec![bind],
    };
    attached.attach(&volume, &labels, cluster.namespace(), &app.name)?;
    Ok(attached)
}

/// What is told of a cluster that does everything at once.
fn rollout(deployment: &str, process: &str, units: i64) -> String {
    let object = json!({
        "metadata": {"name": deployment, "generation": 1},
        "spec": {"replicas": units},
        "status": {"observedGeneration": 1, "replicas": units, "updatedReplicas": units},
    });
    let deadlines = Deadlines { full: Duration::from_secs(1), healthcheck: Duration::from_secs(1) };
    let (lines, outcome) = Rollout::new(deployment, deadlines, &[]).observe(&Observation {
        deployment: &object,
        replica_sets: &[],
        pods: &[],
        events: &[],
        elapsed: Duration::ZERO,
    });
    assert_eq!(outcome, Outcome::Done);
    Rollout::headline(process) + &lines.concat()
}
