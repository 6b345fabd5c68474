//! The registry with provisioners in it, and the reference's cases of `Get`.

use gantry_runtime::{Provisioner, Registry};
use serde_json::Value;

use crate::world::{World, operation, plain};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provisioners_are_registered_replaced_listed_and_removed() {
    let world = World::new();
    let registry = Registry::new();
    let noop = world.load("noop", plain()).await.unwrap();
    registry.register(Provisioner::new("docker", noop.clone()));
    registry.register(Provisioner::new("acme", noop.clone()));
    registry.register(Provisioner::new("acme", world.load("hello_blue", plain()).await.unwrap()));
    let names: Vec<_> = registry.list().iter().map(|one| one.name().to_owned()).collect();
    assert_eq!(names, ["acme", "docker"]);
    assert_eq!(registry.get_default().unwrap().name(), "docker");
    let acme = registry.get("acme").unwrap();
    assert_eq!(acme.generation().description().name, "hello");
    registry.unregister("acme");
    registry.unregister("acme");
    assert_eq!(registry.get("acme").unwrap_err().to_string(), "unknown provisioner: \"acme\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_initialised_and_have_their_say() {
    let world = World::new();
    let registry = Registry::new();
    for (name, guest) in [("a", "hello_blue"), ("b", "noop"), ("c", "hello_green")] {
        registry.register(Provisioner::new(name, world.load(guest, plain()).await.unwrap()));
    }
    let messages = registry.initialise_all(&operation("start")).await.unwrap();
    let expected = [("a", "hello in blue"), ("c", "hello in green")];
    assert_eq!(messages, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vectors_of_get() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/registry.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    let world = World::new();
    let noop = world.load("noop", plain()).await.unwrap();
    let mut ran = 0;
    // The other functions of the file are about nodes, which this registry does not know yet.
    for case in cases.iter().filter(|case| case["fn"] == "Get") {
        let registry = Registry::new();
        for name in case["registered"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            registry.register(Provisioner::new(name, noop.clone()));
            assert_eq!(registry.get(name).unwrap().name(), name);
        }
        let got = registry.get(case["name"].as_str().unwrap());
        assert_eq!(got.err().map(|error| error.to_string()).as_deref(), case["error"].as_str());
        ran += 1;
    }
    assert!(ran > 0);
    println!("registry: ran {ran} of {} (the others find nodes)", cases.len());
}
