//! From creation to removal.

use futures_util::future::join_all;
use gantry_core::container::PortBinding;

use super::{Fixture, Kind, PORT, eventually, refused};
use crate::call::ExecOptions;

/// A name belongs to one container at a time.
pub async fn a_name_in_use_is_a_conflict(fixture: &Fixture) {
    let engine = &fixture.engine;
    let name = fixture.name();
    let id = engine.create(&name, &fixture.spec()).await.unwrap();
    let told = refused(engine.create(&name, &fixture.spec()).await, "conflict");
    assert!(told.contains(&name), "{told}");
    engine.remove(&id, false).await.unwrap();
    engine.create(&name, &fixture.spec()).await.unwrap();
}

/// An image is not pulled by a create.
pub async fn a_container_of_an_unknown_image_is_not_created(fixture: &Fixture) {
    let mut spec = fixture.spec();
    "contract/nobody-has-this:v1".clone_into(&mut spec.image);
    let told = refused(fixture.engine.create(&fixture.name(), &spec).await, "not-found");
    assert!(told.contains("no image `contract/nobody-has-this:v1`"), "{told}");
    assert_eq!(fixture.engine.list(true, &fixture.mine()).await.unwrap(), []);
}

/// Something has to run.
pub async fn a_container_without_a_command_is_invalid(fixture: &Fixture) {
    let mut spec = fixture.spec();
    let id = fixture.created(&spec).await;
    let bare = format!("{}/bare", fixture.name());
    // An image of a container has its command; one that is built of nothing has none.
    super::images::build(fixture, &bare, "FROM scratch\nCOPY file /file\n").await.unwrap();
    bare.clone_into(&mut spec.image);
    refused(fixture.engine.create(&fixture.name(), &spec).await, "invalid");
    fixture.engine.remove_image(&bare).await.unwrap();
    fixture.engine.remove(&id, false).await.unwrap();
}

/// Starting twice is as good as once.
pub async fn starting_what_runs_succeeds(fixture: &Fixture) {
    let id = fixture.started(&fixture.spec()).await;
    let before = fixture.engine.inspect(&id).await.unwrap();
    fixture.engine.start(&id).await.unwrap();
    let after = fixture.engine.inspect(&id).await.unwrap();
    assert_eq!(before.state, after.state);
}

/// Stopping twice is as good as once, and so is stopping what never ran.
pub async fn stopping_what_does_not_run_succeeds(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.created(&fixture.spec()).await;
    engine.stop(&id, 10).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap().state.status, "created");
    fixture.start(&id).await;
    engine.stop(&id, 10).await.unwrap();
    engine.stop(&id, 10).await.unwrap();
    let state = engine.inspect(&id).await.unwrap().state;
    assert_eq!((state.status.as_str(), state.running, state.exit_code), ("exited", false, 0));
}

/// Removing twice is as good as once.
pub async fn removing_what_is_gone_succeeds(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.created(&fixture.spec()).await;
    engine.remove(&id, false).await.unwrap();
    engine.remove(&id, false).await.unwrap();
    engine.remove(&id, true).await.unwrap();
    engine.remove(&fixture.name(), false).await.unwrap();
    // Two at the same time: whoever comes second finds it going.
    let id = fixture.started(&fixture.spec()).await;
    for gone in join_all((0..4).map(|_| engine.remove(&id, true))).await {
        gone.unwrap();
    }
    refused(engine.inspect(&id).await, "not-found");
}

/// A running container is removed by force only.
pub async fn what_runs_is_not_removed_without_force(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.started(&fixture.spec()).await;
    refused(engine.remove(&id, false).await, "conflict");
    assert!(engine.inspect(&id).await.unwrap().state.running);
    engine.remove(&id, true).await.unwrap();
    refused(engine.inspect(&id).await, "not-found");
}

/// Nothing of a removed container is left: not in a list, not its name.
pub async fn a_removed_container_is_gone_for_every_call(fixture: &Fixture) {
    let engine = &fixture.engine;
    let name = fixture.name();
    let id = engine.create(&name, &fixture.serving()).await.unwrap();
    fixture.start(&id).await;
    engine.stop(&id, 10).await.unwrap();
    engine.remove(&id, false).await.unwrap();
    assert_eq!(engine.list(true, &fixture.mine()).await.unwrap(), []);
    for text in [id.as_str(), &id[..12], &name] {
        refused(engine.start(text).await, "not-found");
    }
}

/// A container keeps its id and its name over a stop; its port may be another.
pub async fn a_stopped_container_can_be_started_again(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.started(&fixture.serving()).await;
    engine.stop(&id, 10).await.unwrap();
    let stopped = engine.inspect(&id).await.unwrap();
    assert_eq!(stopped.network_settings.ports.values().flatten().count(), 0);
    fixture.start(&id).await;
    let again = engine.inspect(&id).await.unwrap();
    assert!(again.state.running);
    assert_eq!((&again.id, &again.name), (&stopped.id, &stopped.name));
    let bound = again.network_settings.ports.get(PORT).cloned().flatten().unwrap();
    assert_ne!(bound[0].host_port.parse::<u16>().unwrap(), 0);
}

/// Whoever waits for a running container gets the code it ends with.
pub async fn waiting_gives_the_exit_code(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.started(&fixture.spec()).await;
    let (code, stopped) = tokio::join!(engine.wait(&id), engine.stop(&id, 10));
    stopped.unwrap();
    assert_eq!(code.unwrap(), 0, "the image's process ends in good order");
    match fixture.kind {
        // Nothing ends on its own there.
        Kind::Memory => {}
        Kind::Docker => {
            let id = fixture.started(&fixture.shell("exit 7")).await;
            assert_eq!(engine.wait(&id).await.unwrap(), 7);
            let state = engine.inspect(&id).await.unwrap().state;
            assert_eq!((state.status.as_str(), state.exit_code), ("exited", 7));
        }
    }
}

/// Waiting for what has ended is no waiting.
pub async fn a_container_that_ended_is_waited_for_at_once(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.created(&fixture.spec()).await;
    assert_eq!(engine.wait(&id).await.unwrap(), 0, "it never ran");
    fixture.start(&id).await;
    engine.stop(&id, 10).await.unwrap();
    assert_eq!(engine.wait(&id).await.unwrap(), 0);
}

/// A port of the machine belongs to one container at a time.
pub async fn a_taken_port_is_a_conflict(fixture: &Fixture) {
    let engine = &fixture.engine;
    let first = fixture.started(&fixture.serving()).await;
    let taken =
        engine.inspect(&first).await.unwrap().network_settings.ports[PORT].as_ref().unwrap()[0]
            .host_port
            .clone();
    let mut spec = fixture.spec();
    let binding = PortBinding { host_port: taken, ..PortBinding::default() };
    spec.host_config.port_bindings.insert(PORT.to_owned(), vec![binding]);
    let second = fixture.created(&spec).await;
    refused(engine.start(&second).await, "conflict");
    assert!(!engine.inspect(&second).await.unwrap().state.running);
    engine.remove(&first, true).await.unwrap();
    engine.start(&second).await.unwrap();
}

/// Calls do not wait for each other, and each container is its own.
pub async fn containers_are_made_side_by_side(fixture: &Fixture) {
    let engine = &fixture.engine;
    let spec = fixture.serving();
    let ids = join_all((0..5).map(|_| fixture.started(&spec))).await;
    let inspected = join_all(ids.iter().map(|id| engine.inspect(id))).await;
    let mut ports: Vec<String> = inspected
        .into_iter()
        .map(|one| one.unwrap().network_settings.ports[PORT].as_ref().unwrap()[0].host_port.clone())
        .collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 5);
    // A command of each, at the same time as well.
    let command = ExecOptions { command: vec!["true".to_owned()], ..ExecOptions::default() };
    for exec in join_all(ids.iter().map(|id| engine.create_exec(id, &command))).await {
        exec.unwrap();
    }
    for gone in join_all(ids.iter().map(|id| engine.remove(id, true))).await {
        gone.unwrap();
    }
    eventually("all are gone", || async {
        engine.list(true, &fixture.mine()).await.unwrap().is_empty()
    })
    .await;
}
