//! How containers are found and told.

use std::collections::BTreeMap;

use super::{Fixture, PORT, ends, refused};
use crate::call::{ExecOptions, HttpRequest, LogOptions};

/// A container is named by its id, a unique prefix of it, or its name, and every answer has the full id.
pub async fn an_id_a_prefix_of_it_and_a_name_are_the_same_container(fixture: &Fixture) {
    let engine = &fixture.engine;
    let name = fixture.name();
    let id = engine.create(&name, &fixture.spec()).await.unwrap();
    assert_eq!(id.len(), 64, "{id}");
    for text in [id.as_str(), &id[..12], &name] {
        let container = engine.inspect(text).await.unwrap();
        assert_eq!((&container.id, &container.name), (&id, &name), "{text}");
    }
    fixture.start(&name).await;
    engine.stop(&id[..12], 10).await.unwrap();
    engine.remove(&name, false).await.unwrap();
    refused(engine.inspect(&id).await, "not-found");
}

/// A prefix that several ids start with names none of them.
pub async fn a_prefix_of_several_ids_is_refused(fixture: &Fixture) {
    // Of 17 ids, two start with the same digit.
    let mut seen = BTreeMap::new();
    let twice = loop {
        let id = fixture.created(&fixture.spec()).await;
        let digit = id[..1].to_owned();
        if seen.insert(digit.clone(), id).is_some() {
            break digit;
        }
    };
    refused(fixture.engine.inspect(&twice).await, "invalid");
    refused(fixture.engine.start(&twice).await, "invalid");
}

/// Every call that names a container says when there is none.
pub async fn an_unknown_container_is_not_found(fixture: &Fixture) {
    let engine = &fixture.engine;
    let none = fixture.name();
    let told = refused(engine.inspect(&none).await, "not-found");
    assert!(told.contains(&format!("no container `{none}`")), "{told}");
    refused(engine.start(&none).await, "not-found");
    refused(engine.stop(&none, 1).await, "not-found");
    refused(engine.wait(&none).await, "not-found");
    refused(engine.commit(&none, "", "", "", &BTreeMap::new()).await, "not-found");
    refused(engine.download(&none, "/").await.map(|_| ()), "not-found");
    refused(engine.upload(&none, "/", Box::pin(tokio::io::empty())).await, "not-found");
    refused(engine.stat_path(&none, "/").await, "not-found");
    refused(engine.attach(&none, false).await.map(|_| ()), "not-found");
    let log = LogOptions { lines: 1, follow: false, timestamps: false };
    refused(engine.logs(&none, &log).await.map(|_| ()), "not-found");
    let request = HttpRequest {
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        path: "/".to_owned(),
        port: PORT.to_owned(),
        timeout: 1000,
    };
    refused(engine.http(&none, &request).await, "not-found");
    let command = ExecOptions { command: vec!["true".to_owned()], ..ExecOptions::default() };
    refused(engine.create_exec(&none, &command).await, "not-found");
    refused(engine.start_exec(&"0".repeat(64), ends().0).await, "not-found");
}

/// What cannot be a name is refused before anything is asked.
pub async fn what_is_no_name_is_invalid(fixture: &Fixture) {
    let engine = &fixture.engine;
    for text in ["", "../images/json", "a/b", "a?force=1", "a b"] {
        refused(engine.inspect(text).await, "invalid");
        refused(engine.remove(text, true).await, "invalid");
    }
    refused(engine.create("a/b", &fixture.spec()).await, "invalid");
    refused(engine.create("x", &fixture.spec()).await, "invalid");
    refused(engine.inspect_image("../containers/json").await, "invalid");
}

/// A list has what carries all of the labels asked for, and nothing else.
pub async fn containers_are_listed_by_their_labels(fixture: &Fixture) {
    let engine = &fixture.engine;
    let mut ids = Vec::new();
    for color in ["red", "blue"] {
        let mut spec = fixture.spec();
        spec.labels.insert("color".to_owned(), color.to_owned());
        ids.push(fixture.created(&spec).await);
    }
    let mut labels = fixture.mine();
    labels.insert("color".to_owned(), "red".to_owned());
    let red = engine.list(true, &labels).await.unwrap();
    assert_eq!(red.len(), 1);
    let (found, inspected) = (&red[0], engine.inspect(&ids[0]).await.unwrap());
    assert_eq!((&found.id, &found.name), (&inspected.id, &inspected.name));
    assert_eq!((found.image.as_str(), found.state.as_str()), (fixture.image.as_str(), "created"));
    assert_eq!(found.labels.get("color").map(String::as_str), Some("red"));
    labels.insert("color".to_owned(), "green".to_owned());
    assert_eq!(engine.list(true, &labels).await.unwrap(), []);
    assert_eq!(engine.list(true, &fixture.mine()).await.unwrap().len(), 2);
}

/// A label without a value is asked for by its key.
pub async fn an_empty_value_matches_any_label(fixture: &Fixture) {
    for color in ["red", ""] {
        let mut spec = fixture.spec();
        spec.labels.insert("color".to_owned(), color.to_owned());
        fixture.created(&spec).await;
    }
    fixture.created(&fixture.spec()).await;
    let mut labels = fixture.mine();
    labels.insert("color".to_owned(), String::new());
    assert_eq!(fixture.engine.list(true, &labels).await.unwrap().len(), 2);
}

/// Containers that do not run are listed when all are asked for.
pub async fn only_what_runs_is_listed_unless_all_is_asked_for(fixture: &Fixture) {
    let engine = &fixture.engine;
    let created = fixture.created(&fixture.spec()).await;
    let running = fixture.started(&fixture.spec()).await;
    let stopped = fixture.started(&fixture.spec()).await;
    engine.stop(&stopped, 10).await.unwrap();
    let runs = engine.list(false, &fixture.mine()).await.unwrap();
    assert_eq!(runs.iter().map(|one| &one.id).collect::<Vec<_>>(), [&running]);
    let all = engine.list(true, &fixture.mine()).await.unwrap();
    let states: BTreeMap<_, _> =
        all.iter().map(|one| (one.id.as_str(), one.state.as_str())).collect();
    let expected = [(&created, "created"), (&running, "running"), (&stopped, "exited")];
    assert_eq!(states, expected.map(|(id, state)| (id.as_str(), state)).into());
}

/// An inspect gives back what was asked for at creation, and where a running container is reached.
pub async fn an_inspect_tells_what_a_container_was_made_with(fixture: &Fixture) {
    let engine = &fixture.engine;
    let mut spec = fixture.serving();
    spec.env = vec!["GREETING=hello".to_owned()];
    "/www".clone_into(&mut spec.working_dir);
    spec.labels.insert("color".to_owned(), "red".to_owned());
    let id = fixture.created(&spec).await;
    let made = engine.inspect(&id).await.unwrap();
    assert_eq!(made.state.status, "created");
    assert!(!made.state.running);
    assert_eq!(made.image, engine.inspect_image(&fixture.image).await.unwrap().id);
    let config = &made.config;
    assert_eq!((config.image.as_str(), config.working_dir.as_str()), (&*fixture.image, "/www"));
    assert!(config.env.as_ref().unwrap().contains(&"GREETING=hello".to_owned()));
    assert_eq!(config.labels.as_ref().unwrap().get("color").unwrap(), "red");
    assert!(config.exposed_ports.as_ref().unwrap().contains_key(PORT));
    assert!(config.cmd.as_ref().is_some_and(|cmd| !cmd.is_empty()), "the image's command");
    engine.start(&id).await.unwrap();
    let runs = engine.inspect(&id).await.unwrap();
    assert_eq!((runs.state.status.as_str(), runs.state.running), ("running", true));
    assert_ne!(runs.state.started_at, made.state.started_at);
    assert_ne!(runs.network_settings.ip_address, "");
    let bound = runs.network_settings.ports.get(PORT).cloned().flatten().unwrap();
    assert_ne!(bound[0].host_port.parse::<u16>().unwrap(), 0);
}
