//! The health-check probe, through an engine that says where a port is published.

use std::sync::Arc;

use gantry_engine::Containers as _;
use gantry_engine::call::{HttpRequest, HttpResponse};
use gantry_engine::containers::Result;
use tokio_rustls::TlsAcceptor;

use crate::peer::{Answer, Peer, json, version};
use crate::{docker, refused};

fn get(path: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        path: path.to_owned(),
        port: "8888/tcp".to_owned(),
        timeout: 5000,
    }
}

/// An engine with one container, whose port is published where something answers.
fn engine(port: &str) -> Peer {
    let body = format!(
        r#"{{"Id":"0f","Name":"/web-1","State":{{"Status":"running","Running":true}},
            "NetworkSettings":{{"Ports":{{"8888/tcp":[
                {{"HostIp":"0.0.0.0","HostPort":"{port}"}},{{"HostIp":"::","HostPort":"{port}"}}
            ]}}}}}}"#
    );
    Peer::new(move |_| json(200, &body))
}

async fn ask(unit: &Peer, request: &HttpRequest) -> Result<HttpResponse> {
    docker(&engine(unit.port())).http("web-1", request).await
}

fn plain(status: u16, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Last(
        format!("HTTP/1.1 {status} Word\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into(),
    )
}

#[tokio::test]
async fn a_unit_is_asked_as_the_request_says() {
    let unit = Peer::tcp(None, |_| plain(200, "", "WORKING")).await;
    let request = HttpRequest { method: "POST".to_owned(), ..get("/health?deep=1") };
    let answer = ask(&unit, &request).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"WORKING"[..]));
    let seen = &unit.seen()[0];
    assert_eq!(seen.line(), "POST /health?deep=1");
    assert_eq!(seen.header("host"), Some(format!("127.0.0.1:{}", unit.port()).as_str()));
}

#[tokio::test]
async fn a_redirect_and_an_error_are_answers() {
    let unit = Peer::tcp(None, |seen| match seen.path.as_str() {
        "/old" => plain(302, "Location: /new\r\n", ""),
        _ => plain(503, "", "not yet"),
    })
    .await;
    assert_eq!(ask(&unit, &get("/old")).await.unwrap().status, 302);
    let answer = ask(&unit, &get("/")).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (503, &b"not yet"[..]));
    assert_eq!(unit.lines(), ["GET /old", "GET /"]);
}

#[tokio::test]
async fn a_body_is_cut_and_one_without_an_end_is_not_waited_for() {
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    let endless = [head.as_bytes(), &vec![b'x'; 100_000]].concat();
    let unit = Peer::tcp(None, move |_| Answer::Stuck(endless.clone())).await;
    let answer = ask(&unit, &get("/")).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 64 << 10));
    // Without a length, the end of the connection is the end of the body.
    let unit = Peer::tcp(None, move |_| Answer::Last(format!("{head}all of it").into())).await;
    assert_eq!(ask(&unit, &get("/")).await.unwrap().body, b"all of it");
}

#[tokio::test]
async fn a_refused_connection_says_which_port_and_why() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let answer = docker(&engine(&port.to_string())).http("web-1", &get("/health")).await;
    let text = refused(answer, "failed");
    assert_eq!(
        text,
        "the port `8888/tcp` of the container `web-1` gives no answer: connection refused"
    );
}

#[tokio::test]
async fn an_engine_that_went_away_is_told_from_a_unit_that_does_not_answer() {
    let cut = Peer::new(|_| Answer::Last(Vec::new()));
    let text = refused(docker(&cut).http("web-1", &get("/health")).await, "unreachable");
    assert!(text.contains("went away in the middle"), "{text}");
    let stopped = Peer::new(|_| {
        json(200, r#"{"Id":"0f","Name":"/web-1","State":{"Status":"exited","Running":false}}"#)
    });
    let text = refused(docker(&stopped).http("web-1", &get("/health")).await, "conflict");
    assert!(text.contains("does not run: it is exited"), "{text}");
}

#[tokio::test]
async fn an_answer_that_is_late_or_broken_is_none() {
    let unit = Peer::tcp(None, |_| Answer::Stuck(Vec::new())).await;
    let text = refused(ask(&unit, &HttpRequest { timeout: 100, ..get("/") }).await, "timed-out");
    let asked = "the port `8888/tcp` of the container `web-1`";
    assert_eq!(text, format!("{asked} gave no answer within 100ms"));
    for bytes in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "SSH-2.0-x\r\n\r\n"] {
        let unit = Peer::tcp(None, move |_| Answer::Last(bytes.into())).await;
        let text = refused(ask(&unit, &get("/")).await, "failed");
        assert!(text.starts_with(&format!("{asked} gives no answer: ")), "{text}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_made_is_invalid() {
    let unit = Peer::tcp(None, |_| plain(200, "", "")).await;
    for request in [
        HttpRequest { method: "GET / HTTP/1.1\r\nX: ".to_owned(), ..get("/") },
        HttpRequest { scheme: "ftp".to_owned(), ..get("/") },
        get("health"),
        get("/a b"),
        get("/\r\nX: y"),
        get("//other.host/"),
        HttpRequest { port: "80/tcp".to_owned(), ..get("/") },
    ] {
        let answer = ask(&unit, &request).await;
        if request.path != "//other.host/" {
            refused(answer, "invalid");
        } else {
            // A path with two slashes is a path: the host stays the unit's.
            assert_eq!(answer.unwrap().status, 200);
        }
    }
    assert_eq!(unit.lines(), ["GET //other.host/"]);
}

/// An engine whose container has one binding.
fn bound(port: &str, host_ip: &str, host_port: &str) -> String {
    format!(
        r#"{{"Id":"0f","Name":"/web-1","State":{{"Status":"running","Running":true}},
            "NetworkSettings":{{"Ports":{{"{port}":[
                {{"HostIp":"{host_ip}","HostPort":"{host_port}"}}]}}}}}}"#
    )
}

#[tokio::test]
async fn what_listens_beside_the_engine_is_not_asked_through_a_port_of_another_protocol() {
    let other = Peer::tcp(None, |_| plain(200, "", "not yours")).await;
    for port in ["1/udp", "1/sctp"] {
        let body = bound(port, "0.0.0.0", other.port());
        let engine = Peer::new(move |_| json(200, &body));
        let request = HttpRequest { port: port.to_owned(), ..get("/") };
        refused(docker(&engine).http("web-1", &request).await, "invalid");
    }
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn what_listens_beside_the_engine_is_not_asked_at_an_address_that_is_not_published() {
    let other = Peer::tcp(None, |_| plain(200, "", "not yours")).await;
    // Here: the port is published at another address of this machine.
    let body = bound("8888/tcp", "::", other.port());
    let engine = Peer::new(move |_| json(200, &body));
    refused(docker(&engine).http("web-1", &get("/")).await, "failed");
    // On another machine: its loopback is not ours, and its bridges are none of its addresses.
    for address in ["127.0.0.9", "::", "172.17.0.1"] {
        let body = bound("8888/tcp", address, other.port());
        let engine = Peer::tcp(None, move |seen| match seen.path.as_str() {
            "/version" => version("1.41", "1.12"),
            _ => json(200, &body),
        })
        .await;
        let text = refused(docker(&engine).http("web-1", &get("/")).await, "invalid");
        assert!(text.contains(&format!("published at `{address}` only")), "{text}");
    }
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn a_unit_with_a_certificate_of_its_own_is_asked_over_tls() {
    let key = rcgen::generate_simple_self_signed(["somebody.example".to_owned()]).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![key.cert.der().clone()],
        rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()),
    )
    .unwrap();
    let tls = Some(TlsAcceptor::from(Arc::new(config)));
    let unit = Peer::tcp(tls, |_| plain(200, "", "secret")).await;
    let request = HttpRequest { scheme: "https".to_owned(), ..get("/") };
    assert_eq!(ask(&unit, &request).await.unwrap().body, b"secret");
    refused(ask(&unit, &get("/")).await, "failed");
}
