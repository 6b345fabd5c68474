//! `routers`: the routes to apps.

use gantry_engine::Call;
use gantry_engine::call::RoutersCall;

use crate::bindings::gantry::provision::routers::{Host, RouterHealthcheck};
use crate::bindings::gantry::provision::types::Error;
use crate::call::CallState;
use crate::convert::{platform_error_to, router_healthcheck_from};
use crate::host::reply::{self, Take};

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl CallState {
    async fn routers<T>(&mut self, call: RoutersCall, take: Take<T>) -> Answer<T> {
        Ok(self.ask(Call::Routers(call), take).await?.map_err(platform_error_to))
    }
}

impl Host for CallState {
    async fn add_routes(
        &mut self,
        router: String,
        app: String,
        addresses: Vec<String>,
    ) -> Answer<()> {
        self.routers(RoutersCall::AddRoutes { router, app, addresses }, reply::done).await
    }

    async fn remove_routes(
        &mut self,
        router: String,
        app: String,
        addresses: Vec<String>,
    ) -> Answer<()> {
        self.routers(RoutersCall::RemoveRoutes { router, app, addresses }, reply::done).await
    }

    async fn routes(&mut self, router: String, app: String) -> Answer<Vec<String>> {
        self.routers(RoutersCall::Routes { router, app }, reply::texts).await
    }

    async fn swap(&mut self, router: String, app: String, other: String) -> Answer<()> {
        self.routers(RoutersCall::Swap { router, app, other }, reply::done).await
    }

    async fn set_healthcheck(
        &mut self,
        router: String,
        app: String,
        healthcheck: RouterHealthcheck,
    ) -> Answer<bool> {
        let healthcheck = router_healthcheck_from(healthcheck);
        let call = RoutersCall::SetHealthcheck { router, app, healthcheck };
        self.routers(call, reply::flag).await
    }
}
