//! What is left of an operation whose plugin dies in the middle: nothing that was not in service.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::Error;
use gantry_engine::call::ContainersCall;
use gantry_engine::{Call, Chain, EngineError, Layer, Next, Request, Response, Scope};
use gantry_runtime::{Cause, RuntimeSettings};

use crate::world::{IMAGE, With, World, app, eventually, key, operation, plain, settings, shown};

fn dying(how: &str) -> With {
    plain().config(key("die", how))
}

/// A host with one version of the app deployed, and the name of its container.
async fn with_an_old_unit() -> World {
    let world = World::new();
    let deployer = world.provisioner("deployer", plain()).await;
    deployer.deploy(&operation("first"), &app(), IMAGE).await.unwrap();
    assert_eq!(world.names().await, ["web-first"]);
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_that_ends_well_is_left_alone() {
    let world = with_an_old_unit().await;
    let deployer = world.provisioner("deployer", plain()).await;
    let image = deployer.deploy(&operation("second"), &app(), IMAGE).await.unwrap();
    assert_eq!(image, IMAGE);
    assert_eq!(world.names().await, ["web-second"]);
    let units = deployer.units(&operation(""), &[app()]).await.unwrap();
    assert_eq!(units.len(), 1);
    assert_eq!(units[0].name, "web-second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_in_the_middle_leaves_the_old_units_and_nothing_new() {
    let world = with_an_old_unit().await;
    let deployer = world.provisioner("deployer", dying("trap-after-create")).await;
    let error = deployer.deploy(&operation("second"), &app(), IMAGE).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Trapped(_)), "{error:?}");
    let removed: Vec<_> = error.clean_up.removed.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(removed, ["web-second"]);
    assert_eq!(error.clean_up.left, []);
    assert!(error.to_string().ends_with("; removed `web-second` it had created"), "{error}");
    assert_eq!(world.names().await, ["web-first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_gone_over_in_the_middle_is_cleaned_up_after_too() {
    let world = with_an_old_unit().await;
    let mut with = dying("loop-after-create");
    with.bounds = vec![("cpu", "100ms")];
    let deployer = world.provisioner("deployer", with).await;
    let error = deployer.deploy(&operation("second"), &app(), IMAGE).await.unwrap_err();
    assert!(matches!(error.cause, Cause::OverLimit(_)), "{error:?}");
    assert_eq!(world.names().await, ["web-first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_in_the_middle_is_cleaned_up_after_too() {
    let world = with_an_old_unit().await;
    let mut with = dying("wait-after-create");
    with.bounds = vec![("idle-time", "300ms")];
    let deployer = world.provisioner("deployer", with).await;
    let error = deployer.deploy(&operation("second"), &app(), IMAGE).await.unwrap_err();
    assert!(matches!(error.cause, Cause::TimedOut(_)), "{error:?}");
    assert_eq!(error.clean_up.removed.len(), 1);
    assert_eq!(world.names().await, ["web-first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_taken_over_stays_when_the_plugin_dies_after_it() {
    let world = with_an_old_unit().await;
    let deployer = world.provisioner("deployer", dying("trap-after-remove")).await;
    let error = deployer.deploy(&operation("second"), &app(), IMAGE).await.unwrap_err();
    assert!(matches!(error.cause, Cause::Trapped(_)), "{error:?}");
    assert!(error.clean_up.is_empty());
    assert_eq!(world.names().await, ["web-second"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_plugin_undoes_and_the_old_units_serve_on() {
    let world = with_an_old_unit().await;
    let deployer = world.provisioner("deployer", dying("wait-after-create")).await;
    let (operation, _) = shown("second");
    let cancel = operation.cancel.clone();
    let call = tokio::spawn(async move { deployer.deploy(&operation, &app(), IMAGE).await });
    eventually("the new container", async || world.names().await.len() == 2).await;
    cancel.cancel();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.cause, Cause::Plugin(Error::Cancelled));
    assert!(error.clean_up.is_empty(), "the plugin undid it itself");
    assert_eq!(world.names().await, ["web-first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_plugin_that_does_not_undo_is_cut_off_and_cleaned_up_after() {
    let grace = Duration::from_millis(200);
    let world = World::with(RuntimeSettings { grace, ..settings() });
    let mut with = dying("loop-after-create");
    with.bounds = vec![("cpu", "10min")];
    let deployer = world.provisioner("deployer", with).await;
    let (operation, lines) = shown("second");
    let cancel = operation.cancel.clone();
    let call = tokio::spawn(async move { deployer.deploy(&operation, &app(), IMAGE).await });
    eventually("the loop", async || lines.text().contains("computes")).await;
    cancel.cancel();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.cause, Cause::CutOff { grace });
    assert_eq!(error.clean_up.removed.len(), 1);
    assert_eq!(world.names().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let world = with_an_old_unit().await;
    let deployer = world.provisioner("deployer", dying("wait-after-create")).await;
    let call =
        tokio::spawn(async move { deployer.deploy(&operation("second"), &app(), IMAGE).await });
    eventually("the new container", async || world.names().await.len() == 2).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    world.runtime.settled().await;
    assert_eq!(world.names().await, ["web-first"]);
}

/// An engine that lets nothing go.
enum Clinging {
    /// It says so.
    Refuses,
    /// It never answers a removal.
    Silent,
}

#[async_trait::async_trait]
impl Layer for Clinging {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, gantry_engine::Error> {
        if let Call::Containers { call: ContainersCall::Remove { .. }, .. } = &request.call {
            if let Self::Silent = self {
                std::future::pending::<()>().await;
            }
            let gone = EngineError::Unreachable("the engine is gone".to_owned());
            return Err(gone.into());
        }
        next.send(scope, request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_cleaned_up_is_told() {
    let mut world = World::new();
    world.chain = Chain::with(world.chain.backends().clone(), vec![Arc::new(Clinging::Refuses)]);
    let deployer = world.provisioner("deployer", dying("trap-after-create")).await;
    let error = deployer.deploy(&operation("second"), &app(), IMAGE).await.unwrap_err();
    assert_eq!(error.clean_up.removed, []);
    assert_eq!(error.clean_up.left.len(), 1);
    assert!(
        error
            .to_string()
            .ends_with("; could not remove `web-second` on `node-1`: the engine is gone"),
        "{error}"
    );
    assert_eq!(world.names().await, ["web-second"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_up_that_runs_out_of_time_is_told_as_such() {
    let clean_up = Duration::from_millis(200);
    let mut world = World::with(RuntimeSettings { clean_up, ..settings() });
    world.chain = Chain::with(world.chain.backends().clone(), vec![Arc::new(Clinging::Silent)]);
    let deployer = world.provisioner("deployer", dying("trap-after-create")).await;
    let error = deployer.deploy(&operation("second"), &app(), IMAGE).await.unwrap_err();
    assert_eq!(error.clean_up.removed, []);
    assert_eq!(error.clean_up.left.len(), 1);
    assert_eq!(error.clean_up.left[0].error.kind(), "timed-out");
    assert_eq!(world.names().await, ["web-second"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_cancelled_before_its_call_never_reaches_the_plugin() {
    let world = World::new();
    let deployer = world.provisioner("deployer", plain()).await;
    let operation = operation("second");
    operation.cancel.cancel();
    let error = deployer.deploy(&operation, &app(), IMAGE).await.unwrap_err();
    assert_eq!(error.cause, Cause::Cancelled);
    assert_eq!(world.names().await, [""; 0]);
}
