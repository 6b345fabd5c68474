//! Who may do what, and who is nobody.

use gantry_engine::call::cluster::{Kind, Selection};
use gantry_engine::contract::cluster::{config_maps, refused};
use gantry_engine::kubernetes::{Credentials, Endpoint};
use gantry_engine::{Cluster as _, Kubernetes};
use serde_json::json;

use crate::{kubeconfig, user};

#[tokio::test]
async fn a_token_and_a_certificate_are_good_credentials() {
    for context in ["test", "test-cert"] {
        let Some(cluster) = user(context).await else { return };
        let found = cluster.get(&Kind::new("v1", "Namespace"), "", "default").await.unwrap();
        assert_eq!(found["metadata"]["name"], "default");
        assert!(cluster.version().await.unwrap().starts_with("v1."));
    }
}

#[tokio::test]
async fn what_a_user_may_not_do_is_forbidden() {
    let Some(cluster) = user("limited").await else { return };
    cluster.list(&config_maps(), &selection("default"), 1, "").await.unwrap();
    let told =
        refused(cluster.list(&config_maps(), &selection("kube-system"), 1, "").await, "forbidden");
    assert!(told.contains("configmaps") && told.contains("kube-system"), "{told}");
    refused(cluster.get(&Kind::new("v1", "Namespace"), "", "kube-system").await, "forbidden");
    let watched = cluster.watch(&config_maps(), &selection("kube-system")).await;
    refused(watched.map(|_| ()), "forbidden");
}

fn selection(namespace: &str) -> Selection {
    Selection { namespace: namespace.to_owned(), ..Selection::default() }
}

#[tokio::test]
async fn who_is_nobody_is_told_that_credentials_may_expire() {
    for context in ["wrong-token", "expired"] {
        let Some(cluster) = user(context).await else { return };
        let told = refused(cluster.get(&config_maps(), "default", "a").await, "forbidden");
        assert!(told.contains("does not know the credentials"), "{context}: {told}");
    }
}

#[tokio::test]
async fn a_cluster_of_another_authority_is_not_spoken_to() {
    let Some(cluster) = user("").await else { return };
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    let endpoint = Endpoint::address(
        cluster.address(),
        Some(other.cert.pem()),
        Credentials::Token("secret".to_owned()),
    );
    let stranger = Kubernetes::new(&endpoint).await.unwrap();
    let told = refused(stranger.version().await, "unreachable");
    assert!(told.contains("certificate"), "{told}");
}

#[tokio::test]
async fn an_address_with_credentials_is_as_good_as_a_kubeconfig() {
    let Some(path) = kubeconfig() else { return };
    let folder = path.parent().unwrap();
    let file = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    // Only a cluster of ours has them beside its kubeconfig.
    let (Some(ca), Some(certificate), Some(key)) =
        (file("ca.crt"), file("cert-admin.crt"), file("cert-admin.key"))
    else {
        println!("skipped: `{}` has no certificates beside it", path.display());
        return;
    };
    let address = user("").await.unwrap().address().to_owned();
    let credentials = Credentials::Certificate { certificate, key };
    let endpoint = Endpoint::address(address, Some(ca), credentials);
    let cluster = Kubernetes::new(&endpoint).await.unwrap();
    cluster.get(&Kind::new("v1", "Namespace"), "", "default").await.unwrap();
}

#[tokio::test]
async fn an_object_that_is_too_large_is_invalid() {
    let Some(cluster) = user("").await else { return };
    let object = |bytes: usize| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "default", "name": "too-large", "annotations": {}},
            "data": {"a": "x".repeat(bytes)},
        })
    };
    // Over the bound of the kind, and over that of every request.
    for bytes in [(1 << 20) + 1, 4 << 20] {
        refused(cluster.create(&object(bytes), false).await, "invalid");
    }
    // Over that of the store, but of no kind.
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"namespace": "default", "name": "too-large"},
        "spec": {"holderIdentity": "x".repeat(2 << 20)},
    });
    refused(cluster.create(&lease, false).await, "invalid");
}
