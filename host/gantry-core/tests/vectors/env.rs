use gantry_core::EnvVar;
use gantry_core::env::{PlatformEnv, Variable, envs_for_app};
use gantry_core::image::Healthcheck;
use serde_json::Value;

use crate::walk::{Ran, map, settings, text, walk};

/// The variables of the platform.
const PLATFORM: [&str; 4] = ["TSURU_PROCESSNAME", "TSURU_HOST", "port", "PORT"];

#[test]
fn envs_for_app_vectors() {
    walk("envs_for_app", |case| {
        let settings = settings(&case["config"]);
        let platform = PlatformEnv::from_settings(&settings);
        assert_eq!(platform.port, text(case, "web_process_default_port"));
        let app_envs: Vec<EnvVar> = map(case, "app_envs")
            .into_iter()
            .map(|(name, value)| EnvVar { name, value, public: true })
            .collect();
        let is_deploy = case["is_deploy"].as_bool().expect("a flag");
        let ours = envs_for_app(&app_envs, text(case, "process"), is_deploy, &platform);

        let theirs: Vec<Variable> = serde_json::from_value(case["out"].clone()).expect("pairs");
        let unordered = case["app_envs_unordered_prefix"].as_u64().expect("a count");
        let (of_app, system) = theirs.split_at(usize::try_from(unordered).expect("small"));
        let mut of_app = of_app.to_vec();
        // The order of the app's variables was never promised; ours is by name.
        of_app.sort();
        // Of two variables with one name only the platform's is left (design 10.9).
        let hidden = |name: &str| !is_deploy && PLATFORM.contains(&name);
        let expected: Vec<Variable> =
            of_app.into_iter().filter(|(name, _)| !hidden(name)).chain(system.to_vec()).collect();
        assert_eq!(ours, expected);
        if app_envs.iter().any(|env| hidden(&env.name)) {
            Ran::Excused(9)
        } else {
            Ran::AsTheReference
        }
    });
}

#[test]
fn router_hc() {
    walk("router_hc", |case| {
        let check: Healthcheck = serde_json::from_value(case["in"].clone()).expect("a check");
        let ours = check.to_router();
        let theirs = &case["out"];
        assert_eq!(Value::from(ours.status), theirs["Status"]);
        assert_eq!(ours.body, text(theirs, "Body"));
        let json: Value = serde_json::from_str(text(case, "json_of_input")).expect("it is JSON");
        let data = serde_json::json!({ "healthcheck": json });
        let read = gantry_core::image::ImageMetadata::from_custom_data(&data).expect("it is read");
        assert_eq!(read.healthcheck, check, "the reference's own JSON of it reads the same");
        // A check for routers without a path asks for `/` (design 10.10).
        if check.use_in_router && check.path.is_empty() {
            assert_eq!(ours.path, "/");
            return Ran::Excused(10);
        }
        assert_eq!(ours.path, text(theirs, "Path"));
        Ran::AsTheReference
    });
}
