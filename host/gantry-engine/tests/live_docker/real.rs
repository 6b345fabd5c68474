//! What only a real engine can show: passwords of registries, TCP, connections that are cut, the whole chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use gantry_engine::call::{ContainersCall, ExecOptions, HttpRequest, LogOptions};
use gantry_engine::contract::{self, Fixture, PAGE, PORT, ends, eventually, refused};
use gantry_engine::docker::{Auth, Endpoint, Timeouts};
use gantry_engine::layer::journal::clean_up;
use gantry_engine::memory::Platform;
use gantry_engine::{Call, Chain, Containers, Docker, EngineError, Error, Operation, Reply, Scope};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinHandle;

use crate::{docker, registry};

/// Runs a test with a fixture and removes what it made.
macro_rules! live {
    ($name:ident, $test:ident) => {
        #[tokio::test]
        async fn $name() {
            let Some(fixture) = docker().await else { return };
            contract::run(fixture, |fixture| Box::pin($test(fixture))).await;
        }
    };
}

live!(a_registry_is_shown_the_password_it_asks_for, registry_with_password);
live!(an_engine_is_spoken_to_over_tcp, over_tcp);
live!(a_call_whose_connection_is_cut_is_unreachable, cut_connection);
live!(a_session_whose_connection_is_cut_is_unreachable_and_its_command_ends, cut_session);
live!(the_chain_works_on_a_real_engine, whole_chain);
live!(what_a_dead_call_made_is_removed, dead_call);

async fn registry_with_password(fixture: &Fixture) {
    // `ann:open sesame?>`, whose base64 has letters that URLs have not.
    let registry = registry::guarded("YW5uOm9wZW4gc2VzYW1lPz4=");
    let name = format!("{registry}/{}:v1", fixture.name());
    let (repository, tag) = name.rsplit_once(':').unwrap();
    fixture.engine.tag_image(&fixture.image, repository, tag).await.unwrap();
    let push = |auth| {
        let engine = Docker::with(Endpoint::from_env().unwrap(), auth, Timeouts::default());
        let name = name.clone();
        async move { engine.unwrap().push_image(&name, Box::pin(tokio::io::sink())).await }
    };
    refused(push(Auth::none()).await, "failed");
    refused(push(Auth::none().with(&registry, "ann", "wrong")).await, "failed");
    push(Auth::none().with(&registry, "ann", "open sesame?>")).await.unwrap();
    fixture.engine.remove_image(&name).await.unwrap();
}

/// The engine's socket as a TCP port. Dropping it cuts every connection.
struct Proxy {
    endpoint: Endpoint,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    async fn new() -> Self {
        let environment = Endpoint::from_env().unwrap();
        let socket = environment.address().strip_prefix("unix://").map(ToOwned::to_owned);
        let socket = socket.expect("the live tests use an engine on this machine");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            // They end with the task that holds them.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let socket = socket.clone();
                connections.spawn(async move {
                    if let Ok(mut far) = UnixStream::connect(socket).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { endpoint: Endpoint::parse(&endpoint).unwrap(), task }
    }
}

async fn over_tcp(fixture: &Fixture) {
    let proxy = Proxy::new().await;
    let docker = Docker::new(proxy.endpoint.clone()).unwrap();
    let id = fixture.started(&fixture.serving()).await;
    let command = ["/bin/sh", "-c", "echo out; exit 3"].map(ToOwned::to_owned).to_vec();
    let options = ExecOptions { command, ..ExecOptions::default() };
    let exec = docker.create_exec(&id, &options).await.unwrap();
    let (output, read) = ends();
    let (ran, (stdout, _)) = tokio::join!(docker.start_exec(&exec, output), read);
    ran.unwrap();
    assert_eq!(stdout, "out\n");
    assert_eq!(docker.inspect_exec(&exec).await.unwrap().exit_code, Some(3));
    let request = HttpRequest {
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        path: "/index.html".to_owned(),
        port: PORT.to_owned(),
        timeout: 5000,
    };
    eventually("the port answers", || async { docker.http(&id, &request).await.is_ok() }).await;
    let page = docker.http(&id, &request).await.unwrap();
    assert_eq!((page.status, page.body.as_slice()), (200, PAGE.as_bytes()));
}

async fn cut_connection(fixture: &Fixture) {
    let proxy = Proxy::new().await;
    let docker = Docker::new(proxy.endpoint.clone()).unwrap();
    let id = fixture.started(&fixture.spec()).await;
    let options = LogOptions { lines: 0, follow: true, timestamps: false };
    let session = docker.logs(&id, &options).await.unwrap();
    let (waited, ()) = tokio::join!(docker.wait(&id), async {
        // The wait is under way once its request has gone through.
        eventually("it waits", || async { docker.inspect(&id).await.is_ok() }).await;
        drop(proxy);
    });
    refused(waited, "unreachable");
    let last = session.chunks.collect::<Vec<_>>().await.pop();
    let error: EngineError = last.expect("a last word").expect_err("it was cut");
    assert_eq!(error.kind(), "unreachable");
    let text = refused(docker.inspect(&id).await, "unreachable");
    assert!(text.contains("connection refused"), "{text}");
    assert!(fixture.engine.inspect(&id).await.unwrap().state.running);
}

/// Whether a process of a container is there.
async fn lives(docker: &dyn Containers, id: &str, process: &str) -> bool {
    let look = ["/bin/sh", "-c", &format!("kill -0 {process} 2>&-")].map(ToOwned::to_owned);
    let options = ExecOptions { command: look.to_vec(), ..ExecOptions::default() };
    let exec = docker.create_exec(id, &options).await.unwrap();
    docker.start_exec(&exec, ends().0).await.unwrap();
    docker.inspect_exec(&exec).await.unwrap().exit_code == Some(0)
}

async fn cut_session(fixture: &Fixture) {
    let proxy = Proxy::new().await;
    let docker = Docker::new(proxy.endpoint.clone()).unwrap();
    let id = fixture.started(&fixture.spec()).await;
    let mut sessions = Vec::new();
    for tty in [true, false] {
        let command = ["/bin/sh", "-c", "echo $$; exec sleep 1000"].map(ToOwned::to_owned);
        let options =
            ExecOptions { command: command.to_vec(), tty, stdin: true, ..ExecOptions::default() };
        let mut session = docker.exec_session(&id, &options).await.unwrap();
        let said = session.chunks.next().await.unwrap().unwrap().bytes;
        let process = String::from_utf8(said.to_vec()).unwrap().trim().to_owned();
        assert!(lives(&*fixture.engine, &id, &process).await);
        sessions.push((session, process));
    }
    drop(proxy);
    for (session, process) in sessions {
        session.chunks.for_each(|_| async {}).await;
        refused(session.exit.unwrap().await, "unreachable");
        eventually("it has ended", || async { !lives(&*fixture.engine, &id, &process).await })
            .await;
    }
}

const NODE: &str = "here";

/// The whole chain over the fixture's engine, for an installation that is the fixture's own.
fn chain(fixture: &Fixture) -> (Chain, Arc<Scope>) {
    let engine = Docker::from_env().unwrap();
    let chain = Chain::new(Platform::new().backends("docker", [(NODE, engine)]));
    let operation = Operation::new("op-live", Duration::from_secs(60));
    (chain, Arc::new(Scope::new("docker", fixture.name(), operation)))
}

async fn send(chain: &Chain, scope: &Arc<Scope>, call: ContainersCall) -> Result<Reply, Error> {
    let call = Call::Containers { node: NODE.to_owned(), call };
    chain.send(scope, call).await.map(|response| response.reply)
}

async fn whole_chain(fixture: &Fixture) {
    let (chain, scope) = chain(fixture);
    let name = fixture.name();
    let spec = Box::new(fixture.serving());
    let create = ContainersCall::Create { name: name.clone(), spec };
    let Reply::Text(id) = send(&chain, &scope, create).await.unwrap() else { panic!("no id") };
    let marks = fixture.engine.inspect(&id).await.unwrap().config.labels.unwrap();
    assert_eq!(marks["gantry.owner"], "docker");
    assert_eq!(marks["gantry.instance"], *scope.instance);
    send(&chain, &scope, ContainersCall::Start { id: name.clone() }).await.unwrap();
    let inspect = ContainersCall::Inspect { id: name.clone() };
    let Reply::Container(seen) = send(&chain, &scope, inspect).await.unwrap() else {
        panic!("no container");
    };
    assert_eq!(seen.config.labels.unwrap().keys().find(|key| key.starts_with("gantry.")), None);
    let list = ContainersCall::List { all: true, labels: BTreeMap::new(), label_keys: None };
    let Reply::Containers(listed) = send(&chain, &scope, list).await.unwrap() else {
        panic!("no list");
    };
    assert_eq!(listed.iter().map(|one| &one.name).collect::<Vec<_>>(), [&name]);

    // Made by hand, in the same engine: not ours.
    let other = fixture.started(&fixture.spec()).await;
    let stop = ContainersCall::Stop { id: other.clone(), seconds: 10 };
    assert_eq!(send(&chain, &scope, stop).await.unwrap_err().kind(), "denied");
    assert!(fixture.engine.inspect(&other).await.unwrap().state.running);
    let remove = ContainersCall::Remove { id: name, force: true };
    send(&chain, &scope, remove).await.unwrap();
    refused(fixture.engine.inspect(&id).await, "not-found");
}

async fn dead_call(fixture: &Fixture) {
    let (chain, scope) = chain(fixture);
    let before = fixture.started(&fixture.spec()).await;
    for patience in [0, 5, 15, 50, 150, 400] {
        let spec = Box::new(fixture.serving());
        let create = ContainersCall::Create { name: fixture.name(), spec };
        let call = async {
            let Reply::Text(id) = send(&chain, &scope, create).await.unwrap() else { return };
            send(&chain, &scope, ContainersCall::Start { id }).await.unwrap();
        };
        // Dropped wherever it is: in the middle of the create, of the start, or after both.
        let _ = tokio::time::timeout(Duration::from_millis(patience), call).await;
    }
    let call = ContainersCall::Create { name: fixture.name(), spec: Box::new(fixture.spec()) };
    send(&chain, &scope, call).await.unwrap();
    scope.ledger.settled().await;
    let host = Arc::new(scope.for_clean_up(Duration::from_secs(60)));
    assert_eq!(clean_up(&chain, &host).await.left, []);
    let left = fixture.engine.list(true, &fixture.mine()).await.unwrap();
    assert_eq!(left.iter().map(|one| &one.id).collect::<Vec<_>>(), [&before]);
}
