//! The value of a reply, or the reply itself when it is of another kind than the call that it answers.

use gantry_core::container::{Container, Image};
use gantry_core::image::ImageMetadata;
use gantry_core::{App, AppRouter, EnvVar, Volume};
use gantry_engine::Reply;
use gantry_engine::call::cluster::{ClusterInfo, ObjectPage};
use gantry_engine::call::{
    ContainerSummary, Entry, EntryPage, ExecState, HttpResponse, Layer, PathStat,
};
use serde_json::Value;

/// Takes the value out of a reply.
pub(crate) type Take<T> = fn(Reply) -> Result<T, Reply>;

pub(crate) fn done(reply: Reply) -> Result<(), Reply> {
    if reply == Reply::Done { Ok(()) } else { Err(reply) }
}

pub(crate) fn maybe_object(reply: Reply) -> Result<Option<Value>, Reply> {
    if reply == Reply::Done { Ok(None) } else { object(reply).map(Some) }
}

macro_rules! kinds {
    ($($name:ident: $kind:ident of $value:ty;)*) => {
        $(pub(crate) fn $name(reply: Reply) -> Result<$value, Reply> {
            if let Reply::$kind(value) = reply { Ok(value) } else { Err(reply) }
        })*
    };
}

kinds! {
    text: Text of String;
    optional_text: OptionalText of Option<String>;
    texts: Texts of Vec<String>;
    number: Number of i64;
    flag: Flag of bool;
    containers: Containers of Vec<ContainerSummary>;
    container: Container of Box<Container>;
    image: Image of Box<Image>;
    layers: Layers of Vec<Layer>;
    path_stat: PathStat of PathStat;
    exec_state: ExecState of ExecState;
    http: Http of HttpResponse;
    entry: Entry of Option<Entry>;
    entries: Entries of EntryPage;
    app: App of Box<App>;
    envs: Envs of Vec<EnvVar>;
    unit_envs: UnitEnvs of Vec<(String, String)>;
    routers: Routers of Vec<AppRouter>;
    volumes: Volumes of Vec<Volume>;
    clusters: Clusters of Vec<ClusterInfo>;
    object: Object of Value;
    objects: Objects of ObjectPage;
    metadata: Metadata of Option<Box<ImageMetadata>>;
}
