use std::sync::Arc;

use gantry_engine::{Call, Error, Limits, Meter};
use tokio::time::advance;

use crate::*;

fn over(error: &Error) -> String {
    match error {
        Error::OverLimit(over) => over.to_string(),
        other => panic!("no limit: {other}"),
    }
}

#[tokio::test]
async fn a_call_too_many_ends_the_wasm_call() {
    let limits = Limits { host_calls: 2, ..Limits::default() };
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope().with_limits(limits)));
    for _ in 0..2 {
        reply(&chain, &scope, Call::Nodes).await.unwrap();
    }
    let error = reply(&chain, &scope, Call::Nodes).await.unwrap_err();
    assert_eq!(
        over(&error),
        "over the limit `host-calls` of 2: raise `limits.host-calls` of the provisioner in the \
         configuration"
    );
    assert_eq!(scope.meter.calls(), 3);
}

#[tokio::test]
async fn a_call_that_is_refused_counts_like_any_other() {
    let limits = Limits { host_calls: 3, ..Limits::default() };
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope().with_limits(limits)));
    let mut privileged = spec();
    privileged.host_config.privileged = true;
    let denied =
        || on_node(ContainersCall::Create { name: String::new(), spec: privileged.clone().into() });
    assert_eq!(reply(&chain, &scope, denied()).await.unwrap_err().kind(), "denied");
    // What identity refuses, and what identity knows the answer of.
    let marked = list_with([("gantry.owner".to_owned(), String::new())].into());
    assert_eq!(reply(&chain, &scope, on_node(marked)).await.unwrap_err().kind(), "invalid");
    reply(&chain, &scope, remove("nobody")).await.unwrap();
    let error = reply(&chain, &scope, denied()).await.unwrap_err();
    assert!(over(&error).contains("`host-calls` of 3"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn calls_may_be_made_at_a_rate_and_no_faster() {
    let meter = Meter::new(Limits { host_call_rate: 10, ..Limits::default() });
    for _ in 0..5 {
        for _ in 0..10 {
            meter.charge(0).unwrap();
        }
        advance(Duration::from_secs(1)).await;
    }
    for _ in 0..10 {
        meter.charge(0).unwrap();
    }
    let error = Error::from(meter.charge(0).unwrap_err());
    assert!(over(&error).contains("`host-call-rate` of 10 a second"), "{error}");
}

#[tokio::test]
async fn calls_under_way_are_counted() {
    let limits = Limits { host_calls_in_flight: 2, ..Limits::default() };
    let below = Arc::new(Below::waiting());
    let chain = chain(&engine(), Arc::clone(&below) as _);
    let scope = Arc::new(scope().with_limits(limits));
    let make = |name: &'static str| {
        let (chain, scope) = (chain.clone(), Arc::clone(&scope));
        tokio::spawn(async move { reply(&chain, &scope, create(name)).await })
    };
    let under_way = [make("web-1"), make("web-2")];
    until(|| below.seen.lock().unwrap().len() == 2).await;
    let error = reply(&chain, &scope, create("web-3")).await.unwrap_err();
    assert!(over(&error).contains("`host-calls-in-flight` of 2"), "{error}");
    below.creates.add_permits(10);
    for call in under_way {
        call.await.unwrap().unwrap();
    }
    reply(&chain, &scope, create("web-3")).await.unwrap();
}

#[tokio::test]
async fn a_call_carries_so_many_bytes_and_no_more() {
    let limits = Limits { host_call_bytes: 1000, ..Limits::default() };
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope().with_limits(limits)));
    let put = |bytes| {
        Call::State(gantry_engine::call::StateCall::PutIf {
            key: "key".to_owned(),
            value: vec![0; bytes],
            expected: None,
        })
    };
    reply(&chain, &scope, put(900)).await.unwrap();
    let error = reply(&chain, &scope, put(1000)).await.unwrap_err();
    assert!(over(&error).contains("`host-call-bytes` of 1000 bytes"), "{error}");
    // A reply counts as much as what is asked.
    for index in 0..10 {
        created(&chain, &scope, &format!("web-{index}")).await;
    }
    let error = reply(&chain, &scope, list()).await.unwrap_err();
    assert!(over(&error).contains("`host-call-bytes`"), "{error}");
}

#[tokio::test]
async fn what_does_not_pass_the_chain_is_charged_on_the_same_meter() {
    let limits = Limits { host_calls: 2, ..Limits::default() };
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope().with_limits(limits)));
    scope.meter.charge(10).unwrap();
    reply(&chain, &scope, Call::Nodes).await.unwrap();
    assert_eq!(scope.meter.charge(10).unwrap_err().bound, "host-calls");
}
