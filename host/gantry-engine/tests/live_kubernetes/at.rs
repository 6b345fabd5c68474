//! The cluster that the tests are at.

use std::path::PathBuf;
use std::sync::Arc;

use gantry_engine::Kubernetes;
use gantry_engine::contract::cluster::{Fixture, Kind};
use gantry_engine::kubernetes::Endpoint;

/// The kubeconfig, or none when no cluster is wanted.
pub(crate) fn kubeconfig() -> Option<PathBuf> {
    if std::env::var("GANTRY_SKIP_LIVE").is_ok_and(|value| value == "1") {
        println!("skipped: GANTRY_SKIP_LIVE=1 leaves out what needs a cluster");
        return None;
    }
    let path = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).expect(
        "KUBECONFIG names no cluster for the live tests (tests/cluster/up starts one; \
         GANTRY_SKIP_LIVE=1 leaves them out)",
    );
    Some(path.into())
}

/// The cluster as one of its users.
pub(crate) async fn user(context: &str) -> Option<Kubernetes> {
    let endpoint = Endpoint::kubeconfig(kubeconfig()?, context);
    Some(Kubernetes::new(&endpoint).await.expect("the kubeconfig can be used"))
}

/// The cluster, or none when it is not wanted.
pub(crate) async fn cluster() -> Option<Fixture> {
    let cluster = user("").await?;
    if let Err(error) = cluster.version().await {
        panic!("no cluster for the live tests (GANTRY_SKIP_LIVE=1 leaves them out): {error}");
    }
    Some(Fixture::new(Arc::new(cluster), Kind::Kubernetes))
}
