//! `containers`: Docker hosts. Docker's documents are read strictly on their way down, so that no field passes that the policy does not know, and written in Docker's spelling on their way up.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::container::ContainerSpec;
use gantry_engine::call::ContainersCall;
use gantry_engine::stream::{Output, Reader as Bytes, Stream};
use gantry_engine::{Call, ContainersError, Reply, Request, Response};
use serde::Serialize;
use wasmtime::component::Resource;

use crate::bindings::gantry::provision::containers::{
    BuildOptions, CommitOptions, ContainerFilter, ContainerSummary, CreateOptions, EngineError,
    ExecOptions, ExecState, Host, HostClient, HttpRequest, HttpResponse, Layer, LogOptions,
    PathStat, Sequence,
};
use crate::call::CallState;
use crate::convert::{
    build_options_from, engine_error_to, exec_options_from, exec_state_to, http_request_from,
    http_response_to, layer_to, log_options_from, path_stat_to, summary_to, table,
};
use crate::host::batch::Batch;
use crate::host::streams::{Reader, Session, Writer};
use crate::host::{expect_reply, strange};

/// One Docker host, as a guest holds it.
pub(crate) struct Client {
    node: String,
    timeout: Option<Duration>,
}

/// A result for the guest, or its end.
type Answer<T> = wasmtime::Result<Result<T, EngineError>>;

/// Reads the body of Docker's create call.
pub(crate) fn create_call(options: CreateOptions) -> Result<ContainersCall, ContainersError> {
    let spec: ContainerSpec = serde_json::from_str(&options.body)
        .map_err(|error| ContainersError::Invalid(format!("the body of a create: {error}")))?;
    Ok(ContainersCall::Create { name: options.name, spec: Box::new(spec) })
}

/// Writes a document of Docker's.
pub(crate) fn document(value: &impl Serialize) -> wasmtime::Result<String> {
    serde_json::to_string(value).map_err(wasmtime::Error::new)
}

impl CallState {
    async fn ask(&mut self, client: &Resource<Client>, call: ContainersCall) -> Answer<Response> {
        self.ask_with(client, call, None, None).await
    }

    async fn ask_with(
        &mut self,
        client: &Resource<Client>,
        call: ContainersCall,
        input: Option<Bytes>,
        output: Option<Output>,
    ) -> Answer<Response> {
        let Client { node, timeout } = self.table.get(client)?;
        let timeout = timeout.filter(|_| !call.waits());
        let name = call.name();
        let call = Call::Containers { node: node.clone(), call };
        let sent = self.send(Request { call, input, output });
        let answer = match timeout {
            None => sent.await?,
            Some(timeout) => match tokio::time::timeout(timeout, sent).await {
                Ok(answer) => answer?,
                Err(_) => {
                    let text = format!("`{name}` took longer than {timeout:?}");
                    return Ok(Err(EngineError::TimedOut(text)));
                }
            },
        };
        Ok(answer.map_err(engine_error_to))
    }

    async fn done(&mut self, client: &Resource<Client>, call: ContainersCall) -> Answer<()> {
        let name = call.name();
        Ok(match self.ask(client, call).await? {
            Ok(response) => Ok(expect_reply!(name, response, Reply::Done => ())),
            Err(error) => Err(error),
        })
    }

    async fn text(&mut self, client: &Resource<Client>, call: ContainersCall) -> Answer<String> {
        let name = call.name();
        Ok(match self.ask(client, call).await? {
            Ok(response) => Ok(expect_reply!(name, response, Reply::Text(text) => text)),
            Err(error) => Err(error),
        })
    }

    async fn copy(
        &mut self,
        client: &Resource<Client>,
        call: ContainersCall,
        input: Option<Bytes>,
        stdout: &Resource<Writer>,
        stderr: &Resource<Writer>,
    ) -> Answer<()> {
        let name = call.name();
        let stdout = self.table.get(stdout)?.0.lend();
        let stderr = self.table.get(stderr)?.0.lend();
        let output = Output { stdout, stderr };
        Ok(match self.ask_with(client, call, input, Some(output)).await? {
            Ok(response) => Ok(expect_reply!(name, response, Reply::Done => ())),
            Err(error) => Err(error),
        })
    }

    async fn session(
        &mut self,
        client: &Resource<Client>,
        call: ContainersCall,
    ) -> Answer<Resource<Session>> {
        let name = call.name();
        match self.ask(client, call).await? {
            Ok(Response { stream: Some(Stream::Session(session)), .. }) => {
                Ok(Ok(self.push(Session(session))?))
            }
            Ok(Response { reply, .. }) => Err(strange(name, &reply)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl Host for CallState {
    async fn nodes(&mut self) -> wasmtime::Result<Vec<String>> {
        match self.send(Call::Nodes).await? {
            Ok(response) => {
                Ok(expect_reply!("containers.nodes", response, Reply::Texts(nodes) => nodes))
            }
            // The interface has no error: hosts that nobody can name are no hosts.
            Err(error) => {
                tracing::warn!(%error, "the nodes of a provisioner could not be told");
                Ok(Vec::new())
            }
        }
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
        filter: ContainerFilter,
    ) -> Answer<Vec<ContainerSummary>> {
        let call = ContainersCall::List { all: filter.all, labels: table(filter.labels) };
        Ok(match self.ask(&client, call).await? {
            Ok(response) => {
                let all = expect_reply!("containers.list", response, Reply::Containers(all) => all);
                Ok(all.into_iter().map(summary_to).collect())
            }
            Err(error) => Err(error),
        })
    }

    async fn create_container(
        &mut self,
        client: Resource<Client>,
        options: CreateOptions,
    ) -> Answer<String> {
        match create_call(options) {
            Ok(call) => self.text(&client, call).await,
            Err(error) => {
                self.charge(0)?;
                Ok(Err(engine_error_to(error.into())))
            }
        }
    }

    async fn start_container(&mut self, client: Resource<Client>, id: String) -> Answer<()> {
        self.done(&client, ContainersCall::Start { id }).await
    }

    async fn stop_container(
        &mut self,
        client: Resource<Client>,
        id: String,
        seconds: u32,
    ) -> Answer<()> {
        self.done(&client, ContainersCall::Stop { id, seconds }).await
    }

    async fn remove_container(
        &mut self,
        client: Resource<Client>,
        id: String,
        force: bool,
    ) -> Answer<()> {
        self.done(&client, ContainersCall::Remove { id, force }).await
    }

    async fn inspect_container(&mut self, client: Resource<Client>, id: String) -> Answer<String> {
        Ok(match self.ask(&client, ContainersCall::Inspect { id }).await? {
            Ok(response) => {
                let one =
                    expect_reply!("containers.inspect", response, Reply::Container(one) => one);
                Ok(document(&one)?)
            }
            Err(error) => Err(error),
        })
    }

    async fn wait_container(&mut self, client: Resource<Client>, id: String) -> Answer<i64> {
        Ok(match self.ask(&client, ContainersCall::Wait { id }).await? {
            Ok(response) => {
                Ok(expect_reply!("containers.wait", response, Reply::Number(code) => code))
            }
            Err(error) => Err(error),
        })
    }

    async fn commit_container(
        &mut self,
        client: Resource<Client>,
        id: String,
        options: CommitOptions,
    ) -> Answer<String> {
        let CommitOptions { repository, tag, comment } = options;
        let labels = std::collections::BTreeMap::new();
        self.text(&client, ContainersCall::Commit { id, repository, tag, comment, labels }).await
    }

    async fn download_from_container(
        &mut self,
        client: Resource<Client>,
        id: String,
        path: String,
    ) -> Answer<Resource<Reader>> {
        match self.ask(&client, ContainersCall::Download { id, path }).await? {
            Ok(Response { stream: Some(Stream::Reader(reader)), .. }) => {
                Ok(Ok(self.push(Reader(reader))?))
            }
            Ok(Response { reply, .. }) => Err(strange("containers.download", &reply)),
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
        let call = ContainersCall::Upload { id, path };
        Ok(match self.ask_with(&client, call, Some(archive), None).await? {
            Ok(response) => Ok(expect_reply!("containers.upload", response, Reply::Done => ())),
            Err(error) => Err(error),
        })
    }

    async fn stat_path(
        &mut self,
        client: Resource<Client>,
        id: String,
        path: String,
    ) -> Answer<PathStat> {
        Ok(match self.ask(&client, ContainersCall::StatPath { id, path }).await? {
            Ok(response) => Ok(path_stat_to(
                expect_reply!("containers.stat-path", response, Reply::PathStat(stat) => stat),
            )),
            Err(error) => Err(error),
        })
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
        self.copy(&client, call, None, &stdout, &stderr).await
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
        Ok(match self.ask(&client, call).await? {
            Ok(response) => Ok(http_response_to(
                expect_reply!("containers.http", response, Reply::Http(answer) => answer),
            )),
            Err(error) => Err(error),
        })
    }

    async fn create_exec(
        &mut self,
        client: Resource<Client>,
        id: String,
        options: ExecOptions,
    ) -> Answer<String> {
        let options = exec_options_from(options);
        self.text(&client, ContainersCall::CreateExec { id, options }).await
    }

    async fn start_exec(
        &mut self,
        client: Resource<Client>,
        exec_id: String,
        stdout: Resource<Writer>,
        stderr: Resource<Writer>,
    ) -> Answer<()> {
        self.copy(&client, ContainersCall::StartExec { exec_id }, None, &stdout, &stderr).await
    }

    async fn resize_exec(
        &mut self,
        client: Resource<Client>,
        exec_id: String,
        height: u16,
        width: u16,
    ) -> Answer<()> {
        self.done(&client, ContainersCall::ResizeExec { exec_id, height, width }).await
    }

    async fn inspect_exec(
        &mut self,
        client: Resource<Client>,
        exec_id: String,
    ) -> Answer<ExecState> {
        Ok(match self.ask(&client, ContainersCall::InspectExec { exec_id }).await? {
            Ok(response) => Ok(exec_state_to(
                &expect_reply!("containers.inspect-exec", response, Reply::ExecState(state) => state),
            )),
            Err(error) => Err(error),
        })
    }

    async fn pull_image(&mut self, client: Resource<Client>, image: String) -> Answer<()> {
        self.done(&client, ContainersCall::PullImage { image }).await
    }

    async fn pull_and_create_container(
        &mut self,
        client: Resource<Client>,
        options: CreateOptions,
    ) -> Answer<String> {
        let call = match create_call(options) {
            Ok(call) => call,
            Err(error) => {
                self.charge(0)?;
                return Ok(Err(engine_error_to(error.into())));
            }
        };
        if let ContainersCall::Create { spec, .. } = &call {
            let image = spec.image.clone();
            let known =
                self.ask(&client, ContainersCall::InspectImage { image: image.clone() }).await?;
            match known {
                Ok(_) => {}
                Err(EngineError::NotFound(_)) => {
                    if let Err(error) =
                        self.done(&client, ContainersCall::PullImage { image }).await?
                    {
                        return Ok(Err(error));
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        self.text(&client, call).await
    }

    async fn inspect_image(&mut self, client: Resource<Client>, image: String) -> Answer<String> {
        Ok(match self.ask(&client, ContainersCall::InspectImage { image }).await? {
            Ok(response) => {
                let image =
                    expect_reply!("containers.inspect-image", response, Reply::Image(one) => one);
                Ok(document(&image)?)
            }
            Err(error) => Err(error),
        })
    }

    async fn tag_image(
        &mut self,
        client: Resource<Client>,
        image: String,
        repository: String,
        tag: String,
    ) -> Answer<()> {
        self.done(&client, ContainersCall::TagImage { image, repository, tag }).await
    }

    async fn remove_image(&mut self, client: Resource<Client>, image: String) -> Answer<()> {
        self.done(&client, ContainersCall::RemoveImage { image }).await
    }

    async fn image_history(
        &mut self,
        client: Resource<Client>,
        image: String,
    ) -> Answer<Vec<Layer>> {
        Ok(match self.ask(&client, ContainersCall::ImageHistory { image }).await? {
            Ok(response) => {
                let layers =
                    expect_reply!("containers.image-history", response, Reply::Layers(all) => all);
                Ok(layers.into_iter().map(layer_to).collect())
            }
            Err(error) => Err(error),
        })
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
        self.copy(&client, call, Some(context), &output, &output).await
    }

    async fn push_image(
        &mut self,
        client: Resource<Client>,
        image: String,
        output: Resource<Writer>,
    ) -> Answer<()> {
        self.copy(&client, ContainersCall::PushImage { image }, None, &output, &output).await
    }

    async fn drop(&mut self, client: Resource<Client>) -> wasmtime::Result<()> {
        self.table.delete(client)?;
        Ok(())
    }
}
