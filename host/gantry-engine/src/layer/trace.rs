//! A span and an event for each call: who, for which operation, on which node, which call, how long, how it ended.
//!
//! Arguments and replies are never written: they hold environments, and those hold secrets.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::layer::{Layer, Next};
use crate::{Call, Error, Request, Response, Scope};

/// Traces every call that reaches it, at level `debug`, under the target `gantry_engine::call`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace;

#[async_trait]
impl Layer for Trace {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        let node = match &request.call {
            Call::Containers { node, .. } => node.as_str(),
            Call::Cluster { cluster, .. } => cluster.as_str(),
            Call::Nodes
            | Call::Clusters
            | Call::State(_)
            | Call::Apps(_)
            | Call::Images(_)
            | Call::Routers(_)
            | Call::Config { .. } => "",
        };
        let span = tracing::debug_span!(
            target: "gantry_engine::call",
            "call",
            owner = &*scope.provisioner,
            operation = scope.operation.id,
            node,
            name = request.call.name(),
        );
        let started = Instant::now();
        let answer = next.send(scope, request).instrument(span.clone()).await;
        let outcome = match &answer {
            Ok(_) => "done",
            Err(error) => error.kind(),
        };
        let microseconds = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        span.in_scope(|| {
            tracing::debug!(target: "gantry_engine::call", microseconds, outcome, "answered");
        });
        answer
    }
}
