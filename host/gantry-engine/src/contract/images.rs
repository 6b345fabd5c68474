//! Images: made, named, removed, moved.

use std::collections::BTreeMap;
use std::io::Cursor;

use super::files::archive;
use super::{Fixture, end, refused};
use crate::call::BuildOptions;
use crate::containers::Result;

/// Builds an image of a Dockerfile, with a file `file` beside it, and gives what the build wrote.
pub(super) async fn build(fixture: &Fixture, name: &str, dockerfile: &str) -> Result<String> {
    let context = archive(&[("Dockerfile", dockerfile.as_bytes()), ("file", b"built\n")]);
    let options = BuildOptions { name: name.to_owned(), cache: true, ..BuildOptions::default() };
    let (output, read) = end();
    let context = Box::pin(Cursor::new(context));
    let (built, told) = tokio::join!(fixture.engine.build_image(&options, context, output), read);
    built.map(|()| told)
}

/// An image of a container has its files, its configuration and the labels that are put on top.
pub async fn a_committed_container_is_an_image(fixture: &Fixture) {
    let engine = &fixture.engine;
    let mut spec = fixture.spec();
    spec.env = vec!["GREETING=hello".to_owned()];
    spec.labels.insert("kept".to_owned(), "1".to_owned());
    spec.labels.insert("changed".to_owned(), "1".to_owned());
    let id = fixture.created(&spec).await;
    let files = archive(&[("new", b"new\n")]);
    engine.upload(&id, "/www", Box::pin(Cursor::new(files))).await.unwrap();
    let repository = fixture.name();
    let labels = BTreeMap::from([("changed".to_owned(), String::new())]);
    let made = engine.commit(&id, &repository, "v1", "a comment", &labels).await.unwrap();
    let name = format!("{repository}:v1");
    let image = engine.inspect_image(&name).await.unwrap();
    assert_eq!((&image.id, &image.repo_tags), (&made, &vec![name.clone()]));
    assert!(image.id.starts_with("sha256:"));
    let config = &image.config;
    assert!(config.env.as_ref().unwrap().contains(&"GREETING=hello".to_owned()));
    let labels = config.labels.as_ref().unwrap();
    assert_eq!((labels["kept"].as_str(), labels["changed"].as_str()), ("1", ""));
    let before = engine.image_history(&fixture.image).await.unwrap();
    let layers = engine.image_history(&name).await.unwrap();
    assert_eq!(layers.len(), before.len() + 1);
    assert_eq!((&layers[0].id, &layers[0].tags), (&made, &vec![name.clone()]));
    let mut spec = fixture.spec();
    spec.image.clone_from(&name);
    let of_it = fixture.created(&spec).await;
    assert_eq!(engine.stat_path(&of_it, "/www/new").await.unwrap().size, 4);
    engine.remove(&of_it, false).await.unwrap();
    engine.remove_image(&name).await.unwrap();
    refused(engine.inspect_image(&name).await, "not-found");
}

/// A name is one of several; the last one takes the image with it, and removing what is gone succeeds.
pub async fn an_image_has_the_names_it_was_given(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.created(&fixture.spec()).await;
    let repository = fixture.name();
    let made = engine.commit(&id, &repository, "v1", "", &BTreeMap::new()).await.unwrap();
    engine.tag_image(&made, &repository, "v2").await.unwrap();
    let (first, second) = (format!("{repository}:v1"), format!("{repository}:v2"));
    let mut names = engine.inspect_image(&made).await.unwrap().repo_tags;
    names.sort();
    assert_eq!(names, [first.clone(), second.clone()]);
    engine.remove_image(&first).await.unwrap();
    let left = engine.inspect_image(&made).await.unwrap().repo_tags;
    assert_eq!(left, std::slice::from_ref(&second));
    engine.remove_image(&first).await.unwrap();
    engine.remove_image(&second).await.unwrap();
    refused(engine.inspect_image(&made).await, "not-found");
    // A name without a tag is the tag `latest`.
    let made = engine.commit(&id, &repository, "latest", "", &BTreeMap::new()).await.unwrap();
    assert_eq!(engine.inspect_image(&repository).await.unwrap().id, made);
    engine.remove_image(&repository).await.unwrap();
}

/// An image that a container is made of keeps its last name.
pub async fn an_image_in_use_is_not_removed(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.created(&fixture.spec()).await;
    let name = format!("{}:v1", fixture.name());
    let (repository, tag) = name.split_once(':').unwrap();
    let made = engine.commit(&id, repository, tag, "", &BTreeMap::new()).await.unwrap();
    let mut spec = fixture.spec();
    spec.image.clone_from(&name);
    let of_it = fixture.created(&spec).await;
    refused(engine.remove_image(&name).await, "conflict");
    refused(engine.remove_image(&made).await, "conflict");
    engine.remove(&of_it, false).await.unwrap();
    engine.remove_image(&name).await.unwrap();
}

/// Every call that names an image says when there is none.
pub async fn an_unknown_image_is_not_found(fixture: &Fixture) {
    let engine = &fixture.engine;
    let none = format!("{}:v1", fixture.name());
    let told = refused(engine.inspect_image(&none).await, "not-found");
    assert!(told.contains(&format!("no image `{none}`")), "{told}");
    refused(engine.image_history(&none).await, "not-found");
    refused(engine.tag_image(&none, "contract/other", "v1").await, "not-found");
    engine.remove_image(&none).await.unwrap();
}

/// An image is built of a Dockerfile and the files beside it, and what the build writes is told.
pub async fn an_image_is_built_from_an_archive(fixture: &Fixture) {
    let engine = &fixture.engine;
    let name = format!("{}:v1", fixture.name());
    let dockerfile = "FROM scratch\nCOPY file /in/file\nENV GREETING=hello\nLABEL color=red\n\
                      EXPOSE 80\nCMD [\"/in/file\"]\n";
    let told = build(fixture, &name, dockerfile).await.unwrap();
    assert!(told.contains("FROM scratch") && told.contains("Successfully"), "{told}");
    let config = engine.inspect_image(&name).await.unwrap().config;
    assert_eq!(config.cmd.unwrap(), ["/in/file"]);
    assert!(config.env.unwrap().contains(&"GREETING=hello".to_owned()));
    assert_eq!(config.labels.unwrap()["color"], "red");
    assert!(config.exposed_ports.unwrap().contains_key("80/tcp"));
    let mut spec = fixture.spec();
    spec.image.clone_from(&name);
    let id = fixture.created(&spec).await;
    assert_eq!(engine.stat_path(&id, "/in/file").await.unwrap().size, 6);
    engine.remove(&id, false).await.unwrap();
    engine.remove_image(&name).await.unwrap();
}

/// A build that goes wrong says why, and leaves no image.
pub async fn a_failed_build_is_an_error(fixture: &Fixture) {
    let name = format!("{}:v1", fixture.name());
    let absent = "FROM scratch\nCOPY absent /absent\n";
    let told = refused(build(fixture, &name, absent).await, "failed");
    assert!(told.contains("COPY failed"), "{told}");
    refused(fixture.engine.inspect_image(&name).await, "not-found");
    refused(build(fixture, "a b", absent).await, "invalid");
}

/// A pull of what no registry has fails, whether or not an image of this name is here.
pub async fn an_image_nobody_has_is_not_pulled(fixture: &Fixture) {
    let engine = &fixture.engine;
    // Where there is no registry, nobody can tell whether it has the image.
    let (registry, kind) = match &fixture.registry {
        Some(registry) => (registry.as_str(), "not-found"),
        None => ("127.0.0.1:1", "failed"),
    };
    let name = format!("{registry}/{}:v1", fixture.name());
    refused(engine.pull_image(&name).await, kind);
    let (repository, tag) = name.rsplit_once(':').unwrap();
    engine.tag_image(&fixture.image, repository, tag).await.unwrap();
    refused(engine.pull_image(&name).await, kind);
    engine.remove_image(&name).await.unwrap();
}

/// What went to a registry comes back from it.
pub async fn what_is_pushed_is_pulled(fixture: &Fixture) {
    let engine = &fixture.engine;
    let registry = fixture.registry.as_deref().expect("the fixture has a registry");
    let repository = format!("{registry}/{}", fixture.name());
    let name = format!("{repository}:v1");
    let (output, read) = end();
    let (pushed, _) = tokio::join!(engine.push_image(&name, output), read);
    assert!(pushed.is_err(), "there is no such image yet");
    let id = fixture.created(&fixture.spec()).await;
    let made = engine.commit(&id, &repository, "v1", "", &BTreeMap::new()).await.unwrap();
    let (output, read) = end();
    let (pushed, told) = tokio::join!(engine.push_image(&name, output), read);
    pushed.unwrap();
    assert!(told.contains("Pushed"), "{told}");
    engine.remove_image(&name).await.unwrap();
    refused(engine.inspect_image(&name).await, "not-found");
    engine.pull_image(&name).await.unwrap();
    assert_eq!(engine.inspect_image(&name).await.unwrap().id, made);
    engine.pull_image(&name).await.unwrap();
    engine.remove_image(&name).await.unwrap();
}
