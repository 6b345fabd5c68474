//! One generation after another under the same name.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::world::{World, app, eventually, key, operation, plain, question, shown};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_lets_calls_under_way_finish_on_the_old_generation() {
    let world = World::new();
    let paused = || plain().config(key("pause", "3600000"));
    let hello = world.provisioner("hello_blue", paused()).await;
    let (operation, lines) = shown("op");
    let cancel = operation.cancel.clone();
    let blocked = tokio::spawn({
        let hello = hello.clone();
        async move { hello.add_units(&operation, &app(), 1, "web").await }
    });
    eventually("the call in the host", async || lines.text() == "blue begins\n").await;

    let green = world.load("hello_green", paused()).await.unwrap();
    green.initialise(&crate::world::operation("swap")).await.unwrap();
    let old = hello.swap(green);
    assert_eq!(old.description().version, "1.0.0");
    assert_eq!(hello.generation().description().version, "2.0.0");
    // New calls answer from the new generation while the old one still has a call.
    let answer = hello.routable_addresses(&question(), &app()).await.unwrap();
    assert_eq!(answer, ["http://web.green"]);
    assert!(!blocked.is_finished());

    // The pause ends early, and what ends is the old build: it says so.
    cancel.cancel();
    let ended = blocked.await.unwrap().unwrap_err();
    assert_eq!(ended.cause, gantry_runtime::Cause::Plugin(gantry_core::Error::Cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_call_ends_well_on_the_old_build() {
    let world = World::new();
    let hello = world.provisioner("hello_blue", plain().config(key("pause", "300"))).await;
    let (operation, lines) = shown("op");
    let blocked = tokio::spawn({
        let hello = hello.clone();
        async move { hello.add_units(&operation, &app(), 1, "web").await }
    });
    eventually("the call in the host", async || lines.text() == "blue begins\n").await;
    hello.swap(world.load("hello_green", plain()).await.unwrap());
    blocked.await.unwrap().unwrap();
    assert_eq!(lines.text(), "blue begins\nblue ends\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_lost_or_answered_by_both_in_a_swap_under_load() {
    let world = World::new();
    let hello = world.provisioner("hello_blue", plain()).await;
    let answered = Arc::new(Semaphore::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (hello, answered) = (hello.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut colours = Vec::new();
                // Until the swap is seen, and a while longer.
                let mut after = 0;
                while after < 100 {
                    let colour = hello.routable_addresses(&question(), &app()).await.unwrap();
                    after += u32::from(colour[0] == "http://web.green");
                    colours.push(colour);
                    if colours.len() == 1 {
                        answered.add_permits(1);
                    }
                }
                colours
            })
        })
        .collect();
    let green = world.load("hello_green", plain()).await.unwrap();
    let _all = answered.acquire_many(4).await.unwrap();
    let old = hello.swap(green);
    for caller in callers {
        let colours = caller.await.unwrap();
        // Blue until the swap, green ever after.
        let turn = colours.iter().position(|colour| colour[0] == "http://web.green").unwrap();
        assert!(turn > 0, "somebody called before the swap");
        assert!(colours[..turn].iter().all(|colour| colour[0] == "http://web.blue"));
        assert!(colours[turn..].iter().all(|colour| colour[0] == "http://web.green"));
    }
    // The old generation is ours alone now: nothing holds it any more.
    assert_eq!(Arc::strong_count(&old), 1);
    hello.add_units(&operation("op"), &app(), 1, "").await.unwrap();
}
