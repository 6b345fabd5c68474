//! `/v1/plugins` and `/v1/inspect`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::Uri;

use super::request::{Path, Upload};
use super::{Answer, accepted};
use crate::api::{Accepted, Items, Plugin, PluginInfo};
use crate::operation::Caller;
use crate::service::{NewPlugin, Service};

pub(super) async fn list(State(service): State<Arc<Service>>) -> Answer<Json<Items<Plugin>>> {
    Ok(Json(Items { items: service.plugins().await? }))
}

pub(super) async fn info(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
) -> Answer<Json<PluginInfo>> {
    Ok(Json(service.plugin(&name).await?))
}

/// What the query says about the bytes. Written out by hand because a grant may come several times.
fn new_plugin(name: String, uri: &Uri, bytes: Bytes) -> NewPlugin {
    let (file, grants) = (String::new(), Vec::new());
    let mut plugin = NewPlugin { name, file, grants, grant_asked: false, force: false, bytes };
    for pair in uri.query().unwrap_or_default().split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "file" => plugin.file = unescape(value),
            "grant" => plugin.grants.push(unescape(value)),
            "grant-asked" => plugin.grant_asked = value == "true",
            "force" => plugin.force = value == "true",
            _ => {}
        }
    }
    plugin
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) async fn install(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    uri: Uri,
    caller: Caller,
    Upload(bytes): Upload,
) -> Answer<(StatusCode, Json<Accepted>)> {
    Ok(accepted(service.install_plugin(caller, new_plugin(name, &uri, bytes)).await?))
}

pub(super) async fn swap(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    uri: Uri,
    caller: Caller,
    Upload(bytes): Upload,
) -> Answer<(StatusCode, Json<Accepted>)> {
    Ok(accepted(service.swap_plugin(caller, new_plugin(name, &uri, bytes)).await?))
}

pub(super) async fn inspect(
    State(service): State<Arc<Service>>,
    uri: Uri,
    Upload(bytes): Upload,
) -> Answer<Json<PluginInfo>> {
    Ok(Json(service.inspect_plugin(new_plugin(String::new(), &uri, bytes)).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::escape;

    #[test]
    fn a_query_is_read_as_it_was_written() {
        let grant = "containers:binds:/mnt/é & x";
        let uri =
            format!("/v1/plugins/docker?file=a%2Eb+c&grant={}&grant=images:push", escape(grant));
        let plugin = new_plugin("docker".into(), &uri.parse().unwrap(), Bytes::new());
        assert_eq!(plugin.file, "a.b c");
        assert_eq!(plugin.grants, [grant, "images:push"]);
        assert!(!plugin.grant_asked && !plugin.force);
        let uri = "/v1/plugins/docker?file=a&grant-asked=true&force=true".parse().unwrap();
        let plugin = new_plugin("docker".into(), &uri, Bytes::new());
        assert!(plugin.grant_asked && plugin.force);
    }
}
