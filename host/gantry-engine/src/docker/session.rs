//! Commands that somebody is at: input, the sizes of a terminal, the exit code.
//!
//! Docker leaves a command alone whose caller has gone, and has no call that ends one. So each has a keeper beside it in the container, a second command that waits for the end of its own input and
//! then hangs up on the first. Its connection lives as long as the session, and ends with this process or this machine too.

use std::io;
use std::sync::{Arc, Mutex};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::errors::About;
use super::flow::Both;
use super::{Docker, convert, streams};
use crate::call::ExecOptions;
use crate::containers::Result;
use crate::stream::{Session, Size, Writer};
use crate::{Containers as _, EngineError, names};

/// How many bytes may wait to be sent.
const UNSENT: usize = 64 << 10;

/// The variable by which the keeper knows its command.
const MARK: &str = "GANTRY_SESSION";

/// A keeper; `$0` is the mark. The command is the process that has the mark and no parent in the container, as the keeper itself: what it started may live on, as on any terminal. It may not have begun
/// yet, or not end when it is hung up on. Builtins do it all but the pause, which not every image has.
const KEEPER: &str = r#"read -r end
for signal in HUP HUP HUP KILL KILL; do
  read -r stat <"/proc/$$/stat" || exit
  set -- ${stat##*) }
  parent=$2
  for process in /proc/[0-9]*; do
    { read -r stat <"$process/stat"; } || continue
    set -- ${stat##*) }
    [ "$2" = "$parent" ] || continue
    while IFS= read -r line || [ -n "$line" ]; do
      case $line in *"$0"*) kill -"$signal" "${process#/proc/}" ;; esac
    done <"$process/environ"
  done
  sleep 1
done 2>/dev/null"#;

/// The connection of a keeper, for all that keeps a session open.
type Keeper = Arc<Mutex<Both>>;

impl Docker {
    pub(super) async fn command_session(&self, id: &str, options: &ExecOptions) -> Result<Session> {
        let mark = names::unique()?;
        let marked = format!("{MARK}={mark}");
        // First, so that no command is without one.
        let keeper = ExecOptions {
            command: ["/bin/sh", "-c", KEEPER, &marked].map(str::to_owned).to_vec(),
            user: options.user.clone(),
            stdin: true,
            ..ExecOptions::default()
        };
        let exec_id = self.prepared(id, &keeper).await?;
        let keeper = self.begun(About::exec("start", &exec_id), keeper.tty).await?;

        let mut options = options.clone();
        options.env.push((MARK.to_owned(), mark));
        let exec_id = self.prepared(id, &options).await?;
        let command = self.begun(About::exec("start", &exec_id), options.tty).await?;
        Ok(self.session(exec_id, command, Arc::new(Mutex::new(keeper)), &options))
    }

    /// Prepares a command and gives its id.
    pub(super) async fn prepared(&self, id: &str, options: &ExecOptions) -> Result<String> {
        names::container(id)?;
        let about = About::container("run a command in", id);
        let config = convert::exec_config(options);
        Ok(self.change(about, self.bollard.create_exec(id, config)).await?.id)
    }

    fn session(
        &self,
        exec_id: String,
        command: Both,
        keeper: Keeper,
        options: &ExecOptions,
    ) -> Session {
        let (said, typed) = tokio::io::split(command);
        let about = About::exec("follow", &exec_id);
        let chunks = streams::session(&self.endpoint, about, said, options.tty, None).chunks;
        let (input, unsent) = options.stdin.then(|| tokio::io::duplex(UNSENT)).unzip();
        let (sizes, resized) = options.tty.then(|| mpsc::channel(1)).unzip();

        let (engine, id, tty) = (self.clone(), exec_id.clone(), options.tty);
        let task = tokio::spawn(async move {
            let resizing = async {
                if let Some(resized) = resized {
                    engine.follow_sizes(&id, resized).await;
                }
            };
            tokio::join!(feed(unsent, typed, tty), resizing);
        });
        let held = (Arc::clone(&keeper), AbortOnDropHandle::new(task));
        let chunks = stream::unfold((chunks, held), |(mut chunks, held)| async move {
            chunks.next().await.map(|chunk| (chunk, (chunks, held)))
        });
        let engine = self.clone();
        let exit = async move {
            let code = engine.exit_code(&exec_id).await;
            drop(keeper);
            code
        };
        Session {
            chunks: chunks.boxed(),
            input: input.map(|input| Box::pin(input) as Writer),
            sizes,
            exit: Some(exit.boxed()),
        }
    }

    /// Gives a terminal the sizes it is told: of those that come while one is on its way, the newest.
    async fn follow_sizes(&self, exec_id: &str, mut sizes: mpsc::Receiver<Size>) {
        let mut waiting = None;
        while let Some(Size { width, height }) = match waiting.take() {
            Some(size) => Some(size),
            None => sizes.recv().await,
        } {
            let mut resizing = self.resize_exec(exec_id, height, width);
            // A terminal that is gone needs no size.
            while let Some(newer) = tokio::select! {
                biased;
                _ = &mut resizing => None,
                Some(newer) = sizes.recv() => Some(newer),
            } {
                waiting = Some(newer);
            }
        }
    }

    /// How a command ended, once its output is over.
    async fn exit_code(&self, exec_id: &str) -> Result<i32> {
        let about = About::exec("tell the end of", exec_id);
        let lost = |why| EngineError::NotFound(about.failed(&self.endpoint, why).to_string());
        let told = match self.exec_ended(about).await {
            Err(EngineError::NotFound(_)) => {
                return Err(lost("its container is gone, or the engine has been started anew"));
            }
            told => told?,
        };
        if told.pid == Some(0) {
            return Err(lost("it could not be started; its output says why"));
        }
        convert::exec_state(&told)
            .exit_code
            .ok_or_else(|| about.failed(&self.endpoint, "the engine does not say it"))
    }
}

/// Gives a command what there is to read.
async fn feed(input: Option<DuplexStream>, mut command: impl AsyncWrite + Unpin, tty: bool) {
    let Some(mut input) = input else { return };
    let copied: io::Result<u64> = tokio::io::copy(&mut input, &mut command).await;
    // For a terminal Docker would take it for the caller's end, and end the output: there, only a key says that nothing more comes.
    if copied.is_ok() && !tty {
        // A command that ends without reading all of it is no failure.
        let _ = command.shutdown().await;
    }
}
