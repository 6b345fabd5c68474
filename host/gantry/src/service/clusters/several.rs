//! A cluster that answers at several addresses: each call goes to one of them, by chance (spec 7.1).

use std::sync::Arc;

use async_trait::async_trait;
use gantry_engine::Cluster;
use gantry_engine::call::cluster::{
    DeleteOptions, Kind, ObjectPage, Patch, PodExecOptions, PodLogOptions, Selection,
};
use gantry_engine::cluster::{Changes, Result};
use gantry_engine::stream::Session;
use serde_json::Value;

/// The API servers of one cluster; at least one.
pub(super) struct Several {
    first: Arc<dyn Cluster>,
    others: Vec<Arc<dyn Cluster>>,
}

impl Several {
    /// These API servers.
    pub(super) fn of(first: Arc<dyn Cluster>, others: Vec<Arc<dyn Cluster>>) -> Self {
        Self { first, others }
    }

    fn one(&self) -> &dyn Cluster {
        let mut byte = [0; 1];
        // Without chance it is the first one.
        let _ = getrandom::fill(&mut byte);
        let [byte] = byte;
        let index = usize::from(byte) % self.others.len().saturating_add(1);
        match index.checked_sub(1).and_then(|index| self.others.get(index)) {
            Some(other) => other.as_ref(),
            None => self.first.as_ref(),
        }
    }
}

#[async_trait]
impl Cluster for Several {
    async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value> {
        self.one().get(kind, namespace, name).await
    }

    async fn list(
        &self,
        kind: &Kind,
        selection: &Selection,
        limit: u32,
        after: &str,
    ) -> Result<ObjectPage> {
        self.one().list(kind, selection, limit, after).await
    }

    async fn create(&self, object: &Value, dry_run: bool) -> Result<Value> {
        self.one().create(object, dry_run).await
    }

    async fn apply(&self, object: &Value, dry_run: bool) -> Result<Value> {
        self.one().apply(object, dry_run).await
    }

    async fn patch(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
        dry_run: bool,
    ) -> Result<Value> {
        self.one().patch(kind, namespace, name, subresource, patch, dry_run).await
    }

    async fn delete(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<()> {
        self.one().delete(kind, namespace, name, options).await
    }

    async fn watch(&self, kind: &Kind, selection: &Selection) -> Result<Changes> {
        self.one().watch(kind, selection).await
    }

    async fn logs(&self, namespace: &str, pod: &str, options: &PodLogOptions) -> Result<Session> {
        self.one().logs(namespace, pod, options).await
    }

    async fn exec(&self, namespace: &str, pod: &str, options: &PodExecOptions) -> Result<Session> {
        self.one().exec(namespace, pod, options).await
    }

    async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        options: &PodExecOptions,
    ) -> Result<Session> {
        self.one().attach(namespace, pod, options).await
    }

    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Session> {
        self.one().port_forward(namespace, pod, port).await
    }

    async fn evict(&self, namespace: &str, pod: &str, grace_seconds: Option<u32>) -> Result<()> {
        self.one().evict(namespace, pod, grace_seconds).await
    }
}

#[cfg(test)]
mod tests {
    use gantry_engine::memory::Objects;

    use super::*;

    #[tokio::test]
    async fn every_address_is_asked_now_and_then() {
        let engines = [Objects::new(), Objects::new(), Objects::new()];
        let [first, second, third] = engines.clone();
        let several = Several::of(Arc::new(first), vec![Arc::new(second), Arc::new(third)]);
        for _ in 0..300 {
            several.get(&Kind::new("v1", "Namespace"), "", "default").await.unwrap();
        }
        for engine in engines {
            assert!(engine.count("cluster.get") > 30, "{}", engine.count("cluster.get"));
        }
    }
}
