//! `containers`: Docker hosts. Docker's documents are read strictly on their way down, so that no field passes that the policy does not know, and written in Docker's spelling on their way up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_core::container::ContainerSpec;
use gantry_engine::call::ContainersCall;
use gantry_engine::stream::{Output, Reader as Bytes, Stream};
use gantry_engine::{Call, EngineError, Request, Response};
use serde::Serialize;
use wasmtime::component::Resource;

use crate::bindings::gantry::provision::containers::{
    BuildOptions, CommitOptions, ContainerSummary, CreateOptions, EngineError as Refused,
    ExecOptions, ExecState, Host, HostClient, HttpRequest, HttpResponse, Layer, ListOptions,
    LogOptions, PathStat, Sequence,
};
use crate::call::CallState;
use crate::convert::{
    build_options_from, engine_error_to, exec_options_from, exec_state_to, http_request_from,
    http_response_to, layer_to, list_from, log_options_from, path_stat_to, summary_to,
};
use crate::host;
use crate::host::batch::Batch;
use crate::host::reply::{self, Take};
use crate::host::streams::{Reader, Session, Writer};

/// The longest address of a host.
pub(crate) const ADDRESS: usize = 1 << 10;
pub(crate) const TOO_LONG: &str = "the address of the host is too long";

/// One Docker host, as a guest holds it.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Client {
    node: String,
    timeout: Option<Duration>,
}

/// A result for the guest, or its end.
type Answer<T> = wasmtime::Result<Result<T, Refused>>;

/// Reads the body of Docker's create call.
pub(crate) fn create_call(options: CreateOptions) -> Result<ContainersCall, EngineError> {
    let spec: ContainerSpec = serde_json::from_str(&options.body)
        .map_err(|error| EngineError::Invalid(format!("the body of a create: {error}")))?;
    Ok(ContainersCall::Create { name: options.name, spec: Box::new(spec) })
}

/// Writes a document of Docker's.
pub(crate) fn document(value: &impl Serialize) -> wasmtime::Result<String> {
    serde_json::to_string(value).map_err(wasmtime::Error::new)
}

impl CallState {
    /// Sends a call to the client's host, within the client's time unless the call is a stream.
    async fn engine(
        &mut self,
        client: &Resource<Client>,
        call: ContainersCall,
        input: Option<Bytes>,
        output: Option<Output>,
    ) -> Answer<Response> {
        let Client { node, timeout } = self.table.get(client)?;
        let time = timeout.filter(|_| !call.waits());
        let asked = call.name();
        let call = Call::Containers { node: node.clone(), call };
        let sent = self.send(Request::new(call, input, output));
        Ok(host::within(time, asked, sent).await?.map_err(engine_error_to))
    }

    /// The same for a call whose answer is a value.
    async fn value<T>(
        &mut self,
        client: &Resource<Client>,
        call: ContainersCall,
        take: Take<T>,
    ) -> Answer<T> {
        let asked = call.name();
        let answer = self.engine(client, call, None, None).await?;
        host::value(asked, answer, take)
    }

    /// The same for a call with bytes beside it.
    async fn copy(
        &mut self,
        client: &Resource<Client>,
        call: ContainersCall,
        input: Option<Bytes>,
        output: Option<(&Resource<Writer>, &Resource<Writer>)>,
    ) -> Answer<()> {
        let asked = call.name();
        let output = output.map(|(stdout, stderr)| self.output(stdout, stderr)).transpose()?;
        let answer = self.engine(client, call, input, output).await?;
        host::value(asked, answer, reply::done)
    }

    /// The same for a call that opens a session.
    async fn session(
        &mut self,
        client: &Resource<Client>,
        call: ContainersCall,
    ) -> Answer<Resource<Session>> {
        let asked = call.name();
        let answer = self.engine(client, call, None, None).await?;
        match host::session(asked, answer)? {
            Ok(session) => Ok(Ok(self.push(Session(session))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The call that makes a container, or what is wrong with its body. That costs a host call too.
    fn create(&mut self, options: CreateOptions) -> Answer<ContainersCall> {
        match create_call(options) {
            Ok(call) => Ok(Ok(call)),
            Err(error) => {
                self.charge(0)?;
                Ok(Err(engine_error_to(error.into())))
            }
        }
    }

    /// Pulls an image unless the host has it.
    async fn ensure_image(&mut self, client: &Resource<Client>, image: String) -> Answer<()> {
        let known = ContainersCall::InspectImage { image: image.clone() };
        match self.value(client, known, reply::image).await? {
            Ok(_) => Ok(Ok(())),
            Err(Refused::NotFound(_)) => {
                self.value(client, ContainersCall::PullImage { image }, reply::done).await
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

impl Host for CallState {
    async fn nodes(&mut self) -> wasmtime::Result<Vec<String>> {
        let nodes = self.ask(Call::Nodes, reply::texts).await?;
        // The interface has no error: hosts that nobody can name are no hosts.
        Ok(nodes.unwrap_or_else(|error| {
            tracing::warn!(%error, "the nodes of a provisioner could not be told");
            Vec::new()
        }))
    }

    async fn submit(&mut self, sequences: Vec<Sequence>) -> wasmtime::Result<Resource<Batch>> {
        let outside = Arc::clone(self.charge(0)?);
        let mut batch = Batch::new(outside, &self.watch, &self.held, &self.bounds);
        batch.add(sequences)?;
        self.push(batch)
    }
}

impl HostClient for CallState {
    async fn open(&mut self, node: String) -> Answer<Resource<Client>> {
        self.charge(node.len())?;
        if node.len() > ADDRESS {
            return Ok(Err(Refused::Invalid(TOO_LONG.to_owned())));
        }
        Ok(Ok(self.push(Client { node, timeout: None })?))
    }

    async fn set_timeout(
        &mut self,
        client: Resource<Client>,
        milliseconds: u32,
    ) -> wasmtime::Result<()> {
        self.charge(0)?;
        let timeout = Duration::from_millis(u64::from(milliseconds));
        self.table.get_mut(&client)?.timeout = (milliseconds > 0).then_some(timeout);
        Ok(())
    }

    async fn list_containers(
        &mut self,
        client: Resource<Client>,
        options: ListOptions,
    ) -> Answer<Vec<ContainerSummary>> {
        let all = self.value(&client, list_from(options), reply::containers).await?;
        Ok(all.map(|all| all.into_iter().map(summary_to).collect()))
    }

    async fn create_container(
        &mut self,
        client: Resource<Client>,
        options: CreateOptions,
    ) -> Answer<String> {
        match self.create(options)? {
            Ok(call) => self.value(&client, call, reply::text).await,
            Err(error) => Ok(Err(error)),
        }
    }

    async fn start_container(&mut self, client: Resource<Client>, id: String) -> Answer<()> {
        self.value(&client, ContainersCall::Start { id }, reply::done).await
    }

    async fn stop_container(
        &mut self,
        client: Resource<Client>,
        id: String,
        seconds: u32,
    ) -> Answer<()> {
        self.value(&client, ContainersCall::Stop { id, seconds }, reply::done).await
    }

    async fn remove_container(
        &mut self,
        client: Resource<Client>,
        id: String,
        force: bool,
    ) -> Answer<()> {
        self.value(&client, ContainersCall::Remove { id, force }, reply::done).await
    }

    async fn inspect_container(&mut self, client: Resource<Client>, id: String) -> Answer<String> {
        let one = self.value(&client, ContainersCall::Inspect { id }, reply::container).await?;
        one.map(|one| document(&one)).map_or_else(|error| Ok(Err(error)), |text| text.map(Ok))
    }

    async fn wait_container(&mut self, client: Resource<Client>, id: String) -> Answer<i64> {
        self.value(&client, ContainersCall::Wait { id }, reply::number).await
    }

    async fn commit_container(
        &mut self,
        client: Resource<Client>,
        id: String,
        options: CommitOptions,
    ) -> Answer<String> {
        let CommitOptions { repository, tag, comment } = options;
        let labels = BTreeMap::new();
        let call = ContainersCall::Commit { id, repository, tag, comment, labels };
        self.value(&client, call, reply::text).await
    }

    async fn download_from_container(
        &mut self,
        client: Resource<Client>,
        id: String,
        path: String,
    ) -> Answer<Resource<Reader>> {
        let call = ContainersCall::Download { id, path };
        match self.engine(&client, call, None, None).await? {
            Ok(Response { stream: Some(Stream::Reader(reader)), .. }) => {
                Ok(Ok(self.push(Reader(reader))?))
            }
            Ok(Response { reply, .. }) => Err(host::strange("containers.download", &reply)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn upload_to_container(
        &mut self,
        client: Resource<Client>,
        id: String,
        path: String,
        archive: Resource<Reader>,
    ) -> Answer<()> {
        let Reader(archive) = self.table.delete(archive)?;
        self.copy(&client, ContainersCall::Upload { id, path }, Some(archive), None).await
    }

    async fn stat_path(
        &mut self,
        client: Resource<Client>,
        id: String,
        path: String,
    ) -> Answer<PathStat> {
        let call = ContainersCall::StatPath { id, path };
        Ok(self.value(&client, call, reply::path_stat).await?.map(path_stat_to))
    }

    async fn attach_to_container(
        &mut self,
        client: Resource<Client>,
        id: String,
        logs: bool,
        stdout: Resource<Writer>,
        stderr: Resource<Writer>,
    ) -> Answer<()> {
        let call = ContainersCall::AttachCopy { id, logs };
        self.copy(&client, call, None, Some((&stdout, &stderr))).await
    }

    async fn attach_session(
        &mut self,
        client: Resource<Client>,
        id: String,
        logs: bool,
    ) -> Answer<Resource<Session>> {
        self.session(&client, ContainersCall::Attach { id, logs }).await
    }

    async fn container_logs(
        &mut self,
        client: Resource<Client>,
        id: String,
        options: LogOptions,
    ) -> Answer<Resource<Session>> {
        let options = log_options_from(options);
        self.session(&client, ContainersCall::Logs { id, options }).await
    }

    async fn http(
        &mut self,
        client: Resource<Client>,
        id: String,
        request: HttpRequest,
    ) -> Answer<HttpResponse> {
        let call = ContainersCall::Http { id, request: http_request_from(request) };
        Ok(self.value(&client, call, reply::http).await?.map(http_response_to))
    }

    async fn create_exec(
        &mut self,
        client: Resource<Client>,
        id: String,
        options: ExecOptions,
    ) -> Answer<String> {
        let options = exec_options_from(options);
        self.value(&client, ContainersCall::CreateExec { id, options }, reply::text).await
    }

    async fn start_exec(
        &mut self,
        client: Resource<Client>,
        exec_id: String,
        stdout: Resource<Writer>,
        stderr: Resource<Writer>,
    ) -> Answer<()> {
        let call = ContainersCall::StartExec { exec_id };
        self.copy(&client, call, None, Some((&stdout, &stderr))).await
    }

    async fn resize_exec(
        &mut self,
        client: Resource<Client>,
        exec_id: String,
        height: u16,
        width: u16,
    ) -> Answer<()> {
        let call = ContainersCall::ResizeExec { exec_id, height, width };
        self.value(&client, call, reply::done).await
    }

    async fn inspect_exec(
        &mut self,
        client: Resource<Client>,
        exec_id: String,
    ) -> Answer<ExecState> {
        let call = ContainersCall::InspectExec { exec_id };
        let state = self.value(&client, call, reply::exec_state).await?;
        Ok(state.map(|state| exec_state_to(&state)))
    }

    async fn exec_session(
        &mut self,
        client: Resource<Client>,
        id: String,
        options: ExecOptions,
    ) -> Answer<Resource<Session>> {
        let options = exec_options_from(options);
        self.session(&client, ContainersCall::ExecSession { id, options }).await
    }

    async fn pull_image(&mut self, client: Resource<Client>, image: String) -> Answer<()> {
        self.value(&client, ContainersCall::PullImage { image }, reply::done).await
    }

    async fn pull_and_create_container(
        &mut self,
        client: Resource<Client>,
        options: CreateOptions,
    ) -> Answer<String> {
        let call = match self.create(options)? {
            Ok(call) => call,
            Err(error) => return Ok(Err(error)),
        };
        if let ContainersCall::Create { spec, .. } = &call {
            let image = spec.image.clone();
            if let Err(error) = self.ensure_image(&client, image).await? {
                return Ok(Err(error));
            }
        }
        self.value(&client, call, reply::text).await
    }

    async fn inspect_image(&mut self, client: Resource<Client>, image: String) -> Answer<String> {
        let call = ContainersCall::InspectImage { image };
        let one = self.value(&client, call, reply::image).await?;
        one.map(|one| document(&one)).map_or_else(|error| Ok(Err(error)), |text| text.map(Ok))
    }

    async fn tag_image(
        &mut self,
        client: Resource<Client>,
        image: String,
        repository: String,
        tag: String,
    ) -> Answer<()> {
        let call = ContainersCall::TagImage { image, repository, tag };
        self.value(&client, call, reply::done).await
    }

    async fn remove_image(&mut self, client: Resource<Client>, image: String) -> Answer<()> {
        self.value(&client, ContainersCall::RemoveImage { image }, reply::done).await
    }

    async fn image_history(
        &mut self,
        client: Resource<Client>,
        image: String,
    ) -> Answer<Vec<Layer>> {
        let call = ContainersCall::ImageHistory { image };
        let layers = self.value(&client, call, reply::layers).await?;
        Ok(layers.map(|layers| layers.into_iter().map(layer_to).collect()))
    }

    async fn build_image(
        &mut self,
        client: Resource<Client>,
        options: BuildOptions,
        context: Resource<Reader>,
        output: Resource<Writer>,
    ) -> Answer<()> {
        let Reader(context) = self.table.delete(context)?;
        let call = ContainersCall::BuildImage { options: build_options_from(options) };
        self.copy(&client, call, Some(context), Some((&output, &output))).await
    }

    async fn push_image(
        &mut self,
        client: Resource<Client>,
        image: String,
        output: Resource<Writer>,
    ) -> Answer<()> {
        let call = ContainersCall::PushImage { image };
        self.copy(&client, call, None, Some((&output, &output))).await
    }

    async fn drop(&mut self, client: Resource<Client>) -> wasmtime::Result<()> {
        self.table.delete(client)?;
        Ok(())
    }
}
