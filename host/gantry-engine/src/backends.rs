//! What is at the end of the chain, and how a call becomes a method of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use gantry_core::env::{PlatformEnv, envs_for_app};

use crate::call::{AppsCall, ContainersCall, ImagesCall, StateCall};
use crate::stream::{Output, Reader, Session, Stream};
use crate::{
    Apps, Call, Config, Containers, EngineError, Error, Images, Reply, Request, Response, Scope,
    State, follow,
};

/// What is at the end of the chain.
#[derive(Clone)]
pub struct Backends {
    /// The container engines.
    pub nodes: Arc<Nodes>,
    /// The apps of the platform.
    pub apps: Arc<dyn Apps>,
    /// The images of its apps.
    pub images: Arc<dyn Images>,
    /// The durable keys of plugins.
    pub state: Arc<dyn State>,
}

/// The container engines, by the provisioner they were given to and their address. It changes while the host runs.
#[derive(Default)]
pub struct Nodes {
    by_owner: RwLock<BTreeMap<String, Engines>>,
}

/// Engines by their address.
type Engines = BTreeMap<String, Arc<dyn Containers>>;

impl Nodes {
    /// Gives a node to a provisioner. An address that is known gets another engine; calls under way end on the one they began on.
    pub fn give(&self, provisioner: &str, address: &str, engine: Arc<dyn Containers>) {
        self.by_owner
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(provisioner.to_owned())
            .or_default()
            .insert(address.to_owned(), engine);
    }

    /// Takes a node from a provisioner. Its containers are left as they are.
    pub fn take(&self, provisioner: &str, address: &str) {
        if let Some(nodes) =
            self.by_owner.write().unwrap_or_else(PoisonError::into_inner).get_mut(provisioner)
        {
            nodes.remove(address);
        }
    }

    /// The addresses a provisioner was given, sorted.
    #[must_use]
    pub fn of(&self, provisioner: &str) -> Vec<String> {
        self.by_owner
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(provisioner)
            .map(|nodes| nodes.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The engine of a node that a provisioner was given.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when it was not given this node.
    pub fn engine(
        &self,
        provisioner: &str,
        address: &str,
    ) -> Result<Arc<dyn Containers>, EngineError> {
        self.by_owner
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(provisioner)
            .and_then(|nodes| nodes.get(address))
            .map(Arc::clone)
            .ok_or_else(|| {
                EngineError::NotFound(format!(
                    "no node `{address}` was given to the provisioner `{provisioner}`"
                ))
            })
    }
}

impl Backends {
    /// Carries a call out. What waits for something ends with [`EngineError::Cancelled`] as soon as the operation is interrupted; what is short is let finish.
    pub(crate) async fn perform(
        &self,
        scope: &Arc<Scope>,
        request: Request,
    ) -> Result<Response, Error> {
        let Request { call, input, output } = request;
        match call {
            Call::Nodes => Ok(Reply::Texts(self.nodes.of(&scope.provisioner)).into()),
            Call::Containers { node, call } => {
                let engine = self.nodes.engine(&scope.provisioner, &node)?;
                let waits = call.waits();
                let answer = containers(&*engine, call, input, output);
                Ok(if waits { uninterrupted(scope, answer).await? } else { answer.await? })
            }
            Call::State(call) => Ok(state(&*self.state, &scope.provisioner, call).await?.into()),
            Call::Apps(call) => Ok(apps(&*self.apps, &scope.config, call).await?.into()),
            Call::Images(call) => Ok(images(&*self.images, call).await?.into()),
            Call::Config { key } => {
                let value = scope.config.get(&key).map(ToString::to_string);
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
        ContainersCall::List { all, labels } => Reply::Containers(engine.list(all, &labels).await?),
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
    config: &Config,
    call: AppsCall,
) -> Result<Reply, gantry_core::Error> {
    Ok(match call {
        AppsCall::Get { name } => Reply::App(Box::new(apps.get(&name).await?)),
        AppsCall::Envs { name } => Reply::Envs(apps.envs(&name).await?),
        AppsCall::UnitEnvs { name, process, is_deploy } => {
            let envs = apps.envs(&name).await?;
            let platform = PlatformEnv::from_settings(config);
            Reply::UnitEnvs(envs_for_app(&envs, &process, is_deploy, &platform))
        }
        AppsCall::Routers { name } => Reply::Routers(apps.routers(&name).await?),
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
    })
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
