use gantry_kubernetes::name;

use crate::walk::{Ran, text, walk};

#[test]
fn kube_names() {
    walk("kube_names", |case| {
        let (app, process) = (text(case, "app"), text(case, "process"));
        let (named, pool) = (text(case, "name"), text(case, "pool"));
        let registry = case["registry"].as_str().unwrap_or(named);
        let mut compared = 0;
        for (field, made) in [
            ("build_pod_v1", name::build_pod(app, "v1", "")),
            ("build_pod_v1_suffix_suf", name::build_pod(app, "v1", "suf")),
            ("deploy_pod_v1", name::deploy_pod(app, "v1")),
            ("deployment", name::deployment(app, process)),
            ("exec_pod", name::isolated_pod(app)),
            ("headless_service", name::headless_service(app, process)),
            ("claim", name::volume_claim(named)),
            ("daemonset", name::daemon_set(named, pool)),
            ("volume", name::volume(named)),
            ("secret", name::registry_secret(registry)),
        ] {
            if let Some(theirs) = case[field].as_str() {
                assert_eq!(made, theirs, "{field}");
                compared += 1;
            }
        }
        if let Some(account) = case["service_account"].as_str() {
            let made = if case["app"].is_null() {
                name::node_container_account(named)
            } else {
                name::app_account(app)
            };
            assert_eq!(made, account);
            compared += 1;
        }
        let inputs = ["app", "process", "name", "pool", "registry"];
        let given = inputs.iter().filter(|field| case.get(field).is_some()).count();
        assert_eq!(compared + given, case.as_object().expect("fields").len());
        Ran::AsTheReference
    });
}
