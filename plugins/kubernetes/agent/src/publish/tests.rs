use std::os::unix::net::UnixStream;

use flate2::read::GzDecoder;
use gantry_registry::peer::{Peer, Reply};
use serde_json::json;

use super::*;
use crate::link::{Said, Speaker};

const CONFIG: &str = r#"{"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]}}"#;

const LAYERS: [&[u8]; 2] = [b"the first layer", b"the second layer"];

/// A registry with a platform's image, and a build.
struct Yard {
    peer: Peer,
    scratch: tempfile::TempDir,
}

/// What became of a build.
struct Seen {
    result: std::result::Result<(), String>,
    told: String,
    /// What came next door.
    archive: Vec<u8>,
}

impl Yard {
    fn new() -> Self {
        let peer = Peer::start();
        peer.image("platform", "latest", CONFIG.as_bytes(), &LAYERS);
        peer.state().mounts = true;
        Self { peer, scratch: tempfile::tempdir().unwrap() }
    }

    fn job(&self, source: &str, names: &[&str]) -> Job {
        let whole = |name: &str| format!("{}/{name}", self.peer.address);
        let names: Vec<String> = names.iter().map(|name| whole(name)).collect();
        let account = Account { registry: self.peer.address.clone(), ..Account::default() };
        Job::new(&whole(source), &names.join(","), account).unwrap()
    }

    /// Builds, with this next door.
    fn build(&self, job: &Job, next_door: impl FnOnce(&Speaker) + Send + 'static) -> Seen {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let working = std::thread::spawn(move || {
            let speaker = Speaker::new(&theirs).unwrap();
            let mut archive = Vec::new();
            (&theirs).read_to_end(&mut archive).unwrap();
            next_door(&speaker);
            archive
        });
        let mut told = Vec::new();
        let result = job.build(
            b"the archive".as_slice(),
            || Ok(ours),
            self.scratch.path(),
            &mut told,
            "2026-01-01T00:00:00Z",
        );
        Seen {
            result: result.map_err(|error| error.to_string()),
            told: String::from_utf8(told).unwrap(),
            archive: working.join().unwrap(),
        }
    }

    fn document(&self, repository: &str, version: &str) -> Value {
        let place = (repository.to_owned(), version.to_owned());
        serde_json::from_slice(&self.peer.state().manifests[&place].1).unwrap()
    }

    fn blob(&self, repository: &str, digest: &Value) -> Vec<u8> {
        self.peer.state().blobs[repository][digest.as_str().unwrap()].clone()
    }
}

fn well(speaker: &Speaker) {
    speaker.say(&Message::Output(b"building\n".to_vec())).unwrap();
    Said { by: speaker, as_what: Message::Layer }.write_all(b"a tar archive").unwrap();
    speaker.say(&Message::Done(Files::default())).unwrap();
}

#[test]
fn what_was_built_is_an_image_on_top_of_the_platforms() {
    for mounts in [true, false] {
        let yard = Yard::new();
        yard.peer.state().mounts = mounts;
        let seen = yard.build(&yard.job("platform", &["team/app:v1-builder"]), well);
        assert_eq!(seen.result, Ok(()));
        assert_eq!(seen.archive, b"the archive");
        assert!(seen.told.starts_with("building\n ---> Pushing "), "{}", seen.told);

        let manifest = yard.document("team/app", "v1-builder");
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 3);
        for (layer, bytes) in layers.iter().zip(LAYERS) {
            assert_eq!(yard.blob("team/app", &layer["digest"]), bytes);
        }
        let made = yard.blob("team/app", &layers[2]["digest"]);
        assert_eq!(layers[2]["size"], made.len());
        let mut plain = Vec::new();
        GzDecoder::new(made.as_slice()).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, b"a tar archive");
        let config = yard.blob("team/app", &manifest["config"]["digest"]);
        let config: Value = serde_json::from_slice(&config).unwrap();
        let diff = Digest::of(b"a tar archive").to_string();
        assert_eq!(config["rootfs"]["diff_ids"], json!(["sha256:1", "sha256:2", diff]));
        assert_eq!(config["config"], json!({"Cmd": ["sh"]}));
        assert!(yard.scratch.path().read_dir().unwrap().next().is_none(), "nothing stays");
        // With mounts no layer of the platform's went over the wire.
        let fetched = LAYERS.map(|layer| format!("GET /v2/platform/blobs/{}", Digest::of(layer)));
        let lines = yard.peer.lines();
        assert!(fetched.iter().all(|line| lines.contains(line) != mounts), "{lines:?}");
    }
}

#[test]
fn layers_come_from_another_registry_too() {
    let (yard, other) = (Yard::new(), Peer::start());
    other.image("python", "v3", CONFIG.as_bytes(), &LAYERS);
    let account = Account { registry: yard.peer.address.clone(), ..Account::default() };
    let names = format!("{}/team/app:v1", yard.peer.address);
    let job = Job::new(&format!("{}/python:v3", other.address), &names, account).unwrap();
    assert_eq!(yard.build(&job, well).result, Ok(()));
    let manifest = yard.document("team/app", "v1");
    assert_eq!(yard.blob("team/app", &manifest["layers"][1]["digest"]), LAYERS[1]);
    assert!(!yard.peer.lines().iter().any(|line| line.contains("mount=")));
}

#[test]
fn a_build_that_fails_leaves_no_name() {
    type NextDoor = fn(&Speaker);
    let half = |speaker: &Speaker| {
        speaker.say(&Message::Output(b"last words\n".to_vec())).unwrap();
        speaker.say(&Message::Layer(vec![1; 10])).unwrap();
    };
    let failed: NextDoor = |speaker| {
        speaker.say(&Message::Failed("`make` ended with 3".to_owned())).unwrap();
    };
    for (next_door, why) in [
        (failed, "`make` ended with 3"),
        (half as NextDoor, "ended before the build did"),
        (|_| {}, "ended before the build did"),
    ] {
        let yard = Yard::new();
        let seen = yard.build(&yard.job("platform", &["team/app:v1"]), next_door);
        let text = seen.result.unwrap_err();
        assert!(text.ends_with(why), "{text}");
        assert!(yard.peer.tags("team/app").is_empty());
        assert_eq!(yard.peer.state().blobs.get("team/app"), None, "nor anything else");
        assert!(yard.scratch.path().read_dir().unwrap().next().is_none());
    }
}

#[test]
fn a_registry_that_refuses_is_told_before_anything_is_built() {
    let yard = Yard::new();
    let built = |_: &Speaker| {};
    let seen = yard.build(&yard.job("nothing", &["team/app:v1"]), built);
    let why = format!("there is no image `{}/nothing:latest` in its registry", yard.peer.address);
    assert_eq!(seen.result, Err(why));
    assert!(seen.archive.is_empty(), "the source went nowhere");
    let asked = "Basic realm=\"x\"".to_owned();
    yard.peer.state().pass = Some(("Basic eDp5".to_owned(), asked));
    let seen = yard.build(&yard.job("platform", &["team/app:v1"]), built);
    assert!(seen.result.unwrap_err().contains("asks for a password") && seen.archive.is_empty());
}

#[test]
fn a_registry_that_breaks_or_refuses_at_any_step_leaves_no_name() {
    let steps: [(&str, &[u16]); 5] = [
        // What cannot be taken from elsewhere is sent.
        ("POST /v2/team/app/blobs/uploads/?mount", &[500]),
        ("POST /v2/team/app/blobs/uploads/", &[403, 500]),
        ("PUT /v2/team/app/blobs/", &[403, 500]),
        ("PUT /v2/team/app/manifests/", &[403, 500]),
        ("HEAD /v2/team/app/", &[403, 500]),
    ];
    for (step, statuses) in steps {
        for status in statuses {
            let yard = Yard::new();
            yard.peer.state().instead.push((step.to_owned(), Reply::of(*status), false));
            let seen = yard.build(&yard.job("platform", &["team/app:v1"]), well);
            let text = seen.result.unwrap_err();
            assert!(text.contains(&status.to_string()), "{step}: {text}");
            assert!(yard.peer.tags("team/app").is_empty(), "{step}");
        }
    }
    let yard = Yard::new();
    yard.peer.state().cut_uploads = 100;
    let seen = yard.build(&yard.job("platform", &["team/app:v1"]), well);
    assert!(seen.result.unwrap_err().contains("does not answer"));
    assert!(yard.peer.tags("team/app").is_empty());
}

#[test]
fn a_registry_that_is_ill_once_at_any_step_gets_the_image() {
    for step in [
        "GET /v2/platform/manifests/",
        "GET /v2/platform/blobs/",
        "HEAD /v2/team/app/",
        "POST /v2/team/app/blobs/uploads/?mount",
        "PUT /v2/team/app/blobs/",
        "PUT /v2/team/app/manifests/",
    ] {
        let yard = Yard::new();
        yard.peer.state().instead.push((step.to_owned(), Reply::of(503), true));
        let seen = yard.build(&yard.job("platform", &["team/app:v1"]), well);
        assert_eq!(seen.result, Ok(()), "{step}");
        assert!(yard.peer.state().instead.is_empty(), "{step}: it was never asked");
        assert_eq!(yard.peer.tags("team/app"), ["v1".to_owned()].into(), "{step}");
    }
}

#[test]
fn a_registry_that_takes_no_layer_from_elsewhere_is_sent_it() {
    let yard = Yard::new();
    let mount = "POST /v2/team/app/blobs/uploads/?mount".to_owned();
    yard.peer.state().instead.push((mount, Reply::of(403), false));
    assert_eq!(yard.build(&yard.job("platform", &["team/app:v1"]), well).result, Ok(()));
    let manifest = yard.document("team/app", "v1");
    assert_eq!(yard.blob("team/app", &manifest["layers"][1]["digest"]), LAYERS[1]);
}

#[test]
fn an_image_with_another_name_has_the_digest_that_it_had() {
    let yard = Yard::new();
    let known = yard.document("platform", "latest");
    let bytes = format!(
        "{{\n  \"layers\": {}, \"config\": {},\n  \"annotations\": {{\"of\": \"it\"}}, \"schemaVersion\": 2\n}}\n",
        known["layers"], known["config"]
    );
    let digest = Digest::of(bytes.as_bytes()).to_string();
    let listed = |architecture: &str| {
        let platform = json!({"os": "linux", "architecture": architecture});
        json!({"digest": digest, "platform": platform})
    };
    let listed = ["amd64", "arm64"].map(listed);
    let list = json!({"schemaVersion": 2, "manifests": listed});
    let put = |version: &str, kind: &str, bytes: &str| {
        let place = ("platform".to_owned(), version.to_owned());
        let kind = format!("application/vnd.oci.image.{kind}.v1+json");
        yard.peer.state().manifests.insert(place, (kind, bytes.into()));
    };
    put("latest", "manifest", &bytes);
    put(&digest, "manifest", &bytes);
    put("listed", "index", &list.to_string());
    let is_kept = |version: &str| {
        let place = ("team/app".to_owned(), version.to_owned());
        assert_eq!(yard.peer.state().manifests[&place].1, bytes.as_bytes(), "{version}");
    };
    for (source, version) in [("platform", "v1"), ("platform:listed", "v2")] {
        let mut told = Vec::new();
        let job = yard.job(source, &[&format!("team/app:{version}")]);
        job.retag(yard.scratch.path(), &mut told).unwrap();
        is_kept(version);
        let told = String::from_utf8(told).unwrap();
        assert!(told.ends_with(&format!(" ---> {digest}\n")), "{told}");
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    Speaker::new(&theirs).unwrap().say(&Message::Done(Files::default())).unwrap();
    let job = yard.job("platform", &["team/app:v3"]);
    job.inspect(|| Ok(ours), yard.scratch.path()).unwrap();
    is_kept("v3");
}

#[test]
fn an_image_gets_other_names() {
    let yard = Yard::new();
    let mut told = Vec::new();
    let job = yard.job("platform", &["team/app:v1", "team/app:latest"]);
    job.retag(yard.scratch.path(), &mut told).unwrap();
    assert_eq!(yard.peer.tags("team/app"), ["latest", "v1"].map(str::to_owned).into());
    for tag in ["v1", "latest"] {
        assert_eq!(yard.document("team/app", tag), yard.document("platform", "latest"));
    }
    let manifest = yard.document("team/app", "v1");
    assert_eq!(yard.blob("team/app", &manifest["config"]["digest"]), CONFIG.as_bytes());
}

#[test]
fn an_image_is_named_and_told_of() {
    let yard = Yard::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let yaml = "hooks: {build: [make]}\nhealthcheck: {path: /up}\n".to_owned();
    let files = Files { procfile: "web: run".to_owned(), yaml };
    Speaker::new(&theirs).unwrap().say(&Message::Done(files)).unwrap();
    let job = yard.job("platform", &["team/app:v1"]);
    let told = job.inspect(|| Ok(ours), yard.scratch.path()).unwrap();
    assert_eq!(told["Procfile"], "web: run");
    assert_eq!(told["TsuruYaml"]["healthcheck"]["path"], "/up");
    assert_eq!(told["TsuruYaml"]["hooks"]["build"], json!(["make"]));
    assert_eq!(told["Image"]["Config"], json!({"Cmd": ["sh"]}));
    assert_eq!(told["Image"]["RepoTags"], json!([format!("{}/team/app:v1", yard.peer.address)]));
    assert_eq!(yard.peer.tags("team/app"), ["v1".to_owned()].into());
}

#[test]
fn names_must_be_of_one_repository() {
    for (names, why) in [
        ("", "no destination images provided"),
        (",", "no destination images provided"),
        ("r.example/a:v1,r.example/b:v1", "are of two repositories"),
        ("r.example/a:v1,s.example/a:v1", "are of two repositories"),
        ("r.example/A", "is not the name of an image"),
    ] {
        let error = Job::new("r.example/base", names, Account::default()).err().unwrap();
        assert!(error.to_string().contains(why), "{names}: {error}");
    }
}
