//! Rules that hold for every input.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::image::{ImageHistory, ImageNames, split_image_name};
use gantry_core::labels::{LabelSet, Labels, ServiceExtension, ServiceOptions};
use gantry_core::node::split_metadata;
use gantry_core::policy::{Grant, Grants};
use gantry_core::record::{Report, reported_status};
use gantry_core::{App, EnvVar, Status, Unit};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;
use proptest::{collection, option, prop_assert, prop_assert_eq};

fn prefix() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("tsuru.io/".to_owned()),
        Just("tsuru.".to_owned()),
        "[a-z./]{1,6}"
    ]
}

/// Keys of the platform and others, some with a prefix already.
fn labels() -> impl Strategy<Value = Labels> {
    let key = prop_oneof![
        select(vec!["app-name", "app-process", "pool", "internal-node-addr", "is-build"])
            .prop_map(str::to_owned),
        select(vec!["tsuru.io/app-name", "tsuru.io/pool", "tsuru.io/internal-x", "tsuru.x"])
            .prop_map(str::to_owned),
        "[a-z./-]{0,8}",
    ];
    collection::btree_map(key, any::<String>(), 0..8)
}

fn status() -> impl Strategy<Value = Status> {
    select(Status::ALL.to_vec())
}

fn metadata(value: &'static str) -> impl Strategy<Value = Vec<BTreeMap<String, String>>> {
    collection::vec(collection::btree_map("[ab]", value, 0..3), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_the_seven_words_are_statuses(text in any::<String>()) {
        let known = Status::ALL.map(Status::as_str).contains(&text.as_str());
        prop_assert_eq!(text.parse::<Status>().is_ok(), known);
    }

    #[test]
    fn a_status_reads_as_it_is_shown(status in status()) {
        prop_assert_eq!(status.to_string().parse::<Status>(), Ok(status));
    }

    #[test]
    fn builds_and_sleepers_ignore_reports_and_nobody_else_does(
        status in option::of(status()), before in option::of(status()), reported in status(),
    ) {
        let ignored = reported_status(status, before, reported) == Report::Ignored;
        prop_assert_eq!(ignored, matches!(status, Some(Status::Building | Status::Asleep)));
    }

    #[test]
    fn what_a_service_is_labelled_with_is_read_back(
        name in any::<String>(), process in any::<String>(), replicas in any::<i64>(), restarts in any::<i64>(),
        is_deploy in any::<bool>(), is_isolated_run in any::<bool>(), prefix in prefix(),
    ) {
        let app = App { name: name.clone(), ..App::default() };
        let extension = ServiceExtension { prefix: &prefix, is_deploy, is_isolated_run, ..ServiceExtension::default() };
        let options = ServiceOptions { app: &app, routers: &[], process: &process, replicas, extension };
        let mut set = LabelSet::service_labels(&options, &|_: &str| None).unwrap();
        set.set_restarts(restarts);
        set.set_asleep();
        let read_back = LabelSet::new(set.to_labels(), &prefix);
        for set in [&set, &read_back] {
            prop_assert_eq!((set.app_name(), set.app_process()), (name.as_str(), process.as_str()));
            prop_assert_eq!((set.app_replicas(), set.restarts()), (replicas, restarts));
            prop_assert_eq!((set.is_deploy(), set.is_isolated_run()), (is_deploy, is_isolated_run));
            prop_assert!(set.is_service() && set.is_asleep() && !set.is_stopped());
        }
        prop_assert_eq!(set.to_selector(), read_back.to_selector());
        prop_assert_eq!(set.to_selector().len(), 4);
    }

    #[test]
    fn labels_outside_all_have_the_prefix_and_stay_the_same_when_read_back(labels in labels(), prefix in prefix()) {
        let set = LabelSet::new(labels, &prefix);
        let outside = set.to_labels();
        prop_assert!(outside.keys().all(|key| key.starts_with(&prefix)));
        prop_assert_eq!(LabelSet::new(outside.clone(), &prefix).to_labels(), outside);
    }

    #[test]
    fn a_selector_selects_what_carries_the_labels(labels in labels(), prefix in prefix()) {
        let set = LabelSet::new(labels, &prefix);
        let outside = set.to_labels();
        for selector in [
            set.to_selector(), set.to_app_selector(), set.to_node_selector(), set.to_node_by_pool_selector(),
            set.to_is_service_selector(), set.to_volume_selector(), set.to_node_container_selector(),
        ] {
            for (key, value) in selector {
                prop_assert_eq!(outside.get(&key), Some(&value));
            }
        }
    }

    #[test]
    fn a_stored_label_is_metadata_or_extra_data(labels in labels(), prefix in prefix()) {
        let set = LabelSet::new(labels.clone(), &prefix);
        let (mut metadata, extra) = (set.node_metadata(), set.node_extra_data(""));
        prop_assert_eq!(metadata.len() + extra.len(), labels.len());
        prop_assert_eq!(set.node_metadata_no_prefix().len(), metadata.len());
        metadata.extend(extra);
        prop_assert_eq!(metadata, labels);
    }

    #[test]
    fn splitting_into_labels_and_annotations_loses_nothing(labels in labels(), prefix in prefix()) {
        let set = LabelSet::new(labels.clone(), &prefix);
        let (ours, annotations) = set.split_service_labels_annotations();
        prop_assert_eq!(ours.labels.len() + annotations.labels.len(), labels.len());
        let mut all = ours.labels;
        all.extend(annotations.labels);
        prop_assert_eq!(all, labels);
    }

    #[test]
    fn metadata_groups_are_a_partition_of_the_nodes(nodes in metadata("[xy]")) {
        let Ok(split) = split_metadata(&nodes) else { return Ok(()) };
        let grouped: Vec<usize> = split.groups.iter().flat_map(|group| group.nodes.clone()).collect();
        let distinct: BTreeSet<usize> = grouped.iter().copied().collect();
        prop_assert_eq!(grouped.len(), distinct.len());
        prop_assert!(grouped.is_empty() || grouped.len() == nodes.len());
        for group in &split.groups {
            for node in &group.nodes {
                let mut whole = group.metadata.clone();
                whole.extend(split.common.clone());
                prop_assert_eq!(&whole, &nodes[*node]);
            }
        }
    }

    #[test]
    fn common_metadata_is_common_to_all_nodes(nodes in metadata("[x]?")) {
        let Ok(split) = split_metadata(&nodes) else { return Ok(()) };
        for (key, value) in &split.common {
            prop_assert!(nodes.iter().all(|node| node.get(key).map_or("", String::as_str) == value));
        }
    }

    #[test]
    fn an_image_name_splits_into_what_it_was_joined_of(
        repository in "([a-z]{1,4}(:[0-9]{1,4})?/)?[a-z/]{1,8}", tag in "[A-Za-z0-9_.-]{1,8}",
    ) {
        let name = format!("{repository}:{tag}");
        prop_assert_eq!(split_image_name(&name), (repository.as_str(), tag.as_str()));
    }

    #[test]
    fn splitting_an_image_name_adds_nothing_but_a_tag(name in any::<String>()) {
        let (repository, tag) = split_image_name(&name);
        let is_joined = name == [repository, ":", tag].concat();
        prop_assert!(is_joined || (name == repository && tag == "latest"));
        prop_assert!(!tag.contains('/'));
    }

    #[test]
    fn a_number_of_an_image_is_never_given_twice(appends in collection::vec(any::<u8>(), 0..20)) {
        let names = ImageNames::default();
        let mut history = ImageHistory::default();
        let mut given = BTreeSet::new();
        for step in appends {
            let image = history.reserve(&names, "a");
            prop_assert!(given.insert(image.clone()));
            if step % 3 == 0 {
                history.append(&image);
                prop_assert_eq!(ImageHistory::current(Some(&history), &names, "a"), Ok(image));
            } else if step % 3 == 1 {
                history.remove(&format!("tsuru/app-a:v{}", step / 3));
            }
        }
        let distinct: BTreeSet<&String> = history.images.iter().collect();
        prop_assert_eq!(distinct.len(), history.images.len());
    }

    #[test]
    fn a_unit_has_each_variable_once_and_the_platform_wins(
        envs in collection::vec(("PORT|TSURU_HOST|[A-Z]{1,2}", any::<String>()), 0..10), process in any::<String>(),
    ) {
        let envs: Vec<EnvVar> =
            envs.into_iter().map(|(name, value)| EnvVar { name, value, public: false }).collect();
        let platform = gantry_core::env::PlatformEnv { host: "h".to_owned(), port: "1".to_owned() };
        let all = gantry_core::env::envs_for_app(&envs, &process, false, &platform);
        let (of_app, system) = all.split_at(all.len() - 4);
        prop_assert!(of_app.is_sorted_by(|one, next| one.0 < next.0));
        prop_assert_eq!(system.last(), Some(&("PORT".to_owned(), "1".to_owned())));
        for (name, value) in of_app {
            prop_assert!(system.iter().all(|(system, _)| system != name));
            let last = envs.iter().rfind(|env| env.name == *name);
            prop_assert_eq!(last.map(|env| &env.value), Some(value));
        }
    }

    #[test]
    fn a_units_json_can_always_be_read(id in any::<String>(), address in option::of(any::<String>())) {
        let unit = Unit { id: id.clone(), address, ..Unit::default() };
        let json: serde_json::Value = serde_json::from_str(&unit.reference_json()).unwrap();
        prop_assert_eq!(json["ID"].as_str(), Some(id.as_str()));
    }

    #[test]
    fn finding_a_host_never_fails_and_never_adds(text in "(http://|[a-z]{1,3}:)?[ -$&-~é]{0,12}(:[0-9]{1,3})?") {
        prop_assert!(text.contains(&gantry_core::url::url_to_host(&text)));
    }

    #[test]
    fn a_grant_reads_as_it_is_written(source in "(/[a-z.]{0,3}){1,4}|[a-z]{1,4}") {
        let Ok(grant) = format!("containers:binds:{source}").parse::<Grant>() else {
            prop_assert!(source.split('/').any(|part| part == ".."));
            return Ok(());
        };
        prop_assert_eq!(grant.to_string().parse::<Grant>(), Ok(grant.clone()));
        prop_assert!(grant.covers(&grant));
        prop_assert!(Grants::new([grant.clone()], [grant.clone()]).check(&grant).is_ok());
        prop_assert!(Grants::new([grant.clone()], []).check(&grant).is_err());
    }
}
