use std::task::{Context, Wake, Waker};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use gantry_engine::operation::Progress;
use serde_json::json;
use tokio::sync::oneshot;

use super::*;

async fn operations() -> (tempfile::TempDir, Arc<Store>, Arc<Operations>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let operations = Operations::new(Arc::clone(&store));
    (folder, store, operations)
}

fn request(verb: &'static str, lock: Option<&str>) -> Request {
    Request {
        verb,
        app: lock.map(str::to_owned),
        lock: lock.map(str::to_owned),
        time: Duration::from_secs(60),
        caller: Caller { who: "uid 0".to_owned(), ..Caller::default() },
        ..Request::default()
    }
}

async fn told(operations: &Operations, id: &str, after: u64) -> Vec<String> {
    let updates = operations.board(id).expect("it runs").follow(after);
    updates
        .map(|update| match update {
            Update::Line(line) => line.text,
            Update::End(operation) => format!("end {}", operation.state.word()),
        })
        .collect()
        .await
}

#[tokio::test]
async fn an_operation_is_written_down_before_it_starts_and_when_it_ends() {
    let (_folder, store, operations) = operations().await;
    let (go, gone) = oneshot::channel::<()>();
    let seen = Arc::clone(&store);
    let work = |work: Work| async move {
        let written = seen.operations_named(&work.operation.id).await.unwrap();
        assert_eq!(written[0].state, "running");
        gone.await.unwrap();
        work.operation.progress.show("one\ntwo");
        Ok(json!({"image": "a:1"}))
    };
    let id = operations.begin(request("deploy", Some("web")), work).await.unwrap();
    go.send(()).unwrap();
    assert_eq!(told(&operations, &id, 0).await, ["one", "two", "end done"]);
    let record = store.operations_named(&id).await.unwrap().swap_remove(0);
    let operation = resource(record);
    assert_eq!(operation.state, OperationState::Done);
    assert_eq!(operation.result, Some(json!({"image": "a:1"})));
    assert!(operation.ended.is_some());
    let lines = store.lines(&id, 1).await.unwrap();
    assert_eq!(lines.len(), 1, "those after the first");
}

#[tokio::test]
async fn the_second_change_of_one_thing_is_refused_with_who_holds_it() {
    let (_folder, _store, operations) = operations().await;
    let (go, gone) = oneshot::channel::<()>();
    let slow = |_: Work| async move {
        gone.await.unwrap();
        Ok(json!({}))
    };
    let first = operations.begin(request("deploy", Some("the app web")), slow).await.unwrap();
    let quick = |_: Work| async { Ok(json!({})) };
    let refused = operations.begin(request("app-stop", Some("the app web")), quick).await;
    let refusal = refused.unwrap_err();
    let Refusal::Busy { holder, .. } = &refusal else { panic!("{refusal:?}") };
    assert_eq!((holder.operation.as_str(), holder.verb.as_str()), (first.as_str(), "deploy"));
    let text = refusal.to_string();
    assert!(text.starts_with(&format!("`the app web` is being changed by operation `{first}`")));
    // Another app is free.
    operations.begin(request("app-stop", Some("the app api")), quick).await.unwrap();
    // And whoever waits gets its turn.
    let mut waiting = request("app-stop", Some("the app web"));
    waiting.caller.wait = true;
    let waiting = {
        let operations = Arc::clone(&operations);
        tokio::spawn(async move { operations.begin(waiting, quick).await })
    };
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    waiting.await.unwrap().unwrap();
}

/// An operation of this verb that has this locked, until it is told to end.
async fn holding(
    operations: &Arc<Operations>,
    verb: &'static str,
    lock: Option<&str>,
) -> (String, oneshot::Sender<()>) {
    let (go, gone) = oneshot::channel::<()>();
    let work = |_: Work| async move {
        gone.await.unwrap();
        Ok(json!({}))
    };
    (operations.begin(request(verb, lock), work).await.unwrap(), go)
}

const WEB: &str = "the app web";
const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_operation_locks_more_when_whoever_has_it_has_ended() {
    let (_folder, _store, operations) = operations().await;
    let (first, go) = holding(&operations, "deploy", Some(WEB)).await;
    let (healer, done) = holding(&operations, "heal", None).await;
    let refused = operations.lock(WEB, &healer, Duration::from_millis(1)).await;
    let refusal = refused.err().unwrap().to_string();
    assert!(
        refusal.starts_with(&format!(
            "`the app web` is being changed by operation `{first}` (deploy, since "
        )),
        "{refusal}"
    );
    let waiting = operations.lock(WEB, &healer, SOON);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    go.send(()).unwrap();
    let held = waiting.await.unwrap().unwrap();
    // And it is as good as any other lock: who comes now is told of the healer.
    let quick = |_: Work| async { Ok(json!({})) };
    let refusal = operations.begin(request("deploy", Some(WEB)), quick).await.unwrap_err();
    let Refusal::Busy { holder, .. } = refusal else { panic!("{refusal:?}") };
    assert_eq!((holder.operation.as_str(), holder.verb.as_str()), (healer.as_str(), "heal"));
    drop(held);
    operations.begin(request("deploy", Some(WEB)), quick).await.unwrap();
    done.send(()).unwrap();
}

/// What goes on in the very moment that it may, within whatever lets it: as if the thread of that stood still there.
struct AtOnce(Mutex<Option<BoxFuture<'static, ()>>>);

impl AtOnce {
    fn start(future: impl Future<Output = ()> + Send + 'static) {
        Arc::new(Self(Mutex::new(Some(future.boxed())))).wake();
    }

    fn place(&self) -> MutexGuard<'_, Option<BoxFuture<'static, ()>>> {
        self.0.lock().unwrap()
    }
}

impl Wake for AtOnce {
    fn wake(self: Arc<Self>) {
        let taken = self.place().take();
        let Some(mut future) = taken else { return };
        let waker = Waker::from(Arc::clone(&self));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            *self.place() = Some(future);
        }
    }
}

/// Whether an operation has its lock in the moment that somebody who waits for its end goes on.
async fn is_locked_after<W>(wait: impl FnOnce(Arc<Operations>, String) -> W) -> bool
where
    W: Future<Output = ()> + Send + 'static,
{
    let (_folder, _store, operations) = operations().await;
    let (id, go) = holding(&operations, "deploy", Some(WEB)).await;
    let (tell, told) = oneshot::channel();
    let waiting = wait(Arc::clone(&operations), id);
    AtOnce::start(async move {
        waiting.await;
        tell.send(operations.is_locked(WEB)).unwrap();
    });
    go.send(()).unwrap();
    told.await.unwrap()
}

#[tokio::test]
async fn the_lock_of_an_operation_is_free_when_whoever_follows_it_is_told_its_end() {
    let follow = |operations: Arc<Operations>, id: String| async move {
        assert_eq!(told(&operations, &id, 0).await, ["end done"]);
    };
    assert!(!is_locked_after(follow).await);
}

#[tokio::test]
async fn the_lock_of_an_operation_is_free_when_the_wait_for_its_end_is_over() {
    let wait = |operations: Arc<Operations>, id: String| async move { operations.ended(&id).await };
    assert!(!is_locked_after(wait).await);
}

#[test]
fn also_when_the_operation_is_cut_off_its_lock_is_free_before_the_wait_for_its_end_is_over() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    runtime.block_on(async {
        let (_folder, _store, operations) = operations().await;
        let (start, started) = oneshot::channel();
        let endless = |_: Work| {
            start.send(()).unwrap();
            std::future::pending()
        };
        let id = operations.begin(request("deploy", Some(WEB)), endless).await.unwrap();
        started.await.unwrap();
        AtOnce::start(async move {
            operations.ended(&id).await;
            tell.send(operations.is_locked(WEB)).unwrap();
        });
    });
    drop(runtime);
    assert!(!told.recv().unwrap());
}

#[tokio::test]
async fn an_operation_is_lent_its_own_lock_which_is_free_when_it_has_given_all_of_it_back() {
    let (_folder, _store, operations) = operations().await;
    let (first, go) = holding(&operations, "deploy", Some(WEB)).await;
    let now = Duration::ZERO;
    let lent = operations.lock(WEB, &first, now).await.unwrap().unwrap();
    let again = operations.lock(WEB, &first, now).await.unwrap().unwrap();
    drop(lent);
    let (other, done) = holding(&operations, "heal", None).await;
    assert!(operations.lock(WEB, &other, now).await.is_err(), "the operation has it itself");
    go.send(()).unwrap();
    told(&operations, &first, 0).await;
    assert!(operations.lock(WEB, &other, now).await.is_err(), "one part of it is still lent");
    drop(again);
    let held = operations.lock(WEB, &other, SOON).await.unwrap().unwrap();
    // Of two operations only one has it.
    let (third, end) = holding(&operations, "heal", None).await;
    assert!(operations.lock(WEB, &third, now).await.is_err());
    drop(held);
    assert!(operations.lock(WEB, &third, now).await.unwrap().is_some());
    done.send(()).unwrap();
    end.send(()).unwrap();
}

#[tokio::test]
async fn what_is_no_operation_under_way_locks_nothing() {
    let (_folder, _store, operations) = operations().await;
    let quick = |_: Work| async { Ok(json!({})) };
    let ended = operations.begin(request("deploy", None), quick).await.unwrap();
    while operations.board(&ended).is_some() {
        tokio::task::yield_now().await;
    }
    for id in ["", "0000000000000000", &ended] {
        assert!(operations.lock(WEB, id, SOON).await.unwrap().is_none(), "{id}");
    }
    operations.begin(request("deploy", Some(WEB)), quick).await.unwrap();
}

#[tokio::test]
async fn the_same_request_again_gives_the_operation_it_began_also_while_that_holds_the_lock() {
    let (_folder, _store, operations) = operations().await;
    let (go, gone) = oneshot::channel::<()>();
    let with_key = |key: &str, detail: Value| {
        let mut request = request("deploy", Some("web"));
        request.caller.key = Some(key.to_owned());
        request.detail = detail;
        request
    };
    let slow = |_: Work| async move {
        gone.await.unwrap();
        Ok(json!({}))
    };
    let never = |_: Work| async { panic!("it was done twice") };
    let first = operations.begin(with_key("k", json!({"image": "a"})), slow).await.unwrap();
    let again = operations.begin(with_key("k", json!({"image": "a"})), never).await.unwrap();
    assert_eq!(again, first);
    let other = operations.begin(with_key("k", json!({"image": "b"})), never).await;
    assert!(matches!(other, Err(Refusal::KeyUsed(id)) if id == first));
    let mut unshown = with_key("k", json!({"image": "a"}));
    unshown.caller.unshown = json!("what the journal does not show");
    let other = operations.begin(unshown, never).await;
    assert!(matches!(other, Err(Refusal::KeyUsed(id)) if id == first));
    go.send(()).unwrap();
    told(&operations, &first, 0).await;
    let again = operations.begin(with_key("k", json!({"image": "a"})), never).await.unwrap();
    assert_eq!(again, first, "also when it has ended");
}

#[tokio::test]
async fn an_operation_that_panics_fails_and_lets_go_of_its_lock() {
    let (_folder, store, operations) = operations().await;
    let panics = |_: Work| async { panic!("a fault of ours") };
    let id = operations.begin(request("deploy", Some("web")), panics).await.unwrap();
    let mut after = request("deploy", Some("web"));
    after.caller.wait = true;
    operations.begin(after, |_: Work| async { Ok(json!({})) }).await.unwrap();
    let record = store.operations_named(&id).await.unwrap().swap_remove(0);
    assert_eq!(resource(record).problem.unwrap().kind, ProblemKind::Internal);
}

#[tokio::test]
async fn a_cancelled_operation_is_asked_and_ends_as_cancelled() {
    let (_folder, _store, operations) = operations().await;
    let patient = |work: Work| async move {
        work.operation.cancel.cancelled().await;
        Err(Problem::new(ProblemKind::Cancelled, "it was cancelled"))
    };
    let id = operations.begin(request("deploy", None), patient).await.unwrap();
    assert!(operations.cancel(&id));
    assert_eq!(told(&operations, &id, 0).await, ["end cancelled"]);
    assert!(!operations.cancel("0000000000000000"), "nobody knows it");
}

#[tokio::test]
async fn the_end_of_the_daemon_waits_then_cancels_then_leaves() {
    let (_folder, _store, operations) = operations().await;
    let long = |work: Work| async move {
        work.operation.cancel.cancelled().await;
        Ok(json!({}))
    };
    let deaf = |_: Work| std::future::pending();
    operations.begin(request("deploy", Some("web")), long).await.unwrap();
    operations.begin(request("deploy", Some("api")), deaf).await.unwrap();
    let (grace, undo) = (Duration::from_millis(20), Duration::from_millis(200));
    let drained = operations.drain(grace, undo, &CancellationToken::new()).await;
    assert_eq!(drained, Drained { cancelled: 2, left: 1 });
    let late = operations.begin(request("deploy", None), |_: Work| async { Ok(json!({})) }).await;
    assert!(matches!(late, Err(Refusal::ShuttingDown)));
}

#[tokio::test]
async fn an_operation_that_finishes_in_its_grace_is_not_cancelled() {
    let (_folder, _store, operations) = operations().await;
    let (go, gone) = oneshot::channel::<()>();
    let work = |_: Work| async move {
        gone.await.unwrap();
        Ok(json!({}))
    };
    operations.begin(request("deploy", None), work).await.unwrap();
    let drain = {
        let operations = Arc::clone(&operations);
        tokio::spawn(async move {
            let hour = Duration::from_secs(3600);
            operations.drain(hour, hour, &CancellationToken::new()).await
        })
    };
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    assert_eq!(drain.await.unwrap(), Drained::default());
}

#[tokio::test]
async fn lines_are_put_together_from_parts_and_cut_when_too_long() {
    let (_folder, store, _operations) = operations().await;
    let begin = Begin { id: "01".to_owned(), detail: "{}".to_owned(), ..Begin::default() };
    store.begin_operation(begin.clone()).await.unwrap();
    let board = Arc::new(Board::new(store, begin));
    board.show("half");
    board.show(" and half\r\n\nnext");
    board.show(&"x".repeat(10_000));
    let written = board.write_end(Ok(json!({}))).await;
    board.tell_end(written);
    let lines: Vec<String> = board
        .follow(0)
        .filter_map(|update| async {
            match update {
                Update::Line(line) => Some(line.text),
                Update::End(_) => None,
            }
        })
        .collect()
        .await;
    assert_eq!(lines[..2], ["half and half", ""]);
    assert_eq!((lines.len(), lines[2].len()), (3, 4096));
}

#[tokio::test]
async fn of_too_many_lines_the_last_are_told_at_the_end() {
    let (_folder, store, operations) = operations().await;
    let work = |work: Work| async move {
        for number in 1..=12_000 {
            work.operation.progress.show(&format!("line {number}\n"));
        }
        work.operation.progress.show("why it failed");
        Err(Problem::new(ProblemKind::Failed, "it failed"))
    };
    let id = operations.begin(request("build", None), work).await.unwrap();
    let lines = told(&operations, &id, 0).await;
    assert_eq!(lines[9_999], "line 10000");
    assert_eq!(lines[10_000], "… the last 200 lines are told at the end");
    assert_eq!(lines[10_001], "… 1801 lines are not kept");
    assert_eq!(lines[10_002], "line 11802");
    assert_eq!(lines[10_201..], ["why it failed", "end failed"]);
    let kept = store.lines(&id, 10_200).await.unwrap();
    assert_eq!(
        kept.iter().map(|line| &*line.text).collect::<Vec<_>>(),
        ["line 12000", "why it failed"]
    );
}

#[tokio::test]
async fn an_end_that_cannot_be_written_down_is_not_told_as_done_and_is_written_when_it_can() {
    let (_folder, store, operations) = operations().await;
    let (go, gone) = oneshot::channel::<()>();
    let work = |_: Work| async move {
        gone.await.unwrap();
        Ok(json!({"image": "a:1"}))
    };
    let id = operations.begin(request("deploy", Some("web")), work).await.unwrap();
    store.refuse_writes(true).await.unwrap();
    let updates = operations.board(&id).expect("it runs").follow(0);
    go.send(()).unwrap();
    let updates: Vec<Update> = updates.collect().await;
    let Some(Update::End(told)) = updates.last() else { panic!("{updates:?}") };
    let problem = told.problem.as_ref().expect("it is not done yet");
    assert_eq!((told.state, problem.kind), (OperationState::Running, ProblemKind::Storage));
    assert!(problem.detail.contains("it ended as done"), "{problem:?}");
    // Nobody else changes the app meanwhile, and the end of the daemon waits.
    let quick = |_: Work| async { Ok(json!({})) };
    let busy = operations.begin(request("deploy", Some("web")), quick).await;
    assert!(matches!(busy, Err(Refusal::Busy { .. })), "{busy:?}");
    let (soon, hour) = (Duration::from_millis(20), Duration::from_secs(3600));
    let hurry = CancellationToken::new();
    let left = operations.drain(soon, soon, &hurry).await;
    assert_eq!(left, Drained { cancelled: 1, left: 1 });
    store.refuse_writes(false).await.unwrap();
    assert_eq!(operations.drain(hour, hour, &hurry).await, Drained::default());
    let record = store.operations_named(&id).await.unwrap().swap_remove(0);
    assert_eq!(
        (record.state.as_str(), record.result.as_deref()),
        ("done", Some("{\"image\":\"a:1\"}"))
    );
}
