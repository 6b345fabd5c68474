//! A cluster in memory whose pods have shells.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use gantry_engine::EngineError;
use gantry_engine::call::cluster::{
    DeleteOptions, Kind, ObjectPage, Patch, PodExecOptions, PodLogOptions, Selection,
};
use gantry_engine::cluster::{Changes, Cluster, Result};
use gantry_engine::memory::Objects;
use gantry_engine::stream::{Chunk, Session, Size, Source};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};

/// The cluster. Its shells say what they were run with, echo a line, tell the size of their terminal when it changes, and end with the number after `exit`.
#[derive(Clone, Default)]
pub(crate) struct Terminals(pub(crate) Objects);

impl Terminals {
    /// Puts a pod there.
    pub(crate) fn pod(&self, name: &str) -> Result<()> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "default", "name": name},
            "spec": {"containers": [{"name": "web", "image": "i:1"}]},
        });
        self.0.put(&pod).map(drop)
    }

    /// The image that is noted for an app; none when there is no note.
    pub(crate) async fn note(&self, app: &str) -> Option<String> {
        let kind = Kind::new("v1", "ConfigMap");
        let note = self.0.get(&kind, "default", app).await.ok()?;
        Some(note.pointer("/data/image")?.as_str()?.to_owned())
    }
}

/// What a shell does.
async fn shell(
    command: String,
    mut typed: tokio::io::DuplexStream,
    mut sizes: mpsc::Receiver<Size>,
    say: mpsc::Sender<Result<Chunk>>,
    code: oneshot::Sender<i32>,
) {
    let says = |text: String| {
        let chunk = Chunk { source: Source::Stdout, bytes: Bytes::from(text) };
        let say = say.clone();
        async move { say.send(Ok(chunk)).await.is_ok() }
    };
    says(format!("{command}\r\n$ ")).await;
    let (mut line, mut byte) = (String::new(), [0; 1]);
    loop {
        tokio::select! {
            read = typed.read(&mut byte) => match (read, byte) {
                (Ok(0) | Err(_), _) => return,
                (Ok(_), [3]) => { says("^C\r\n$ ".to_owned()).await; }
                (Ok(_), [b'\r' | b'\n']) => {
                    let said = std::mem::take(&mut line);
                    if let Some(number) = said.strip_prefix("exit ") {
                        let _ = code.send(number.parse().unwrap_or(1));
                        return;
                    }
                    if said == "break" {
                        let broken = EngineError::Unreachable("the kubelet went away".to_owned());
                        let _ = say.send(Err(broken)).await;
                        return;
                    }
                    says(format!("you said {said}\r\n$ ")).await;
                }
                (Ok(_), [letter]) => line.push(char::from(letter)),
            },
            Some(Size { width, height }) = sizes.recv() => {
                says(format!("[{width}x{height}]")).await;
            }
        }
    }
}

#[async_trait]
impl Cluster for Terminals {
    async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value> {
        self.0.get(kind, namespace, name).await
    }

    async fn list(
        &self,
        kind: &Kind,
        selection: &Selection,
        limit: u32,
        after: &str,
    ) -> Result<ObjectPage> {
        self.0.list(kind, selection, limit, after).await
    }

    async fn create(&self, object: &Value, dry_run: bool) -> Result<Value> {
        self.0.create(object, dry_run).await
    }

    async fn apply(&self, object: &Value, dry_run: bool) -> Result<Value> {
        self.0.apply(object, dry_run).await
    }

    async fn patch(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
        dry_run: bool,
    ) -> Result<Value> {
        self.0.patch(kind, namespace, name, subresource, patch, dry_run).await
    }

    async fn delete(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<()> {
        self.0.delete(kind, namespace, name, options).await
    }

    async fn watch(&self, kind: &Kind, selection: &Selection) -> Result<Changes> {
        self.0.watch(kind, selection).await
    }

    async fn logs(&self, namespace: &str, pod: &str, options: &PodLogOptions) -> Result<Session> {
        self.0.logs(namespace, pod, options).await
    }

    async fn exec(&self, namespace: &str, pod: &str, options: &PodExecOptions) -> Result<Session> {
        self.0.get(&Kind::new("v1", "Pod"), namespace, pod).await?;
        let (input, typed) = tokio::io::duplex(1024);
        let (sizes, resized) = mpsc::channel(4);
        let (say, said) = mpsc::channel(16);
        let (code, ended) = oneshot::channel();
        tokio::spawn(shell(options.command.join(" "), typed, resized, say, code));
        let chunks =
            stream::unfold(said, |mut said| async move { Some((said.recv().await?, said)) });
        let unknown = || EngineError::Failed("nobody knows how it ended".to_owned());
        Ok(Session {
            chunks: chunks.boxed(),
            input: Some(Box::pin(input)),
            sizes: Some(sizes),
            exit: Some(async move { ended.await.map_err(|_| unknown()) }.boxed()),
        })
    }

    async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        options: &PodExecOptions,
    ) -> Result<Session> {
        self.0.attach(namespace, pod, options).await
    }

    async fn port_forward(&self, namespace: &str, pod: &str, port: u16) -> Result<Session> {
        self.0.port_forward(namespace, pod, port).await
    }

    async fn evict(&self, namespace: &str, pod: &str, grace_seconds: Option<u32>) -> Result<()> {
        self.0.evict(namespace, pod, grace_seconds).await
    }
}
