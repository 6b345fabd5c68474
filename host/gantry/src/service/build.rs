//! Deploys of an app's source: it is received whole, built, and what was built is deployed, all in one operation.
//!
//! The source lies in a file without a name while the operation lasts, so that an upload that breaks off has begun nothing, and a daemon that dies leaves nothing.

use std::collections::BTreeMap;
use std::io::{self, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use gantry_core::image::BuildOptions;
use gantry_runtime::{Interface, Provisioner};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::images::Ending;
use super::units::Change;
use super::{OrProblem, Service};
use crate::api::{Problem, ProblemKind};
use crate::operation::Caller;

/// How many sources are received at the same time: each lies on the disk of the daemon.
pub(super) const AT_ONCE: usize = 4;

/// How long a source waits for its turn before it is refused.
const TURN: Duration = Duration::from_secs(60);

/// How long whoever sends a source may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// How much of an archive is looked at: a block of tar.
const HEAD: usize = 512;

/// The source of an app: a tar archive, which may be compressed with gzip.
pub(crate) struct Source {
    file: File,
    size: u64,
    digest: String,
}

/// What builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Builder {
    /// A Docker host.
    Docker,
    /// A pod.
    Cluster,
}

impl Service {
    /// Whether the app's provisioner builds such a thing, so that nobody sends a source in vain.
    pub(crate) async fn may_build(&self, app: &str, options: &BuildOptions) -> Result<(), Problem> {
        let title = title(app);
        check(options, &title)?;
        let record = self.record(app).await?;
        builder(&self.provisioner(&record.provisioner)?, app, options, &title).map(drop)
    }

    /// Receives a source to its end once it is its turn; `announced` is how large it says it is, if it does.
    pub(crate) async fn receive_source<E: std::error::Error>(
        &self,
        app: &str,
        announced: Option<u64>,
        parts: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
    ) -> Result<Source, Problem> {
        let title = title(app);
        let most = self.config.largest_source;
        if announced.is_some_and(|size| size > most) {
            return Err(too_large(&title, most));
        }
        let _turn = turn(&self.uploads, TURN, &title).await?;
        let file = self.data.nameless_file().or_problem(|| title.clone())?;
        receive(File::from_std(file), parts, most, SILENCE, &title).await
    }

    /// Builds a source and deploys what was built as the app's new version.
    pub(crate) async fn deploy_source(
        self: &Arc<Self>,
        caller: Caller,
        app: &str,
        source: Source,
        options: BuildOptions,
    ) -> Result<String, Problem> {
        let title = title(app);
        check(&options, &title)?;
        let caller = Caller { unshown: json!(options.args), ..caller };
        let detail = detail(&source, &options);
        self.change(caller, "deploy", app, detail, move |change| async move {
            let built = change.build(source, &options, &title).await?;
            let deployed = change.deploy(&built, title).await;
            match &deployed {
                Ok(image) if *image == built => {}
                // It is in the image that was made of it.
                Ok(_) => change.clean(vec![built], Ending::Images).await,
                Err(_) => change.clean(vec![built], Ending::Deploy).await,
            }
            let image = deployed?;
            change.count_deploy(!options.dockerfile.is_empty()).await;
            Ok(json!({"image": image}))
        })
        .await
    }
}

impl Change {
    async fn build(
        &self,
        source: Source,
        options: &BuildOptions,
        title: &str,
    ) -> Result<String, Problem> {
        let (provisioner, operation) = (&self.provisioner, &self.operation);
        let app = &self.record.app;
        let reader = Box::pin(source.file);
        // It may have moved while this waited for its turn.
        let built = match builder(provisioner, &app.name, options, title)? {
            Builder::Docker => provisioner.build(operation, app, reader, options).await,
            Builder::Cluster => provisioner.build_pod(operation, app, reader, &options.tag).await,
        };
        built.or_problem(|| title.to_owned())
    }
}

/// Waits for a turn to send a source. What is sent meanwhile is not read.
async fn turn<'a>(
    turns: &'a Semaphore,
    wait: Duration,
    title: &str,
) -> Result<SemaphorePermit<'a>, Problem> {
    match tokio::time::timeout(wait, turns.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        // Nobody closes it.
        Ok(Err(_)) | Err(_) => Err(Problem::new(ProblemKind::Overloaded, title)
            .because(format!("{AT_ONCE} other sources are being sent"))
            .hint("nothing was begun: do it again later")),
    }
}

/// Writes a source into a file.
async fn receive<E: std::error::Error>(
    mut file: File,
    mut parts: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
    most: u64,
    silence: Duration,
    title: &str,
) -> Result<Source, Problem> {
    let broke_off = |why: String| {
        Problem::new(ProblemKind::Invalid, title).because(format!("the source broke off: {why}"))
    };
    let (mut size, mut head, mut digest) = (0_u64, Vec::new(), Sha256::new());
    loop {
        let part = tokio::time::timeout(silence, parts.next()).await;
        let part = part.map_err(|_| broke_off(format!("nothing came for {silence:?}")))?;
        let Some(part) = part else { break };
        let part = part.map_err(|error| broke_off(error.to_string()))?;
        size = size.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
        if size > most {
            return Err(too_large(title, most));
        }
        let room = HEAD.saturating_sub(head.len());
        head.extend(part.iter().take(room));
        digest.update(&part);
        file.write_all(&part).await.map_err(|error| no_room(title, &error))?;
    }
    check_archive(&head, title)?;
    file.flush().await.map_err(|error| no_room(title, &error))?;
    file.seek(SeekFrom::Start(0)).await.map_err(|error| no_room(title, &error))?;
    let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Source { file, size, digest })
}

fn title(app: &str) -> String {
    format!("could not deploy `{app}`")
}

/// What is written down of a build: no value of an argument.
fn detail(source: &Source, options: &BuildOptions) -> Value {
    let source = json!({"sha256": source.digest, "size": source.size});
    if options.dockerfile.is_empty() {
        return json!({"source": source});
    }
    let args: Vec<&String> = options.args.iter().map(|(name, _)| name).collect();
    json!({"source": source, "dockerfile": options.dockerfile, "args": args})
}

/// Options as they come from a request.
pub(crate) fn options(dockerfile: String, args: BTreeMap<String, String>) -> BuildOptions {
    BuildOptions { dockerfile, args: args.into_iter().collect(), tag: String::new() }
}

fn check(options: &BuildOptions, title: &str) -> Result<(), Problem> {
    let BuildOptions { dockerfile, args, .. } = options;
    let invalid = |why: String| Err(Problem::new(ProblemKind::Invalid, title).because(why));
    if dockerfile.starts_with('/') || dockerfile.split('/').any(|part| part == "..") {
        return invalid(format!("the Dockerfile `{dockerfile}` is not in the source"));
    }
    if args.iter().any(|(name, _)| name.is_empty()) {
        return invalid("an argument of the build has no name".to_owned());
    }
    if dockerfile.is_empty() && !args.is_empty() {
        return invalid("only a Dockerfile takes arguments".to_owned());
    }
    Ok(())
}

/// What of a provisioner builds.
fn builder(
    provisioner: &Provisioner,
    app: &str,
    options: &BuildOptions,
    title: &str,
) -> Result<Builder, Problem> {
    let refused = |why: String| {
        Err(Problem::new(ProblemKind::NotSupported, title).because(why).hint(format!(
            "build the image elsewhere, push it, and `gantry app deploy {app} --image IMAGE`"
        )))
    };
    let name = gantry_core::quote(provisioner.name());
    if provisioner.supports(Interface::DockerBuilder) {
        Ok(Builder::Docker)
    } else if !provisioner.supports(Interface::ClusterBuilder) {
        refused(format!("provisioner {name} does not support builds"))
    } else if options.dockerfile.is_empty() {
        Ok(Builder::Cluster)
    } else {
        refused(format!(
            "provisioner {name} does not support builds of a Dockerfile, only those on the image of a platform"
        ))
    }
}

/// Whether this is the beginning of an archive that can be built.
fn check_archive(head: &[u8], title: &str) -> Result<(), Problem> {
    let why = if head.is_empty() || head.iter().all(|byte| *byte == 0) {
        "the source is empty"
    } else if head.starts_with(&[0x1f, 0x8b]) || head.get(257..262) == Some(b"ustar") {
        return Ok(());
    } else {
        "the source is no tar archive, plain or compressed with gzip"
    };
    Err(Problem::new(ProblemKind::Invalid, title).because(why))
}

fn too_large(title: &str, most: u64) -> Problem {
    Problem::new(ProblemKind::OverLimit, title)
        .because(format!("the source has more than {most} bytes"))
        .hint("leave files out with `.tsuruignore` or `.dockerignore`; `builds.largest-source` in the configuration is the most that is taken")
}

fn no_room(title: &str, error: &io::Error) -> Problem {
    Problem::new(ProblemKind::Storage, title)
        .because(format!("the source cannot be kept: {error}"))
        .hint("`df` tells where there is room")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(result: Result<(), Problem>) -> String {
        result.map_or_else(|problem| problem.detail, |()| String::new())
    }

    #[test]
    fn what_is_no_archive_is_told_at_once() {
        let mut tar = vec![b'a'; HEAD];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(why(check_archive(&tar, "t")), "");
        assert_eq!(why(check_archive(&[0x1f, 0x8b, 8], "t")), "");
        assert_eq!(why(check_archive(&[], "t")), "the source is empty");
        assert_eq!(why(check_archive(&[0; HEAD], "t")), "the source is empty");
        let zip = why(check_archive(b"PK\x03\x04", "t"));
        assert_eq!(zip, "the source is no tar archive, plain or compressed with gzip");
    }

    #[tokio::test]
    async fn who_sends_nothing_is_not_waited_for() {
        let first = futures_util::stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"part"))]);
        let parts = first.chain(futures_util::stream::pending());
        let file = File::from_std(tempfile::tempfile().unwrap());
        let silence = Duration::from_millis(20);
        let received = receive(file, parts, u64::MAX, silence, "t").await;
        let problem = received.map(|source| source.size).unwrap_err();
        assert_eq!(problem.detail, "the source broke off: nothing came for 20ms");
        assert_eq!(problem.kind, ProblemKind::Invalid);
    }

    #[tokio::test]
    async fn who_waits_too_long_for_a_turn_is_told_to_come_again() {
        let turns = Semaphore::new(1);
        let held = turn(&turns, TURN, "t").await.unwrap();
        let problem = turn(&turns, Duration::from_millis(20), "t").await.map(drop).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Overloaded);
        assert_eq!(problem.detail, "4 other sources are being sent");
        assert!(problem.hint.is_some_and(|hint| hint.contains("later")));
        drop(held);
        turn(&turns, TURN, "t").await.map(drop).unwrap();
    }

    #[test]
    fn a_dockerfile_lies_in_the_source_and_only_it_takes_arguments() {
        let of = |dockerfile: &str, args: &[(&str, &str)]| {
            let args = args.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            why(check(&options(dockerfile.to_owned(), args.collect()), "t"))
        };
        assert_eq!(of("", &[]), "");
        assert_eq!(of("docker/Dockerfile.prod", &[("A", "")]), "");
        for outside in ["/etc/passwd", "../Dockerfile", "a/../../b"] {
            assert!(of(outside, &[]).ends_with("is not in the source"), "{outside}");
        }
        assert_eq!(of("Dockerfile", &[("", "x")]), "an argument of the build has no name");
        assert_eq!(of("", &[("A", "x")]), "only a Dockerfile takes arguments");
    }
}
