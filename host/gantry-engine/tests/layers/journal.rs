use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_engine::call::{ContainersCall, ImagesCall};
use gantry_engine::layer::identity::{OPERATION, OWNER};
use gantry_engine::layer::journal::{Cleaned, clean_up};
use gantry_engine::{Containers as _, Created, EngineError, Ledger};

use crate::*;

fn loose(scope: &Scope) -> Vec<String> {
    scope.ledger.loose().into_iter().map(|created| created.name).collect()
}

/// The next operation, or the next wasm call of it.
fn operation(ledger: Arc<Ledger>) -> Arc<Scope> {
    Arc::new(scope().with_ledger(ledger))
}

#[tokio::test]
async fn what_is_created_is_loose_until_the_operation_ended_well() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    let id = created(&chain, &scope, "web-1").await;
    let entry = Created { node: NODE.to_owned(), name: "web-1".to_owned(), id: Some(id) };
    assert_eq!(scope.ledger.loose(), [entry]);
    scope.ledger.put_in_service();
    assert_eq!(scope.ledger.loose(), []);
}

#[tokio::test]
async fn what_the_operation_removes_itself_is_gone() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    created(&chain, &scope, "web-1").await;
    created(&chain, &scope, "web-2").await;
    reply(&chain, &scope, start("web-1")).await.unwrap();
    reply(&chain, &scope, stop("web-1")).await.unwrap();
    assert_eq!(loose(&scope), ["web-1", "web-2"], "stopping its own replaces nothing");
    reply(&chain, &scope, remove("web-1")).await.unwrap();
    assert_eq!(loose(&scope), ["web-2"]);
}

#[tokio::test]
async fn the_first_old_container_that_is_stopped_puts_the_new_ones_in_service() {
    for replace in [stop as fn(&str) -> Call, remove] {
        let chain = Chain::new(backends(&engine()));
        let before = operation(Arc::default());
        created(&chain, &before, "old").await;
        let scope = operation(Arc::default());
        created(&chain, &scope, "new").await;
        assert_eq!(loose(&scope), ["new"]);
        reply(&chain, &scope, replace("old")).await.unwrap();
        assert_eq!(loose(&scope), [""; 0]);
    }
}

/// Makes an image the current one of the app `web`.
fn append() -> Call {
    Call::Images(ImagesCall::Append { app: "web".to_owned(), image: IMAGE.to_owned() })
}

#[tokio::test]
async fn an_image_that_becomes_current_puts_what_was_created_for_it_in_service() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    reply(&chain, &scope, append()).await.unwrap();
    assert!(!scope.ledger.serves(), "there was nothing yet");
    created(&chain, &scope, "new").await;
    assert_eq!(loose(&scope), ["new"]);
    reply(&chain, &scope, append()).await.unwrap();
    assert_eq!(loose(&scope), [""; 0]);
    assert!(scope.ledger.serves());
}

/// A store without room.
struct Full;

#[async_trait]
impl Layer for Full {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        if let Call::Images(_) = request.call {
            return Err(gantry_core::Error::Unavailable("no room left".to_owned()).into());
        }
        next.send(scope, request).await
    }
}

#[tokio::test]
async fn an_image_that_does_not_become_current_puts_nothing_in_service() {
    let chain = chain(&engine(), Arc::new(Full));
    let scope = operation(Arc::default());
    created(&chain, &scope, "new").await;
    reply(&chain, &scope, append()).await.unwrap_err();
    assert_eq!(loose(&scope), ["new"]);
}

#[tokio::test]
async fn what_is_created_after_a_replacement_is_loose() {
    let chain = Chain::new(backends(&engine()));
    let before = operation(Arc::default());
    for old in ["leftover", "old"] {
        created(&chain, &before, old).await;
    }
    let scope = operation(Arc::default());
    reply(&chain, &scope, remove("leftover")).await.unwrap();
    created(&chain, &scope, "new-1").await;
    assert_eq!(loose(&scope), ["new-1"], "nothing of it was there when the leftover went");
    reply(&chain, &scope, stop("old")).await.unwrap();
    created(&chain, &scope, "new-2").await;
    assert_eq!(loose(&scope), ["new-2"]);
    reply(&chain, &scope, remove("new-1")).await.unwrap();
    let host = Arc::new(scope.for_clean_up(Duration::from_secs(30)));
    assert_eq!(clean_up(&chain, &host).await.removed.len(), 1);
    assert_eq!(names(&chain, &before).await, ["old"]);
}

#[tokio::test]
async fn a_refusal_takes_back_only_what_it_put_in_service() {
    let chain = Chain::new(backends(&engine()));
    let before = operation(Arc::default());
    for old in ["old-1", "old-2"] {
        created(&chain, &before, old).await;
        reply(&chain, &before, start(old)).await.unwrap();
    }
    let scope = operation(Arc::default());
    created(&chain, &scope, "new-1").await;
    reply(&chain, &scope, stop("old-1")).await.unwrap();
    created(&chain, &scope, "new-2").await;
    let unforced = ContainersCall::Remove { id: "old-2".to_owned(), force: false };
    assert_eq!(reply(&chain, &scope, on_node(unforced)).await.unwrap_err().kind(), "conflict");
    assert_eq!(loose(&scope), ["new-2"]);
}

#[tokio::test]
async fn a_stop_that_is_refused_replaces_nothing() {
    let engine = engine();
    let chain = Chain::new(backends(&engine));
    let before = operation(Arc::default());
    created(&chain, &before, "old").await;
    reply(&chain, &before, start("old")).await.unwrap();
    let scope = operation(Arc::default());
    created(&chain, &scope, "new").await;
    let unforced = ContainersCall::Remove { id: "old".to_owned(), force: false };
    assert_eq!(reply(&chain, &scope, on_node(unforced)).await.unwrap_err().kind(), "conflict");
    reply(&chain, &scope, remove("nobody")).await.unwrap();
    assert_eq!(loose(&scope), ["new"]);
}

#[tokio::test]
async fn a_create_goes_on_when_its_caller_is_gone() {
    let engine = engine();
    let below = Arc::new(Below::waiting());
    let (chain, scope) = (chain(&engine, Arc::clone(&below) as _), Arc::new(scope()));
    let caller = {
        let (chain, scope) = (chain.clone(), Arc::clone(&scope));
        tokio::spawn(async move { reply(&chain, &scope, create("web-1")).await })
    };
    until(|| !below.seen.lock().unwrap().is_empty()).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(loose(&scope), ["web-1"], "its name is known from the start");
    assert_eq!(engine.list(true, &BTreeMap::new()).await.unwrap(), []);

    let settled = {
        let ledger = Arc::clone(&scope.ledger);
        tokio::spawn(async move { ledger.settled().await })
    };
    tokio::task::yield_now().await;
    assert!(!settled.is_finished());
    below.creates.add_permits(1);
    settled.await.unwrap();
    let id = engine.inspect("web-1").await.unwrap().id;
    assert_eq!(scope.ledger.loose()[0].id.as_deref(), Some(id.as_str()));
}

#[tokio::test]
async fn a_create_that_was_refused_leaves_nothing() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    created(&chain, &scope, "web-1").await;
    assert_eq!(reply(&chain, &scope, create("web-1")).await.unwrap_err().kind(), "conflict");
    assert_eq!(loose(&scope), ["web-1"]);
}

#[tokio::test]
async fn a_create_nobody_knows_the_end_of_is_cleaned_up_by_its_name() {
    let engine = engine();
    let below = Arc::new(Below::default());
    let (chain, scope) = (chain(&engine, Arc::clone(&below) as _), Arc::new(scope()));
    let lost = EngineError::Unreachable("it went away".to_owned());
    *below.lost.lock().unwrap() = Some(lost.into());
    for name in ["web-1", ""] {
        assert_eq!(reply(&chain, &scope, create(name)).await.unwrap_err().kind(), "unreachable");
    }
    assert_eq!(scope.ledger.loose().iter().filter(|created| created.id.is_none()).count(), 2);
    assert_eq!(engine.list(true, &BTreeMap::new()).await.unwrap().len(), 2);
    let host = Arc::new(scope.for_clean_up(Duration::from_secs(30)));
    assert_eq!(clean_up(&chain, &host).await.left, []);
    assert_eq!(engine.list(true, &BTreeMap::new()).await.unwrap(), []);
}

/// A chain whose next create is carried out and answers nothing.
fn losing(engine: &Memory) -> (Chain, Arc<Below>) {
    let below = Arc::new(Below::default());
    let lost = EngineError::TimedOut("it takes too long".to_owned());
    *below.lost.lock().unwrap() = Some(lost.into());
    (chain(engine, Arc::clone(&below) as _), below)
}

/// An engine that does what this call asks and answers that it failed.
struct DoneAndFailed(&'static str);

#[async_trait]
impl Layer for DoneAndFailed {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        let fails = request.call.name() == self.0;
        let answer = next.send(scope, request).await;
        if fails {
            return Err(EngineError::Failed("status 504".to_owned()).into());
        }
        answer
    }
}

#[tokio::test]
async fn a_create_that_failed_and_was_carried_out_all_the_same_is_cleaned_up() {
    let engine = engine();
    let chain = chain(&engine, Arc::new(DoneAndFailed("containers.create")));
    let scope = operation(Arc::default());
    assert_eq!(reply(&chain, &scope, create("web-1")).await.unwrap_err().kind(), "failed");
    assert_eq!(loose(&scope), ["web-1"]);
    let host = Arc::new(scope.for_clean_up(Duration::from_secs(30)));
    assert_eq!(clean_up(&chain, &host).await.removed.len(), 1);
    assert_eq!(engine.list(true, &BTreeMap::new()).await.unwrap(), []);
}

#[tokio::test]
async fn a_stop_or_a_removal_that_failed_may_have_replaced_the_old() {
    for (fails, replace) in [
        ("containers.stop", stop as fn(&str) -> Call),
        ("containers.remove", remove as fn(&str) -> Call),
    ] {
        let chain = chain(&engine(), Arc::new(DoneAndFailed(fails)));
        let before = operation(Arc::default());
        created(&chain, &before, "old").await;
        reply(&chain, &before, start("old")).await.unwrap();
        let scope = operation(Arc::default());
        created(&chain, &scope, "new").await;
        assert_eq!(reply(&chain, &scope, replace("old")).await.unwrap_err().kind(), "failed");
        assert_eq!(loose(&scope), [""; 0], "the new one is all there may be");
    }
}

#[tokio::test]
async fn undoing_a_create_nobody_knows_the_end_of_replaces_nothing() {
    // The name may be known to the layers above from what another operation saw.
    for seen_by_another in [false, true] {
        let ((chain, below), scope) = (losing(&engine()), operation(Arc::default()));
        reply(&chain, &scope, create("web-1")).await.unwrap_err();
        *below.lost.lock().unwrap() = None;
        if seen_by_another {
            assert_eq!(names(&chain, &operation(Arc::default())).await, ["web-1"]);
        }
        reply(&chain, &scope, stop("web-1")).await.unwrap();
        assert_eq!(loose(&scope), ["web-1"]);
        reply(&chain, &scope, remove("web-1")).await.unwrap();
        assert_eq!(loose(&scope), [""; 0]);
        created(&chain, &scope, "web-2").await;
        assert_eq!(loose(&scope), ["web-2"], "nothing old was touched");
    }
}

#[tokio::test]
async fn the_id_of_a_lost_create_is_learned_from_what_the_engine_shows() {
    for look in [inspect("web-1"), list()] {
        let ((chain, _), scope) = (losing(&engine()), operation(Arc::default()));
        reply(&chain, &scope, create("web-1")).await.unwrap_err();
        assert_eq!(scope.ledger.loose()[0].id, None);
        reply(&chain, &scope, look).await.unwrap();
        assert!(scope.ledger.loose()[0].id.is_some());
    }
}

#[tokio::test]
async fn a_clean_up_removes_what_is_loose_and_nothing_else() {
    let engine = engine();
    let chain = Chain::new(backends(&engine));
    let before = operation(Arc::default());
    created(&chain, &before, "old").await;
    // As used up and cancelled as a scope can be.
    let limits = gantry_engine::Limits { host_calls: 4, ..Default::default() };
    let scope = Arc::new(scope().with_limits(limits));
    for name in ["new-1", "new-2"] {
        created(&chain, &scope, name).await;
        reply(&chain, &scope, start(name)).await.unwrap();
    }
    scope.operation.cancel.cancel();
    let host = Arc::new(scope.for_clean_up(Duration::from_secs(30)));
    assert_eq!(clean_up(&chain, &host).await.left, []);
    assert_eq!(names(&chain, &before).await, ["old"]);
    assert_eq!(loose(&scope), [""; 0]);
}

#[tokio::test]
async fn what_runs_on_every_node_is_of_no_operation_and_stays() {
    let engine = engine();
    let (chain, scope) = (Chain::new(backends(&engine)), Arc::new(scope()));
    let mut spec = spec();
    spec.labels.insert("is-node-container".to_owned(), "true".to_owned());
    let call = ContainersCall::Create { name: "agent".to_owned(), spec: Box::new(spec) };
    reply(&chain, &scope, on_node(call)).await.unwrap();
    assert_eq!(loose(&scope), [""; 0]);
    assert_eq!(clean_up(&chain, &scope).await.removed, []);
    let labels = engine.inspect("agent").await.unwrap().config.labels.unwrap();
    assert!(labels.contains_key(OWNER) && !labels.contains_key(OPERATION), "{labels:?}");
}

#[tokio::test]
async fn a_container_of_an_app_is_of_its_operation_whatever_else_it_says() {
    let engine = engine();
    let (chain, scope) = (Chain::new(backends(&engine)), Arc::new(scope()));
    let mut spec = spec();
    for (label, value) in [("is-node-container", "true"), ("app-name", "web")] {
        spec.labels.insert(label.to_owned(), value.to_owned());
    }
    let call = ContainersCall::Create { name: "web-1".to_owned(), spec: Box::new(spec) };
    reply(&chain, &scope, on_node(call)).await.unwrap();
    assert_eq!(loose(&scope), ["web-1"]);
}

#[tokio::test]
async fn a_clean_up_spares_what_has_the_name_of_a_lost_create() {
    let engine = engine();
    let before = Operation::new("op-0", Duration::from_secs(60));
    let before = Arc::new(Scope::new("docker", INSTANCE, before));
    let old = created(&Chain::new(backends(&engine)), &before, "web-1").await;
    // The engine says that the name is in use, and nobody hears it.
    let ((chain, _), scope) = (losing(&engine), operation(Arc::default()));
    assert_eq!(reply(&chain, &scope, create("web-1")).await.unwrap_err().kind(), "timed-out");
    assert_eq!(loose(&scope), ["web-1"]);
    let host = Arc::new(scope.for_clean_up(Duration::from_secs(30)));
    assert_eq!(clean_up(&chain, &host).await, Cleaned::default(), "nothing was its own");
    assert_eq!(engine.inspect("web-1").await.unwrap().id, old);
    assert_eq!(loose(&scope), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_does_not_wait_for_a_create_and_does_not_call_it_removed() {
    let engine = engine();
    let below = Arc::new(Below::waiting());
    let (chain, scope) = (chain(&engine, Arc::clone(&below) as _), operation(Arc::default()));
    below.creates.add_permits(1);
    created(&chain, &scope, "quick").await;
    let slow = {
        let (chain, scope) = (chain.clone(), Arc::clone(&scope));
        tokio::spawn(async move { reply(&chain, &scope, create("slow")).await })
    };
    until(|| loose(&scope).len() == 2).await;
    let host = Arc::new(scope.for_clean_up(Duration::from_secs(30)));
    let cleaned = tokio::time::timeout(Duration::from_secs(60), clean_up(&chain, &host)).await;
    let cleaned = cleaned.expect("it waits for the create");
    assert_eq!(cleaned.removed.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["quick"]);
    assert_eq!(cleaned.left.iter().map(|one| &*one.created.name).collect::<Vec<_>>(), ["slow"]);
    assert_eq!(cleaned.left[0].error.kind(), "timed-out");
    assert_eq!(loose(&scope), ["slow"]);
    slow.abort();
}

/// An engine that never answers the removal of this container.
struct Stuck(String);

#[async_trait]
impl Layer for Stuck {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        if let Call::Containers { call: ContainersCall::Remove { id, .. }, .. } = &request.call
            && *id == self.0
        {
            std::future::pending::<()>().await;
        }
        next.send(scope, request).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_that_runs_out_of_time_tells_what_it_did() {
    let engine = engine();
    let scope = operation(Arc::default());
    let stuck = created(&Chain::new(backends(&engine)), &scope, "stuck").await;
    let chain = chain(&engine, Arc::new(Stuck(stuck)));
    created(&chain, &scope, "web-1").await;
    let host = Arc::new(scope.for_clean_up(Duration::from_secs(30)));
    let cleaned = tokio::time::timeout(Duration::from_secs(60), clean_up(&chain, &host)).await;
    let cleaned = cleaned.expect("it has no end");
    assert_eq!(cleaned.removed.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["web-1"]);
    assert_eq!(cleaned.left[0].created.name, "stuck");
    assert_eq!(cleaned.left[0].error.kind(), "timed-out");
}

#[tokio::test]
async fn a_clean_up_tells_what_it_could_not_remove() {
    let engine = engine();
    let chain = Chain::new(backends(&engine));
    let scope = Arc::new(scope());
    created(&chain, &scope, "new").await;
    chain.backends().nodes.take("docker", NODE);
    let host = Arc::new(scope.for_clean_up(Duration::from_secs(30)));
    let left = clean_up(&chain, &host).await.left;
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].created.name.as_str(), left[0].error.kind()), ("new", "not-found"));
}

#[tokio::test]
async fn a_ledger_is_shared_by_the_wasm_calls_of_an_operation() {
    let chain = Chain::new(backends(&engine()));
    let ledger = Arc::new(Ledger::default());
    let (first, second) = (operation(Arc::clone(&ledger)), operation(Arc::clone(&ledger)));
    created(&chain, &first, "web-1").await;
    reply(&chain, &second, stop("web-1")).await.unwrap();
    assert_eq!(loose(&second), ["web-1"], "it is of the same operation");
}
