//! The HTTP API as any program sees it.

use anyhow::{Result, ensure};
use gantry::api::{ProblemKind, Version};
use gantry::client::{Change, Client, ClientError};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::support::{House, refused};

/// A request without our client: status, kind of document, document.
async fn raw(
    house: &House,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(u16, String, Value)> {
    let stream = UnixStream::connect(house.folder.path().join("g.sock")).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "gantry");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    let response = sender.send_request(request.body(body)?).await?;
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().map(str::to_owned));
    let bytes = response.into_body().collect().await?.to_bytes();
    let document = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok((status, kind.transpose()?.unwrap_or_default(), document))
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() -> Result<()> {
    let house = House::with_docker("").await?;
    house.done(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    let long = "x".repeat(300);
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);
    let cases: [Case<'_>; 16] = [
        ("GET", "/v2", &[], "", 404, "not-found"),
        ("PUT", "/v1/apps", &[], "", 405, "invalid"),
        ("GET", "/v1/apps/nobody", &[], "", 404, "not-found"),
        ("GET", "/v1/operations/nobody", &[], "", 404, "not-found"),
        ("GET", "/v1/operations?limit=many", &[], "", 400, "invalid"),
        ("GET", "/v1/plugins/nobody", &[], "", 404, "not-found"),
        ("GET", "/v1/apps/%FF", &[], "", 400, "invalid"),
        ("POST", "/v1/apps", &[], "{", 400, "invalid"),
        ("POST", "/v1/apps", &[], r#"{"nam": "api"}"#, 400, "invalid"),
        ("POST", "/v1/apps", &[], r#"{"name": "No"}"#, 400, "invalid"),
        ("POST", "/v1/apps", &[], r#"{"name": "api", "pool": "moon"}"#, 404, "not-found"),
        ("POST", "/v1/apps/web/deploy", &[], r#"{"image": ""}"#, 400, "invalid"),
        ("POST", "/v1/apps/web/units", &[], r#"{"count": 0}"#, 400, "invalid"),
        ("POST", "/v1/apps/web/units", &[], r#"{"count": 1}"#, 409, "conflict"),
        ("POST", "/v1/apps", &[("idempotency-key", &long)], r#"{"name": "a"}"#, 400, "invalid"),
        ("POST", "/v1/apps/web/run", &[], r#"{"command": []}"#, 400, "invalid"),
    ];
    for (method, path, headers, body, status, word) in cases {
        let (got, kind, document) = raw(&house, method, path, headers, body).await?;
        let case = format!("{method} {path} {body}: {document}");
        assert_eq!(got, status, "{case}");
        assert_eq!(kind, "application/problem+json", "{case}");
        assert_eq!(document["type"], format!("urn:gantry:problem:{word}"), "{case}");
        ensure!(!document["title"].as_str().unwrap_or_default().is_empty(), "{case}");
    }
    Ok(())
}

#[tokio::test]
async fn a_change_answers_202_with_where_to_follow_it() -> Result<()> {
    let house = House::with_docker("").await?;
    let (status, kind, document) =
        raw(&house, "POST", "/v1/apps", &[], r#"{"name": "web"}"#).await?;
    assert_eq!((status, kind.as_str()), (202, "application/json"));
    let operation = document["operation"].as_str().unwrap_or_default();
    assert_eq!(document["events"], format!("/v1/operations/{operation}/events"));
    Ok(())
}

#[tokio::test]
async fn a_document_that_is_too_large_is_refused() -> Result<()> {
    let house = House::new("").await?;
    let body = format!(r#"{{"name": "{}"}}"#, "x".repeat(2 << 20));
    let (status, kind, _) = raw(&house, "POST", "/v1/apps", &[], &body).await?;
    assert_eq!((status, kind.as_str()), (400, "application/problem+json"));
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_is_too_large_is_refused_by_its_bound() -> Result<()> {
    let house = House::new("provisioners.docker.limits.plugin-size = \"1MiB\"").await?;
    // The largest plugin of any provisioner may be sent; a default one has 64 MiB.
    let bytes = vec![0; (64 << 20) + 1];
    let (path, change) = ("/v1/plugins/big", Change::default());
    let sent = house.client.change_bytes(Method::PUT, path, bytes, &change).await;
    let problem = refused(sent)?.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::OverLimit);
    ensure!(
        problem.detail.starts_with("over the limit `plugin-size` of 64 MiB: raise"),
        "{problem:?}"
    );
    // And each provisioner has its own bound.
    let sent =
        house.client.change_bytes(Method::PUT, "/v1/plugins/docker", vec![0; 2 << 20], &change);
    let problem = house.end_of(&sent.await?).await?.unwrap_err();
    ensure!(problem.detail.contains("`plugin-size` of 1 MiB"), "{problem:?}");
    Ok(())
}

#[tokio::test]
async fn tcp_is_for_those_who_know_the_token() -> Result<()> {
    let house = House::new("").await?;
    let ask = |token: Option<&str>| {
        let client = Client::new(house.tcp().unwrap(), token.map(str::to_owned));
        async move { client.get::<Version>("/v1/version").await }
    };
    for wrong in [None, Some(""), Some("sesam"), Some("sesame2")] {
        let error = ask(wrong).await.unwrap_err();
        let ClientError::Problem(problem) = error else { panic!("{error:?}") };
        assert_eq!(problem.kind, ProblemKind::Unauthorized, "{wrong:?}");
    }
    ensure!(!ask(Some("sesame")).await?.instance.is_empty());
    // The socket of the machine needs none.
    house.client.get::<Version>("/v1/version").await?;
    Ok(())
}

#[tokio::test]
async fn without_a_plugin_an_app_cannot_be_made_and_the_way_out_is_told() -> Result<()> {
    let house = House::new("").await?;
    let made = house.begin(Method::POST, "/v1/apps", json!({"name": "web"})).await?;
    let problem = made.unwrap_err();
    assert_eq!(problem.kind, ProblemKind::NotFound);
    assert_eq!(problem.hint.as_deref(), Some("install one: `gantry plugin install docker FILE`"));
    Ok(())
}
