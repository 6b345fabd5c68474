use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ureq::Body;
use ureq::http::Response;

use super::ask::same_origin;
use super::*;
use crate::peer::{Peer, Reply};

fn account(peer: &Peer) -> Account {
    Account {
        registry: peer.address.clone(),
        user: "ann".to_owned(),
        password: "open sesame".to_owned(),
        ..Account::default()
    }
}

const BASIC: &str = "Basic YW5uOm9wZW4gc2VzYW1l";

fn image(peer: &Peer) -> Reference {
    Reference::parse(&format!("{}/team/app:v1", peer.address)).unwrap()
}

/// Does something with the repository `team/app` of a registry.
fn with<T>(peer: &Peer, account: &Account, doing: impl FnOnce(&Repository<'_>) -> T) -> T {
    let image = image(peer);
    let repository = Repository::of(&image, account, Rights::Push, &["team/base"]).unwrap();
    doing(&repository)
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// What was said of who asks, in each request.
fn passes(peer: &Peer) -> Vec<String> {
    let state = peer.state();
    state.heard.iter().map(|heard| heard.header("authorization").to_owned()).collect()
}

#[test]
fn a_password_is_told_once_it_is_asked_for() {
    let peer = Peer::start();
    peer.state().pass = Some((BASIC.to_owned(), "Basic realm=\"x\"".to_owned()));
    with(&peer, &account(&peer), |repository| {
        assert_eq!(repository.manifest("v1").unwrap(), None);
        assert!(!repository.has(&Digest::of(b"")).unwrap());
    });
    assert_eq!(passes(&peer), ["", BASIC, BASIC]);
}

#[test]
fn a_token_is_fetched_with_the_password_and_for_what_is_needed() {
    let (peer, giver) = (Peer::start(), Peer::start());
    let asked = format!(
        "Bearer realm=\"http://{}/token\",service=\"a registry\",scope=\"ignored\"",
        giver.address
    );
    peer.state().pass = Some(("Bearer t0k.en".to_owned(), asked));
    for answer in [r#"{"token": "t0k.en"}"#, r#"{"access_token": "t0k.en"}"#] {
        let reply = Reply::of(200).saying(answer);
        giver.state().instead.push(("GET /token".to_owned(), reply, true));
        with(&peer, &account(&peer), |repository| {
            assert_eq!(repository.manifest("v1").unwrap(), None);
        });
    }
    let asked = "GET /token?service=a%20registry&scope=repository%3Ateam%2Fapp%3Apull%2Cpush&scope=repository%3Ateam%2Fbase%3Apull";
    assert_eq!(giver.lines(), [asked, asked]);
    assert_eq!(passes(&giver), [BASIC, BASIC]);
    assert_eq!(passes(&peer), ["", "Bearer t0k.en", "", "Bearer t0k.en"]);
}

#[test]
fn a_registry_that_never_has_enough_is_asked_twice() {
    let peer = Peer::start();
    peer.state().pass = Some(("never".to_owned(), "Basic realm=\"x\"".to_owned()));
    let error = with(&peer, &account(&peer), |repository| repository.manifest("v1")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("refuses to give the manifest of `team/app:v1`: 401"), "{text}");
    assert_eq!(peer.lines().len(), 2);
    // And so is one that wants a token and then does not want it.
    let giver = Peer::start();
    let reply = Reply::of(200).saying(r#"{"token": "x"}"#);
    giver.state().instead.push(("GET /".to_owned(), reply, false));
    let asked = format!("Bearer realm=\"http://{}/\"", giver.address);
    peer.state().pass = Some(("never".to_owned(), asked));
    with(&peer, &account(&peer), |repository| repository.manifest("v1")).unwrap_err();
    assert_eq!((peer.lines().len(), giver.lines().len()), (4, 1));
}

#[test]
fn what_a_registry_wants_to_be_told_may_not_be_told() {
    let peer = Peer::start();
    let nobody = Account { registry: peer.address.clone(), ..Account::default() };
    let another = Account { registry: "other.example".to_owned(), ..account(&peer) };
    for (asked, account, why) in [
        ("Basic realm=\"x\"", &nobody, "asks for a password, and none is configured for it"),
        ("Basic realm=\"x\"", &another, "asks for a password, and none is configured for it"),
        ("Negotiate", &account(&peer), "does not say how it wants to be told who asks"),
        ("", &account(&peer), "does not say how it wants to be told who asks"),
        (
            "Bearer realm=\"ftp://x/\"",
            &account(&peer),
            "has its tokens at `ftp://x/`, which is not safe",
        ),
        ("Bearer service=\"x\"", &account(&peer), "has its tokens at ``, which is not safe"),
    ] {
        peer.state().pass = Some(("never".to_owned(), asked.to_owned()));
        let error = with(&peer, account, |repository| repository.manifest("v1")).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with(why) && !text.contains("sesame"), "{asked}: {text}");
    }
    assert!(passes(&peer).iter().all(String::is_empty));
    let odd = Peer::start();
    for token in ["", r#"{"token": ""}"#, r#"{"token": "a\r\nb: c"}"#, "{}", "no"] {
        let reply = Reply::of(200).saying(token);
        odd.state().instead.push(("GET /".to_owned(), reply, true));
        let asked = format!("Bearer realm=\"http://{}/\"", odd.address);
        peer.state().pass = Some(("never".to_owned(), asked));
        let error = with(&peer, &account(&peer), |repository| repository.manifest("v1"));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("token that is none") || text.contains("no sense"), "{text}");
    }
}

#[test]
fn a_password_does_not_go_where_a_registry_points_to() {
    let (peer, elsewhere) = (Peer::start(), Peer::start());
    peer.state().pass = Some((BASIC.to_owned(), "Basic realm=\"x\"".to_owned()));
    let config = b"the configuration";
    let digest = Digest::of(config);
    let blob = format!("GET /v2/team/app/blobs/{digest}");
    with(&peer, &account(&peer), |repository| {
        // It is known already that there is a password.
        repository.has(&digest).unwrap();
        let there =
            Reply::of(307).with("location", format!("http://{}/kept?sig=1", elsewhere.address));
        peer.state().instead.push((blob.clone(), there, true));
        elsewhere.state().instead.push((
            "GET /kept".to_owned(),
            Reply::of(200).saying(*config),
            true,
        ));
        assert_eq!(repository.config(&digest).unwrap(), config);
        // Nor is it told there when it is asked for.
        let there = Reply::of(302).with("location", format!("http://{}/kept", elsewhere.address));
        peer.state().instead.push((blob.clone(), there, true));
        let asked = Reply::of(401).with("www-authenticate", "Basic realm=\"x\"");
        elsewhere.state().instead.push(("GET /kept".to_owned(), asked, true));
        let text = repository.config(&digest).unwrap_err().to_string();
        assert!(text.contains("401"), "{text}");
        // Back home it is told again.
        let here = Reply::of(301).with("location", "/v2/team/app/blobs/again");
        peer.state().instead.push((blob.clone(), here, true));
        let again = Reply::of(200).saying(*config);
        peer.state().instead.push(("GET /v2/team/app/blobs/again".to_owned(), again, true));
        assert_eq!(repository.config(&digest).unwrap(), config);
    });
    assert_eq!(passes(&elsewhere), ["", ""]);
    assert_eq!(passes(&peer).last().map(String::as_str), Some(BASIC));
}

#[test]
fn a_registry_points_nowhere_odd_and_not_for_ever() {
    let peer = Peer::start();
    let digest = Digest::of(b"x");
    for (location, why) in [
        ("ftp://x/", "points to `ftp://x/`, which is not safe"),
        ("//other.example/", "points to `//other.example/`, which is not safe"),
        ("relative", "points to `relative`, which is not safe"),
        ("/v2/team/app/blobs/loop", "points from place to place to give"),
    ] {
        let there = Reply::of(307).with("location", location);
        peer.state().instead = vec![("GET /v2/team/app/blobs/".to_owned(), there, false)];
        let error = with(&peer, &account(&peer), |repository| repository.config(&digest));
        let text = error.unwrap_err().to_string();
        assert!(text.contains(why), "{location}: {text}");
    }
    peer.state().instead = vec![("GET /v2/team/app/blobs/".to_owned(), Reply::of(307), false)];
    let error = with(&peer, &account(&peer), |repository| repository.config(&digest));
    assert!(error.unwrap_err().to_string().contains("points nowhere"));
}

#[test]
fn what_was_asked_for_in_secret_is_not_fetched_in_the_open() {
    assert!(same_origin("https://A.example:5000", "https://a.example:5000/v2/"));
    assert!(same_origin("https://a.example", "https://a.example:443/v2/"));
    for other in
        ["http://a.example:5000/", "https://a.example/", "https://a.example:5000@evil.example/"]
    {
        assert!(!same_origin("https://a.example:5000", other), "{other}");
    }
    let peer = Peer::start();
    with(&peer, &account(&peer), |repository| {
        let answer = |location: &str| {
            Response::builder().header("location", location).body(Body::builder().data("")).unwrap()
        };
        let to = |from: &str, location: &str| repository.place(from, &answer(location)).ok();
        assert_eq!(to("https://a.example/x", "http://a.example/y"), None);
        let secret = "https://b.example/y".to_owned();
        assert_eq!(to("https://a.example/x", &secret), Some(secret));
        assert_eq!(to("https://a.example/x", "/y"), Some("https://a.example/y".to_owned()));
    });
}

#[test]
fn an_upload_that_is_cut_is_begun_again_a_few_times() {
    let peer = Peer::start();
    let bytes = vec![7; 200_000];
    let digest = Digest::of(&bytes);
    peer.state().cut_uploads = 2;
    with(&peer, &account(&peer), |repository| {
        repository.upload(&digest, &file(&bytes), 200_000).unwrap();
        assert!(repository.has(&digest).unwrap());
    });
    let begun = peer.lines().iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(begun, 3);
    peer.state().cut_uploads = 3;
    peer.state().blobs.clear();
    let error = with(&peer, &account(&peer), |repository| {
        repository.upload(&digest, &file(&bytes), 200_000)
    });
    let text = error.unwrap_err().to_string();
    let start = format!("the registry `{}` does not answer: ", peer.address);
    assert!(text.starts_with(&start), "{text}");
    assert!(peer.state().blobs.is_empty());
}

#[test]
fn a_layer_that_is_cut_or_another_is_not_taken() {
    let peer = Peer::start();
    let bytes = vec![7; 200_000];
    let digest = Digest::of(&bytes);
    let blobs = [(digest.to_string(), bytes.clone())];
    peer.state().blobs.insert("team/app".to_owned(), blobs.into());
    let mut kept = tempfile::tempfile().unwrap();
    let mut fetch = |size| {
        with(&peer, &account(&peer), |repository| repository.download(&digest, size, &mut kept))
            .map(|()| kept.metadata().unwrap().len())
            .map_err(|error| error.to_string())
    };
    peer.state().cut_downloads = 2;
    assert_eq!(fetch(200_000), Ok(200_000));
    peer.state().cut_downloads = 3;
    assert!(fetch(200_000).unwrap_err().contains("does not answer"));
    assert!(fetch(199_999).unwrap_err().contains("gives another layer"), "it is longer");
    let other = vec![8; 200_000];
    peer.state().blobs.insert("team/app".to_owned(), [(digest.to_string(), other)].into());
    assert!(fetch(200_000).unwrap_err().contains("gives another layer"));
    with(&peer, &account(&peer), |repository| {
        let text = repository.config(&digest).unwrap_err().to_string();
        assert!(text.contains("gives another configuration"), "{text}");
        let place = ("team/app".to_owned(), digest.to_string());
        peer.state().manifests.insert(place, (String::new(), b"{}".to_vec()));
        let text = repository.manifest(digest.as_str()).unwrap_err().to_string();
        assert!(text.contains("gives another manifest"), "{text}");
    });
}

#[test]
fn a_refusal_is_told_with_its_reason_and_not_tried_again() {
    let peer = Peer::start();
    let denied = r#"{"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}"#;
    peer.state().instead.push(("POST".to_owned(), Reply::of(403).saying(denied), false));
    let error =
        with(&peer, &account(&peer), |repository| repository.upload_bytes(&Digest::of(b"x"), b"x"));
    let text = error.unwrap_err().to_string();
    let why = "refuses to take something into `team/app`: 403 Forbidden: DENIED: requested access to the resource is denied";
    assert!(text.ends_with(why), "{text}");
    assert_eq!(peer.lines().len(), 1);
    // A registry that is ill may get well.
    peer.state().instead = vec![("POST".to_owned(), Reply::of(503), true)];
    with(&peer, &account(&peer), |repository| {
        repository.upload_bytes(&Digest::of(b"x"), b"x").unwrap();
    });
}

#[test]
fn what_a_registry_was_too_ill_for_is_asked_again_a_few_times() {
    type Asked = fn(&Repository<'_>, &Digest) -> Result<()>;
    let peer = Peer::start();
    let config = b"the configuration";
    let digest = Digest::of(config);
    let blobs = [(digest.to_string(), config.to_vec())];
    peer.state().blobs.insert("team/app".to_owned(), blobs.into());
    let all: [(&str, Asked); 4] = [
        ("GET /v2/team/app/manifests/", |repository, _| repository.manifest("v1").map(drop)),
        ("GET /v2/team/app/blobs/", |repository, digest| repository.config(digest).map(drop)),
        ("HEAD", |repository, digest| repository.has(digest).map(drop)),
        ("POST", |repository, digest| repository.mount(digest, "team/base").map(drop)),
    ];
    for (line, asked) in all {
        for (status, ills, well) in [(503, 2, true), (429, 2, true), (503, 3, false)] {
            peer.state().heard.clear();
            peer.state().instead = vec![(line.to_owned(), Reply::of(status), true); ills];
            let answer = with(&peer, &account(&peer), |repository| asked(repository, &digest));
            assert_eq!(answer.is_ok(), well, "{line} {status}: {answer:?}");
            assert_eq!(peer.lines().len(), 3, "{line} {status}");
        }
    }
    // A connection that breaks in the middle of an answer too.
    peer.state().cut_downloads = 2;
    with(&peer, &account(&peer), |repository| {
        assert_eq!(repository.config(&digest).unwrap(), config);
    });
}

#[test]
fn a_mount_that_is_refused_means_that_the_layer_is_sent() {
    let peer = Peer::start();
    let asked = Reply::of(401).with("www-authenticate", "Basic realm=\"x\"");
    let refusals = [400, 403, 404, 405].map(Reply::of);
    for refusal in refusals.into_iter().chain([asked]) {
        let status = refusal.status;
        peer.state().instead = vec![("POST".to_owned(), refusal, false)];
        let mounted = with(&peer, &account(&peer), |repository| {
            repository.mount(&Digest::of(b"x"), "team/base")
        });
        assert!(!mounted.unwrap(), "{status}");
    }
}

#[test]
fn a_manifest_without_an_end_is_not_read_to_it() {
    let peer = Peer::start();
    let long = vec![b' '; 5 << 20];
    peer.state().instead.push(("GET".to_owned(), Reply::of(200).saying(long), false));
    let error = with(&peer, &account(&peer), |repository| repository.manifest("v1"));
    assert!(error.unwrap_err().to_string().contains("answers with more than 4194304 bytes"));
}

#[test]
fn a_registry_that_is_away_is_told() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let image = Reference::parse(&format!("{gone}/a:v1")).unwrap();
    let nobody = Account::default();
    let repository = Repository::of(&image, &nobody, Rights::Pull, &[]).unwrap();
    let text = repository.manifest("v1").unwrap_err().to_string();
    assert!(text.contains("does not answer") && text.contains(&gone.to_string()), "{text}");
}

/// The repository `team/app` with two tags of one image, and one of another.
fn shop() -> Peer {
    let peer = Peer::start();
    for (tag, config) in [("v1", b"one"), ("v2", b"one"), ("v3", b"two")] {
        peer.image("team/app", tag, config, &[b"a layer"]);
    }
    peer.image("team/other", "v1", b"one", &[b"a layer"]);
    peer
}

/// Deletes the image that a tag of `team/app` leads to.
fn delete(peer: &Peer, account: &Account, tag: &str) -> Result<()> {
    let image = image(peer);
    let repository = Repository::of(&image, account, Rights::Delete, &[]).unwrap();
    let digest = repository.digest(tag)?.unwrap();
    repository.delete(&digest)
}

fn tags(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn an_image_is_deleted_by_its_digest_and_with_all_its_names() {
    let peer = shop();
    delete(&peer, &account(&peer), "v3").unwrap();
    assert_eq!(peer.tags("team/app"), tags(&["v1", "v2"]));
    let digest = peer.image("team/app", "v1", b"one", &[b"a layer"]);
    peer.state().heard.clear();
    delete(&peer, &account(&peer), "v1").unwrap();
    assert_eq!(peer.tags("team/app"), tags(&[]));
    assert_eq!(peer.tags("team/other"), tags(&["v1"]), "that is another repository");
    let lines =
        ["HEAD /v2/team/app/manifests/v1", &format!("DELETE /v2/team/app/manifests/{digest}")];
    assert_eq!(peer.lines(), lines);
    assert!(peer.state().heard[0].header("accept").contains("image.index"), "a list is one too");
}

#[test]
fn what_somebody_else_deleted_is_deleted() {
    let peer = shop();
    peer.state().instead.push(("DELETE".to_owned(), Reply::of(404), true));
    delete(&peer, &account(&peer), "v3").unwrap();
}

#[test]
fn a_registry_that_deletes_nothing_says_so() {
    let peer = shop();
    let said =
        r#"{"errors": [{"code": "UNSUPPORTED", "message": "The operation is unsupported."}]}"#;
    for reply in [Reply::of(405), Reply::of(405).saying(said), Reply::of(400).saying(said)] {
        peer.state().instead = vec![("DELETE".to_owned(), reply, true)];
        let error = delete(&peer, &account(&peer), "v3").unwrap_err();
        assert!(matches!(error, Error::NoDeletion { .. }), "{error}");
        let text = format!("the registry `{}` has its deletion switched off", peer.address);
        assert_eq!(error.to_string(), text);
    }
    let denied = r#"{"errors": [{"code": "DENIED", "message": "no"}]}"#;
    peer.state().instead = vec![("DELETE".to_owned(), Reply::of(403).saying(denied), true)];
    let text = delete(&peer, &account(&peer), "v3").unwrap_err().to_string();
    assert!(text.contains("refuses to delete the image `team/app@sha256:"), "{text}");
    assert!(text.ends_with(": 403 Forbidden: DENIED: no"), "{text}");
    // One that is ill may get well.
    peer.state().instead = vec![("DELETE".to_owned(), Reply::of(503).saying(said), true)];
    delete(&peer, &account(&peer), "v3").unwrap();
}

#[test]
fn tags_are_listed_page_by_page_to_the_last() {
    let peer = shop();
    for number in 4..8 {
        peer.image("team/app", &format!("v{number}"), b"two", &[b"a layer"]);
    }
    let all = || with(&peer, &account(&peer), |repository| repository.tags());
    assert_eq!(all().unwrap(), tags(&["v1", "v2", "v3", "v4", "v5", "v6", "v7"]));
    assert_eq!(peer.lines().len(), 4, "two at a time");
    // None at all, said in three ways.
    let list = || "GET /v2/team/app/tags/list".to_owned();
    for reply in [
        Reply::of(404),
        Reply::of(200).saying(r#"{"name": "team/app", "tags": null}"#),
        Reply::of(200).saying(r#"{"name": "team/app"}"#),
    ] {
        peer.state().instead = vec![(list(), reply, true)];
        assert_eq!(all().unwrap(), tags(&[]));
    }
    // One that leads in a circle ends, and one that has more and more is refused.
    let circle = Reply::of(200)
        .with("link", "</v2/team/app/tags/list>; rel=\"next\"")
        .saying(r#"{"tags": ["v1"]}"#);
    peer.state().instead = vec![(list(), circle, false)];
    assert_eq!(all().unwrap(), tags(&["v1"]));
    let many: Vec<String> = (0..=MOST_TAGS).map(|number| format!("v{number}")).collect();
    let many = Reply::of(200).saying(serde_json::json!({"tags": many}).to_string());
    peer.state().instead = vec![(list(), many, true)];
    let text = all().unwrap_err().to_string();
    assert!(text.ends_with("has more than 10000 tags of `team/app`"), "{text}");
    for (reply, why) in [
        (Reply::of(200).saying("no"), "answers what makes no sense"),
        (Reply::of(403), "refuses to list the tags of `team/app`: 403 Forbidden"),
    ] {
        peer.state().instead = vec![(list(), reply, true)];
        let text = all().unwrap_err().to_string();
        assert!(text.ends_with(why), "{text}");
    }
}

#[test]
fn the_next_page_is_what_a_link_says_of_that_relation() {
    for (links, next) in [
        ("</v2/a/tags/list?last=x&n=2>; rel=\"next\"", Some("/v2/a/tags/list?last=x&n=2")),
        ("<https://r/v2>; title=x; rel=next", Some("https://r/v2")),
        ("</first>; rel=\"first\", </second>; rel=\"next\"", Some("/second")),
        ("</first>; rel=\"first\"", None),
        ("/v2; rel=\"next\"", None),
        ("", None),
    ] {
        assert_eq!(next_page(links), next, "{links}");
    }
}

#[test]
fn an_answer_that_takes_too_long_in_all_is_not_waited_for() {
    let peer = Peer::start();
    let hurried = Account { limit: Some(Duration::from_millis(50)), ..account(&peer) };
    // Nothing is answered while the state is held.
    let held = peer.state();
    let error = with(&peer, &hurried, |repository| repository.digest("v1")).unwrap_err();
    drop(held);
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn a_digest_that_is_not_told_is_worked_out() {
    let peer = shop();
    let digest = peer.image("team/app", "v1", b"one", &[b"a layer"]);
    peer.state().instead.push(("HEAD".to_owned(), Reply::of(200), true));
    let found = with(&peer, &account(&peer), |repository| repository.digest("v1"));
    assert_eq!(found.unwrap(), Digest::parse(&digest));
}

#[test]
fn a_token_for_deletion_is_for_that() {
    let (peer, giver) = (shop(), Peer::start());
    let asked = format!("Bearer realm=\"http://{}/token\",service=\"r\"", giver.address);
    peer.state().pass = Some(("Bearer t0k.en".to_owned(), asked));
    let reply = Reply::of(200).saying(r#"{"token": "t0k.en"}"#);
    giver.state().instead.push(("GET /token".to_owned(), reply, true));
    delete(&peer, &account(&peer), "v3").unwrap();
    let asked = "GET /token?service=r&scope=repository%3Ateam%2Fapp%3Apull%2Cdelete";
    assert_eq!((giver.lines(), passes(&giver)), (vec![asked.to_owned()], vec![BASIC.to_owned()]));
}

/// A registry over TLS, and the certificate of who vouches for it.
fn secure() -> (Peer, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let config = Arc::new(config);
    let peer = Peer::over(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).ok()?;
        Some(Box::new(rustls::StreamOwned::new(connection, stream)))
    });
    (peer, authority)
}

#[test]
fn a_registry_over_tls_is_spoken_to_when_somebody_vouches_for_it() {
    let ((peer, authority), (_, another)) = (secure(), secure());
    peer.state().pass = Some((BASIC.to_owned(), "Basic realm=\"x\"".to_owned()));
    let ask = |authority: &str| {
        let account = Account { authority: authority.to_owned(), ..account(&peer) };
        let image = image(&peer);
        let mut repository = Repository::of(&image, &account, Rights::Push, &[])?;
        // Names of this machine are spoken to in the open.
        repository.base = format!("https://{}", peer.address);
        repository.manifest("v1")
    };
    assert_eq!(ask(&authority).unwrap(), None);
    assert_eq!(ask(&format!("{another}\n{authority}")).unwrap(), None, "one of several");
    let before = peer.lines().len();
    for (authority, why) in [
        (another.as_str(), "does not answer: "),
        ("", "does not answer: "),
        ("no certificate", "has an authority that cannot be used: there is no certificate in it"),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
            "has an authority that cannot be used: ",
        ),
    ] {
        let text = ask(authority).unwrap_err().to_string();
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(peer.lines().len(), before, "nothing was said to it");
}
