//! `apps`: what a provisioner asks of the platform about an app.

use gantry_engine::call::AppsCall;
use gantry_engine::{Call, Reply, Response};

use crate::bindings::gantry::provision::apps::{AppRouter, Host};
use crate::bindings::gantry::provision::types::{App, EnvVar, Error, Unit};
use crate::call::CallState;
use crate::convert::{app_to, env_to, platform_error_to, router_to, unit_from};
use crate::host::expect_reply;

impl CallState {
    async fn apps(&mut self, call: AppsCall) -> wasmtime::Result<Result<Response, Error>> {
        Ok(self.send(Call::Apps(call)).await?.map_err(platform_error_to))
    }
}

impl Host for CallState {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<App, Error>> {
        Ok(match self.apps(AppsCall::Get { name }).await? {
            Ok(response) => {
                let app = expect_reply!("apps.get", response, Reply::App(app) => app);
                Ok(app_to(&app))
            }
            Err(error) => Err(error),
        })
    }

    async fn envs(&mut self, name: String) -> wasmtime::Result<Result<Vec<EnvVar>, Error>> {
        Ok(match self.apps(AppsCall::Envs { name }).await? {
            Ok(response) => {
                let envs = expect_reply!("apps.envs", response, Reply::Envs(envs) => envs);
                Ok(envs.into_iter().map(env_to).collect())
            }
            Err(error) => Err(error),
        })
    }

    async fn unit_envs(
        &mut self,
        name: String,
        process: String,
        is_deploy: bool,
    ) -> wasmtime::Result<Result<Vec<(String, String)>, Error>> {
        Ok(match self.apps(AppsCall::UnitEnvs { name, process, is_deploy }).await? {
            Ok(response) => {
                Ok(expect_reply!("apps.unit-envs", response, Reply::UnitEnvs(envs) => envs))
            }
            Err(error) => Err(error),
        })
    }

    async fn routers(&mut self, name: String) -> wasmtime::Result<Result<Vec<AppRouter>, Error>> {
        Ok(match self.apps(AppsCall::Routers { name }).await? {
            Ok(response) => {
                let routers = expect_reply!("apps.routers", response, Reply::Routers(all) => all);
                Ok(routers.into_iter().map(router_to).collect())
            }
            Err(error) => Err(error),
        })
    }

    async fn bind_unit(&mut self, name: String, unit: Unit) -> wasmtime::Result<Result<(), Error>> {
        let unit = Box::new(unit_from(unit));
        Ok(match self.apps(AppsCall::BindUnit { name, unit }).await? {
            Ok(response) => Ok(expect_reply!("apps.bind-unit", response, Reply::Done => ())),
            Err(error) => Err(error),
        })
    }

    async fn unbind_unit(
        &mut self,
        name: String,
        unit: Unit,
    ) -> wasmtime::Result<Result<(), Error>> {
        let unit = Box::new(unit_from(unit));
        Ok(match self.apps(AppsCall::UnbindUnit { name, unit }).await? {
            Ok(response) => Ok(expect_reply!("apps.unbind-unit", response, Reply::Done => ())),
            Err(error) => Err(error),
        })
    }

    async fn set_quota_in_use(
        &mut self,
        name: String,
        units: i32,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(match self.apps(AppsCall::SetQuotaInUse { name, units }).await? {
            Ok(response) => Ok(expect_reply!("apps.set-quota-in-use", response, Reply::Done => ())),
            Err(error) => Err(error),
        })
    }
}
