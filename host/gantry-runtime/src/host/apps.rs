//! `apps`: what a provisioner asks of the platform about an app.

use gantry_engine::call::AppsCall;
use gantry_engine::stream::Stream;
use gantry_engine::{Call, Response};
use wasmtime::component::Resource;

use crate::bindings::gantry::provision::apps::{AppRouter, Host, HostAppLock, Volume};
use crate::bindings::gantry::provision::types::{App, EnvVar, Error, Unit};
use crate::call::CallState;
use crate::convert::{app_to, env_to, platform_error_to, router_to, unit_from, volume_to};
use crate::host;
use crate::host::reply::{self, Take};

/// The lock of an app in the guest's hands: its number in the call's [`Locks`](crate::call::Locks).
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct KeptLock(u64);

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl CallState {
    async fn apps<T>(&mut self, call: AppsCall, take: Take<T>) -> Answer<T> {
        Ok(self.ask(Call::Apps(call), take).await?.map_err(platform_error_to))
    }
}

impl Host for CallState {
    async fn get(&mut self, name: String) -> Answer<App> {
        Ok(self.apps(AppsCall::Get { name }, reply::app).await?.map(|app| app_to(&app)))
    }

    async fn envs(&mut self, name: String) -> Answer<Vec<EnvVar>> {
        let envs = self.apps(AppsCall::Envs { name }, reply::envs).await?;
        Ok(envs.map(|envs| envs.into_iter().map(env_to).collect()))
    }

    async fn unit_envs(
        &mut self,
        name: String,
        process: String,
        is_deploy: bool,
    ) -> Answer<Vec<(String, String)>> {
        self.apps(AppsCall::UnitEnvs { name, process, is_deploy }, reply::unit_envs).await
    }

    async fn routers(&mut self, name: String) -> Answer<Vec<AppRouter>> {
        let routers = self.apps(AppsCall::Routers { name }, reply::routers).await?;
        Ok(routers.map(|routers| routers.into_iter().map(router_to).collect()))
    }

    async fn volumes(&mut self, name: String) -> Answer<Vec<Volume>> {
        let volumes = self.apps(AppsCall::Volumes { name }, reply::volumes).await?;
        Ok(volumes.map(|volumes| volumes.into_iter().map(volume_to).collect()))
    }

    async fn bind_unit(&mut self, name: String, unit: Unit) -> Answer<()> {
        let unit = Box::new(unit_from(unit));
        self.apps(AppsCall::BindUnit { name, unit }, reply::done).await
    }

    async fn unbind_unit(&mut self, name: String, unit: Unit) -> Answer<()> {
        let unit = Box::new(unit_from(unit));
        self.apps(AppsCall::UnbindUnit { name, unit }, reply::done).await
    }

    async fn set_quota_in_use(&mut self, name: String, units: i32) -> Answer<()> {
        self.apps(AppsCall::SetQuotaInUse { name, units }, reply::done).await
    }

    async fn lock(&mut self, name: String) -> Answer<Resource<KeptLock>> {
        match self.send(Call::Apps(AppsCall::Lock { name })).await? {
            Ok(Response { stream: Some(Stream::Lock(lock)), .. }) => {
                let kept = KeptLock(self.outside()?.locks.keep(lock));
                Ok(Ok(self.push(kept)?))
            }
            Ok(Response { reply, .. }) => Err(host::strange("apps.lock", &reply)),
            Err(error) => Ok(Err(platform_error_to(error))),
        }
    }
}

impl HostAppLock for CallState {
    async fn drop(&mut self, lock: Resource<KeptLock>) -> wasmtime::Result<()> {
        let KeptLock(number) = self.table.delete(lock)?;
        self.outside()?.locks.let_go(number);
        Ok(())
    }
}
