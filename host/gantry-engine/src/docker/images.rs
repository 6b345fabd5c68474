//! What takes its time with images: commit, pull, build, push. The engine's lines are told as text, one after the other.

use std::collections::{BTreeMap, HashMap};

use bollard::errors::Error as BollardError;
use bollard::models;
use bollard::query_parameters as query;
use futures_util::{Stream, StreamExt as _};
use gantry_core::image::split_image_name;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use super::Docker;
use super::errors::About;
use crate::call::BuildOptions;
use crate::containers::Result;
use crate::stream::{Reader, Writer};
use crate::{follow, names};

impl Docker {
    pub(super) async fn commit_image(
        &self,
        id: &str,
        repository: &str,
        tag: &str,
        comment: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String> {
        names::container(id)?;
        let about = About::container("commit", id);
        let options = query::CommitContainerOptionsBuilder::new()
            .container(id)
            .repo(repository)
            .tag(tag)
            .comment(comment)
            .build();
        let config = models::ContainerConfig {
            labels: (!labels.is_empty()).then(|| labels.clone().into_iter().collect()),
            ..models::ContainerConfig::default()
        };
        let made = self.bollard.commit_container(options, config);
        Ok(self.within(self.timeouts.commit, about, made).await?.id)
    }

    pub(super) async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<()> {
        names::image(image)?;
        let about = About::image("tag", image);
        let options = query::TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
        self.change(about, self.bollard.tag_image(image, Some(options))).await
    }

    pub(super) async fn pull(&self, image: &str) -> Result<()> {
        names::image(image)?;
        self.api_version().await?;
        let about = About::image("pull", image);
        // Without a tag Docker would pull all of them.
        let (name, tag) = match image.split_once('@') {
            Some((name, digest)) => (name, digest),
            None => split_image_name(image),
        };
        let options = query::CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
        let lines = self.bollard.create_image(Some(options), None, self.auth.of_image(image));
        self.told(about, lines, None, true, |_| None).await
    }

    pub(super) async fn push(&self, image: &str, output: Writer) -> Result<()> {
        names::image(image)?;
        self.api_version().await?;
        let about = About::image("push", image);
        let (name, tag) = split_image_name(image);
        let options = query::PushImageOptionsBuilder::new().tag(tag).build();
        let lines = self.bollard.push_image(name, Some(options), self.auth.of_image(image));
        self.told(about, lines, Some(output), true, |line: models::PushImageInfo| {
            // The bars of a transfer are not for a log.
            let moving = line.progress_detail.is_some_and(|detail| detail.current.is_some());
            line.status.filter(|_| !moving).map(|status| status + "\n")
        })
        .await
    }

    pub(super) async fn build(
        &self,
        options: &BuildOptions,
        context: Reader,
        output: Writer,
    ) -> Result<()> {
        names::image(&options.name)?;
        self.api_version().await?;
        let about = About::image("build", &options.name);
        let dockerfile = match options.dockerfile.as_str() {
            "" => "Dockerfile",
            path => path,
        };
        let args: HashMap<&str, &str> =
            options.args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let query = query::BuildImageOptionsBuilder::new()
            .t(&options.name)
            .dockerfile(dockerfile)
            .nocache(!options.cache)
            .buildargs(&args)
            .rm(true)
            .forcerm(true)
            .build();
        let context = bollard::body_try_stream(ReaderStream::new(context));
        let lines = self.bollard.build_image(query, None, Some(context));
        // A step may be silent for as long as it takes.
        self.told(about, lines, Some(output), false, |line: models::BuildInfo| {
            line.stream.or_else(|| line.status.map(|status| status + "\n"))
        })
        .await
    }

    /// Tells the lines of an engine to whoever reads them, to the last one. A reader that has gone does not stop the engine.
    async fn told<T>(
        &self,
        about: About<'_>,
        lines: impl Stream<Item = std::result::Result<T, BollardError>> + Send,
        mut output: Option<Writer>,
        impatient: bool,
        text: impl Fn(T) -> Option<String> + Send,
    ) -> Result<()> {
        tokio::pin!(lines);
        loop {
            let line = if impatient {
                timeout(self.timeouts.silence, lines.next())
                    .await
                    .map_err(|_| about.late(&self.endpoint, self.timeouts.silence))?
            } else {
                lines.next().await
            };
            match line {
                None => return Ok(()),
                Some(Err(error)) => return Err(about.error(&self.endpoint, error)),
                Some(Ok(line)) => {
                    if let Some(text) = text(line) {
                        follow::put(&mut output, text.as_bytes()).await;
                    }
                }
            }
        }
    }
}
