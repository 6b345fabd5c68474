use std::sync::Arc;
use std::sync::atomic::Ordering;

use gantry_engine::call::{ContainersCall, HttpRequest, LogOptions};
use gantry_engine::stream::{Output, Stream};
use gantry_engine::{Containers as _, Request};

use crate::*;

fn wait(id: &str) -> Call {
    on_node(ContainersCall::Wait { id: id.to_owned() })
}

#[tokio::test]
async fn a_waiting_call_returns_when_the_operation_is_cancelled() {
    let engine = engine();
    let (chain, scope) = (Chain::new(backends(&engine)), Arc::new(scope()));
    created(&chain, &scope, "web-1").await;
    reply(&chain, &scope, start("web-1")).await.unwrap();
    let waiting = {
        let (chain, scope) = (chain.clone(), Arc::clone(&scope));
        tokio::spawn(async move { reply(&chain, &scope, wait("web-1")).await })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    scope.operation.cancel.cancel();
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), "cancelled");
    assert!(engine.inspect("web-1").await.unwrap().state.running, "nothing else happened to it");
}

#[tokio::test]
async fn after_a_cancel_nothing_waits_and_short_calls_go_on() {
    let chain = Chain::new(backends(&engine()));
    let scope = Arc::new(scope().with_grants(granted(&["images:commit"])));
    created(&chain, &scope, "web-1").await;
    reply(&chain, &scope, start("web-1")).await.unwrap();
    scope.operation.cancel.cancel();
    let options = LogOptions { lines: 1, follow: true, timestamps: false };
    let request = HttpRequest {
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        path: "/".to_owned(),
        port: PORT.to_owned(),
        timeout: 1000,
    };
    let id = || "web-1".to_owned();
    for call in [
        ContainersCall::Wait { id: id() },
        ContainersCall::Attach { id: id(), logs: true },
        ContainersCall::AttachCopy { id: id(), logs: true },
        ContainersCall::Logs { id: id(), options },
        ContainersCall::Http { id: id(), request },
        ContainersCall::PullImage { image: IMAGE.to_owned() },
        ContainersCall::Stop { id: id(), seconds: 600 },
        ContainersCall::Commit {
            id: id(),
            repository: "app".to_owned(),
            tag: "v2".to_owned(),
            comment: String::new(),
            labels: [].into(),
        },
        ContainersCall::Upload { id: id(), path: "/".to_owned() },
    ] {
        let name = call.name();
        let error = reply(&chain, &scope, on_node(call)).await.unwrap_err();
        assert_eq!(error.kind(), "cancelled", "{name}");
    }
    reply(&chain, &scope, inspect("web-1")).await.unwrap();
    reply(&chain, &scope, remove("web-1")).await.unwrap();
}

#[tokio::test]
async fn a_plugin_that_undoes_waits_again() {
    let engine = engine();
    let (chain, scope) = (Chain::new(backends(&engine)), Arc::new(scope()));
    created(&chain, &scope, "web-1").await;
    reply(&chain, &scope, start("web-1")).await.unwrap();
    scope.operation.cancel.cancel();
    scope.operation.undoing.store(true, Ordering::Release);
    let waiting = {
        let (chain, scope) = (chain.clone(), Arc::clone(&scope));
        tokio::spawn(async move { reply(&chain, &scope, wait("web-1")).await })
    };
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    engine.end("web-1", 3).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Reply::Number(3));
    // What it had to undo is undone.
    scope.operation.undoing.store(false, Ordering::Release);
    reply(&chain, &scope, start("web-1")).await.unwrap();
    let error = reply(&chain, &scope, wait("web-1")).await.unwrap_err();
    assert_eq!(error.kind(), "cancelled");
}

#[tokio::test]
async fn a_session_outlives_the_call_and_its_cancel() {
    use futures_util::StreamExt as _;

    let engine = engine();
    let (chain, scope) = (Chain::new(backends(&engine)), Arc::new(scope()));
    created(&chain, &scope, "web-1").await;
    reply(&chain, &scope, start("web-1")).await.unwrap();
    let options = LogOptions { lines: 1, follow: true, timestamps: false };
    let logs = on_node(ContainersCall::Logs { id: "web-1".to_owned(), options });
    let Some(Stream::Session(mut session)) = chain.send(&scope, logs).await.unwrap().stream else {
        panic!("no session");
    };
    scope.operation.cancel.cancel();
    let ended = tokio::spawn(async move { session.chunks.next().await.is_none() });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!ended.is_finished());
    engine.end("web-1", 0).unwrap();
    assert!(ended.await.unwrap());
}

#[tokio::test]
async fn a_copy_ends_with_the_container() {
    let engine = engine();
    let (chain, scope) = (Chain::new(backends(&engine)), Arc::new(scope()));
    created(&chain, &scope, "web-1").await;
    reply(&chain, &scope, start("web-1")).await.unwrap();
    let call = on_node(ContainersCall::AttachCopy { id: "web-1".to_owned(), logs: true });
    let output =
        Output { stdout: Box::pin(tokio::io::sink()), stderr: Box::pin(tokio::io::sink()) };
    let request = Request::new(call, None, Some(output));
    let copying = {
        let (chain, scope) = (chain.clone(), Arc::clone(&scope));
        tokio::spawn(async move { chain.send(&scope, request).await.map(|answer| answer.reply) })
    };
    tokio::task::yield_now().await;
    engine.end("web-1", 0).unwrap();
    assert_eq!(copying.await.unwrap().unwrap(), Reply::Done);
}
