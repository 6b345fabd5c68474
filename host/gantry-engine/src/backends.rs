//! What is at the end of the chain, and how a call becomes a method of it.

use std::future::{self, Future};
use std::sync::Arc;
use std::time::Duration;

use gantry_core::env::{PlatformEnv, envs_for_app};
use tokio_util::sync::CancellationToken;

use crate::call::{AppsCall, ClusterCall, ContainersCall, ImagesCall, RoutersCall, StateCall};
use crate::routers::{check_addresses, check_healthcheck};
use crate::stream::{Output, Reader, Session, Stream};
use crate::{
    AppLock, Apps, Call, Cluster, Clusters, Containers, EngineError, Error, Images, Nodes,
    Operation, Reply, Request, Response, Routers, Scope, State, follow,
};

/// What is at the end of the chain.
#[derive(Clone)]
pub struct Backends {
    /// The container engines.
    pub nodes: Arc<Nodes>,
    /// The clusters.
    pub clusters: Arc<Clusters>,
    /// The apps of the platform.
    pub apps: Arc<dyn Apps>,
    /// The images of its apps.
    pub images: Arc<dyn Images>,
    /// The routes to its apps.
    pub routers: Arc<dyn Routers>,
    /// The durable keys of plugins.
    pub state: Arc<dyn State>,
}

impl Backends {
    /// Carries a call out. What waits for something ends with [`EngineError::Cancelled`] as soon as the operation is interrupted; what is short is let finish.
    pub(crate) async fn perform(
        &self,
        scope: &Arc<Scope>,
        request: Request,
    ) -> Result<Response, Error> {
        let Request { call, input, output, given_up } = request;
        match call {
            Call::Nodes => Ok(Reply::Texts(self.nodes.of(&scope.provisioner)).into()),
            Call::Containers { node, call } => {
                let engine = self.nodes.engine(&scope.provisioner, &node)?;
                let waits = call.waits();
                let answer = containers(&*engine, call, input, output);
                Ok(if waits { uninterrupted(scope, answer).await? } else { answer.await? })
            }
            Call::Clusters => {
                let clusters = self.clusters.all(&scope.provisioner);
                Ok(Reply::Clusters(clusters.into_iter().map(|given| given.info).collect()).into())
            }
            Call::Cluster { cluster: name, call } => {
                let given = self.clusters.cluster(&scope.provisioner, &name)?;
                let engine = &*given.engine;
                let asking = Asking { scope, given_up };
                let waits = call.waits();
                let answer = asking.patiently(engine, *call, input, output);
                Ok(if waits { uninterrupted(scope, answer).await? } else { answer.await? })
            }
            Call::State(call) => Ok(state(&*self.state, &scope.provisioner, call).await?.into()),
            Call::Apps(call) => Ok(apps(&*self.apps, scope, call).await?),
            Call::Images(call) => Ok(images(&*self.images, call).await?.into()),
            Call::Routers(call) => Ok(routers(&*self.routers, call).await?.into()),
            Call::Config { key } => {
                let value = scope.config.get(&key).map(|value| value.to_string());
                Ok(Reply::OptionalText(value).into())
            }
        }
    }
}

async fn uninterrupted(
    scope: &Scope,
    answer: impl Future<Output = Result<Response, EngineError>>,
) -> Result<Response, EngineError> {
    tokio::select! {
        biased;
        () = scope.operation.interruption() => Err(EngineError::Cancelled),
        answer = answer => answer,
    }
}

async fn containers(
    engine: &dyn Containers,
    call: ContainersCall,
    input: Option<Reader>,
    output: Option<Output>,
) -> Result<Response, EngineError> {
    let reply = match call {
        // Who is told which labels is the business of the layer of identity.
        ContainersCall::List { all, labels, label_keys: _ } => {
            Reply::Containers(engine.list(all, &labels).await?)
        }
        ContainersCall::Create { name, spec } => Reply::Text(engine.create(&name, &spec).await?),
        ContainersCall::Start { id } => {
            engine.start(&id).await?;
            Reply::Done
        }
        ContainersCall::Stop { id, seconds } => {
            engine.stop(&id, seconds).await?;
            Reply::Done
        }
        ContainersCall::Remove { id, force } => {
            engine.remove(&id, force).await?;
            Reply::Done
        }
        ContainersCall::Inspect { id } => Reply::Container(Box::new(engine.inspect(&id).await?)),
        ContainersCall::Wait { id } => Reply::Number(engine.wait(&id).await?),
        ContainersCall::Commit { id, repository, tag, comment, labels } => {
            Reply::Text(engine.commit(&id, &repository, &tag, &comment, &labels).await?)
        }
        ContainersCall::Download { id, path } => {
            let reader = engine.download(&id, &path).await?;
            return Ok(Response { reply: Reply::Done, stream: Some(Stream::Reader(reader)) });
        }
        ContainersCall::Upload { id, path } => {
            engine.upload(&id, &path, wanted(input, "input")?).await?;
            Reply::Done
        }
        ContainersCall::StatPath { id, path } => {
            Reply::PathStat(engine.stat_path(&id, &path).await?)
        }
        ContainersCall::AttachCopy { id, logs } => {
            let output = wanted(output, "output")?;
            follow::container(engine, &id, logs, output).await?;
            Reply::Done
        }
        ContainersCall::Attach { id, logs } => {
            return Ok(session(engine.attach(&id, logs).await?));
        }
        ContainersCall::Logs { id, options } => {
            return Ok(session(engine.logs(&id, &options).await?));
        }
        ContainersCall::Http { id, request } => Reply::Http(engine.http(&id, &request).await?),
        ContainersCall::CreateExec { id, options } => {
            Reply::Text(engine.create_exec(&id, &options).await?)
        }
        ContainersCall::StartExec { exec_id } => {
            engine.start_exec(&exec_id, wanted(output, "output")?).await?;
            Reply::Done
        }
        ContainersCall::ResizeExec { exec_id, height, width } => {
            engine.resize_exec(&exec_id, height, width).await?;
            Reply::Done
        }
        ContainersCall::InspectExec { exec_id } => {
            Reply::ExecState(engine.inspect_exec(&exec_id).await?)
        }
        ContainersCall::ExecSession { id, options } => {
            return Ok(session(engine.exec_session(&id, &options).await?));
        }
        ContainersCall::PullImage { image } => {
            engine.pull_image(&image).await?;
            Reply::Done
        }
        ContainersCall::InspectImage { image } => {
            Reply::Image(Box::new(engine.inspect_image(&image).await?))
        }
        ContainersCall::TagImage { image, repository, tag } => {
            engine.tag_image(&image, &repository, &tag).await?;
            Reply::Done
        }
        ContainersCall::RemoveImage { image } => {
            engine.remove_image(&image).await?;
            Reply::Done
        }
        ContainersCall::ImageHistory { image } => {
            Reply::Layers(engine.image_history(&image).await?)
        }
        ContainersCall::BuildImage { options } => {
            let context = wanted(input, "input")?;
            let output = wanted(output, "output")?;
            engine.build_image(&options, context, output.stdout).await?;
            Reply::Done
        }
        ContainersCall::PushImage { image } => {
            engine.push_image(&image, wanted(output, "output")?.stdout).await?;
            Reply::Done
        }
    };
    Ok(reply.into())
}

/// Whoever asks a cluster for something.
struct Asking<'a> {
    scope: &'a Scope,
    given_up: Option<CancellationToken>,
}

impl Asking<'_> {
    /// Asks again what a cluster had too much to do for, as long as somebody waits for it, the operation has time and nobody asks it to stop.
    async fn patiently(
        &self,
        engine: &dyn Cluster,
        call: ClusterCall,
        input: Option<Reader>,
        output: Option<Output>,
    ) -> Result<Response, EngineError> {
        if !call.repeats() {
            return cluster(engine, &call, input, output).await;
        }
        let mut attempt = 0;
        loop {
            let error = match cluster(engine, &call, None, None).await {
                Err(error @ EngineError::TooManyRequests { .. }) => error,
                answer => return answer,
            };
            let pause = pause(attempt, &error);
            attempt = attempt.saturating_add(1);
            if tokio::time::Instant::now() + pause >= self.scope.operation.deadline {
                return Err(error);
            }
            tokio::select! {
                biased;
                () = self.scope.operation.interruption() => return Err(EngineError::Cancelled),
                () = self.nobody_waits() => return Err(error),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn nobody_waits(&self) {
        match &self.given_up {
            Some(given_up) => given_up.cancelled().await,
            None => future::pending().await,
        }
    }
}

/// How long to wait before the next attempt: as long as the cluster says, or twice as long each time.
fn pause(attempt: u32, error: &EngineError) -> Duration {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);
    if let EngineError::TooManyRequests { retry_after: Some(seconds), .. } = error {
        return Duration::from_secs(u64::from(*seconds)).clamp(FIRST, LONGEST);
    }
    FIRST.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST)
}

async fn cluster(
    engine: &dyn Cluster,
    call: &ClusterCall,
    input: Option<Reader>,
    output: Option<Output>,
) -> Result<Response, EngineError> {
    let reply = match call {
        ClusterCall::Get { kind, namespace, name } => {
            Reply::Object(engine.get(kind, namespace, name).await?)
        }
        ClusterCall::List { kind, selection, limit, after } => {
            Reply::Objects(engine.list(kind, selection, *limit, after).await?)
        }
        ClusterCall::Create { object, dry_run } => {
            Reply::Object(engine.create(object, *dry_run).await?)
        }
        ClusterCall::Apply { object, dry_run } => {
            Reply::Object(engine.apply(object, *dry_run).await?)
        }
        ClusterCall::Patch { kind, namespace, name, subresource, patch, dry_run } => {
            Reply::Object(engine.patch(kind, namespace, name, subresource, patch, *dry_run).await?)
        }
        ClusterCall::PutBack { .. } => {
            let text = "nobody kept what there was before".to_owned();
            return Err(EngineError::Failed(text));
        }
        ClusterCall::Delete { kind, namespace, name, options } => {
            match engine.delete(kind, namespace, name, options).await {
                Ok(()) | Err(EngineError::NotFound(_)) => Reply::Done,
                Err(error) => return Err(error),
            }
        }
        ClusterCall::Watch { kind, selection } => {
            let changes = engine.watch(kind, selection).await?;
            return Ok(Response { reply: Reply::Done, stream: Some(Stream::Changes(changes)) });
        }
        ClusterCall::Logs { namespace, pod, options } => {
            return Ok(session(engine.logs(namespace, pod, options).await?));
        }
        ClusterCall::Exec { namespace, pod, options } => {
            let started = engine.exec(namespace, pod, options).await?;
            let code = follow::session(started, input, wanted(output, "output")?).await?;
            let unknown = "nobody knows how the command ended";
            let code = code.ok_or_else(|| EngineError::Failed(unknown.to_owned()))?;
            Reply::Number(i64::from(code))
        }
        ClusterCall::ExecSession { namespace, pod, options } => {
            return Ok(session(engine.exec(namespace, pod, options).await?));
        }
        ClusterCall::Attach { namespace, pod, options } => {
            let attached = engine.attach(namespace, pod, options).await?;
            follow::session(attached, input, wanted(output, "output")?).await?;
            Reply::Done
        }
        ClusterCall::AttachSession { namespace, pod, options } => {
            return Ok(session(engine.attach(namespace, pod, options).await?));
        }
        ClusterCall::PortForward { namespace, pod, port } => {
            return Ok(session(engine.port_forward(namespace, pod, *port).await?));
        }
        ClusterCall::Evict { namespace, pod, grace_seconds } => {
            match engine.evict(namespace, pod, *grace_seconds).await {
                Ok(()) | Err(EngineError::NotFound(_)) => Reply::Done,
                Err(error) => return Err(error),
            }
        }
    };
    Ok(reply.into())
}

fn session(session: Session) -> Response {
    Response { reply: Reply::Done, stream: Some(Stream::Session(session)) }
}

/// The bytes beside a call. Their absence is the host's fault, not the plugin's.
fn wanted<T>(end: Option<T>, what: &str) -> Result<T, EngineError> {
    end.ok_or_else(|| EngineError::Failed(format!("the host sent a call without its {what}")))
}

/// The bounds on keys and on what is written of images, for every store alike.
const KEY_BYTES: usize = 512;
const VALUE_BYTES: usize = 1 << 20;
/// The longest name of an image.
const IMAGE_BYTES: usize = 512;
/// How long an app's lock is waited for (spec 5.12).
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How many keys one page holds.
const PAGE_ENTRIES: u32 = 256;

async fn state(
    state: &dyn State,
    owner: &str,
    call: StateCall,
) -> Result<Reply, gantry_core::Error> {
    Ok(match call {
        StateCall::Get { key } => Reply::Entry(state.get(owner, &key).await?),
        StateCall::PutIf { key, value, expected } => {
            if key.is_empty() || key.len() > KEY_BYTES {
                return Err(invalid(format!("a key has 1 to {KEY_BYTES} bytes: `{key}`")));
            }
            if value.len() > VALUE_BYTES {
                let bytes = value.len();
                return Err(invalid(format!("`{key}` has {bytes} bytes of {VALUE_BYTES}")));
            }
            let version = state.put_if(owner, &key, &value, expected).await?;
            Reply::Number(i64::try_from(version).unwrap_or(i64::MAX))
        }
        StateCall::DeleteIf { key, expected } => {
            state.delete_if(owner, &key, expected).await?;
            Reply::Done
        }
        StateCall::List { prefix, after, limit } => {
            let limit = if limit == 0 { PAGE_ENTRIES } else { limit.min(PAGE_ENTRIES) };
            Reply::Entries(state.list(owner, &prefix, after.as_deref(), limit).await?)
        }
    })
}

fn invalid(why: String) -> gantry_core::Error {
    gantry_core::Error::InvalidArgument(why)
}

async fn apps(
    apps: &dyn Apps,
    scope: &Scope,
    call: AppsCall,
) -> Result<Response, gantry_core::Error> {
    let reply = match call {
        AppsCall::Get { name } => Reply::App(Box::new(apps.get(&name).await?)),
        AppsCall::Envs { name } => Reply::Envs(apps.envs(&name).await?),
        AppsCall::UnitEnvs { name, process, is_deploy } => {
            let envs = apps.envs(&name).await?;
            let platform = PlatformEnv::from_settings(&*scope.config);
            Reply::UnitEnvs(envs_for_app(&envs, &process, is_deploy, &platform))
        }
        AppsCall::Routers { name } => Reply::Routers(apps.routers(&name).await?),
        AppsCall::Volumes { name } => Reply::Volumes(apps.volumes(&name).await?),
        AppsCall::BindUnit { name, unit } => {
            apps.bind_unit(&name, &unit).await?;
            Reply::Done
        }
        AppsCall::UnbindUnit { name, unit } => {
            apps.unbind_unit(&name, &unit).await?;
            Reply::Done
        }
        AppsCall::SetQuotaInUse { name, units } => {
            apps.set_quota_in_use(&name, units).await?;
            Reply::Done
        }
        AppsCall::Lock { name } => {
            let lock = Some(Stream::Lock(lock(apps, &scope.operation, &name).await?));
            return Ok(Response { reply: Reply::Done, stream: lock });
        }
    };
    Ok(reply.into())
}

/// Locks an app for an operation, waiting for it until the operation is interrupted.
async fn lock(
    apps: &dyn Apps,
    operation: &Operation,
    name: &str,
) -> Result<AppLock, gantry_core::Error> {
    if operation.id.is_empty() {
        return Err(invalid("a question changes nothing, so it locks no app".to_owned()));
    }
    tokio::select! {
        biased;
        () = operation.interruption() => Err(gantry_core::Error::Cancelled),
        lock = apps.lock(name, &operation.id, LOCK_WAIT) => lock,
    }
}

/// What may be kept as the name of an image: stores put it together with other names.
fn image_name(image: &str) -> Result<(), gantry_core::Error> {
    if image.len() > IMAGE_BYTES {
        return Err(invalid(format!("the name of an image has at most {IMAGE_BYTES} bytes")));
    }
    if image.contains(char::is_control) {
        return Err(invalid(format!("{} is no name of an image", gantry_core::quote(image))));
    }
    Ok(())
}

async fn images(images: &dyn Images, call: ImagesCall) -> Result<Reply, gantry_core::Error> {
    Ok(match call {
        ImagesCall::Reserve { app } => Reply::Text(images.reserve(&app).await?),
        ImagesCall::Append { app, image } => {
            image_name(&image)?;
            images.append(&app, &image).await?;
            Reply::Done
        }
        ImagesCall::Current { app } => Reply::Text(images.current(&app).await?),
        ImagesCall::History { app } => Reply::Texts(images.history(&app).await?),
        ImagesCall::GetMetadata { image } => {
            Reply::Metadata(images.metadata(&image).await?.map(Box::new))
        }
        ImagesCall::SaveMetadata { image, custom_data } => {
            image_name(&image)?;
            if custom_data.len() > VALUE_BYTES {
                let bytes = custom_data.len();
                let most = VALUE_BYTES;
                return Err(invalid(format!("custom data of `{image}`: {bytes} bytes of {most}")));
            }
            images.save_metadata(&image, &custom_data).await?;
            Reply::Done
        }
        ImagesCall::Forget { app, image } => {
            image_name(&image)?;
            images.forget(&app, &image).await?;
            Reply::Done
        }
    })
}

async fn routers(routers: &dyn Routers, call: RoutersCall) -> Result<Reply, gantry_core::Error> {
    Ok(match call {
        RoutersCall::AddRoutes { router, app, addresses } => {
            check_addresses(&addresses)?;
            routers.add_routes(&router, &app, &addresses).await?;
            Reply::Done
        }
        RoutersCall::RemoveRoutes { router, app, addresses } => {
            routers.remove_routes(&router, &app, &addresses).await?;
            Reply::Done
        }
        RoutersCall::Routes { router, app } => Reply::Texts(routers.routes(&router, &app).await?),
        RoutersCall::Swap { router, app, other } => {
            if app == other {
                return Err(invalid(format!("`{app}` cannot be swapped with itself")));
            }
            routers.swap(&router, &app, &other).await?;
            Reply::Done
        }
        RoutersCall::SetHealthcheck { router, app, healthcheck } => {
            check_healthcheck(&healthcheck)?;
            Reply::Flag(routers.set_healthcheck(&router, &app, &healthcheck).await?)
        }
    })
}
