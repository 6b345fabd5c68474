//! `gantry app deploy`: an image, or what is built of a directory or an archive.

mod archive;
mod ignored;
mod upload;

use std::path::Path;

use clap::Args;
use hyper::Method;

use self::upload::Upload;
use super::{done, image, path};
use crate::api::{AppInfo, Deploy};
use crate::cli::change::{ChangeArgs, finish};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::ui::Ui;
use crate::cli::{app_and_words, named, pairs};
use crate::client::{Client, escape};

/// The platform of apps that only run images.
const STATIC: &str = "static";

/// The name of a Dockerfile that nobody names.
const DOCKERFILE: &str = "Dockerfile";

/// Deploy an image, or what is built of a directory or an archive, as the app's new version
///
/// New units are started and checked before an old one is touched. When it fails, the
/// old units serve on and nothing new is left. It goes on when this command is gone;
/// Ctrl-C cancels it and waits for the undo.
///
/// A directory (or a tar archive, plain or compressed with gzip, or `-` for one on
/// standard input) is built on the image of the app's platform, or with `--dockerfile`
/// as that says. A directory with a Dockerfile needs no option for that when the
/// platform of the app is `static`. What `.dockerignore` lists stays out of the build
/// of a Dockerfile, and what `.tsuruignore` lists out of every other.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry app deploy web --image registry.example/web:2
  gantry app deploy -a web -i web:2 --wait
  gantry app deploy web .
  gantry app deploy web . --dockerfile=docker/Dockerfile --build-arg VERSION=2
  git archive HEAD | gantry app deploy web -
  id=$(gantry app deploy web -i web:2 --detach) && gantry operation info $id --follow")]
pub(crate) struct DeployArgs {
    /// The app, unless `--app` names it, and what is built
    #[arg(value_names = ["APP", "PATH"], num_args = 0..=2, value_parser = named)]
    words: Vec<String>,
    /// The app
    #[arg(short = 'a', long = "app", value_name = "APP", value_parser = named)]
    app: Option<String>,
    /// The image, in place of a path
    #[arg(short, long)]
    image: Option<String>,
    /// Build as this file of the source says [default: Dockerfile]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = DOCKERFILE, conflicts_with = "image", value_parser = named)]
    dockerfile: Option<String>,
    /// An argument of the Dockerfile, as often as needed
    #[arg(long = "build-arg", value_name = "KEY=VALUE", conflicts_with = "image")]
    build_args: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

impl DeployArgs {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let (app, words) = app_and_words(self.app, self.words)?;
        let mut words = words.into_iter();
        match (self.image, words.next(), words.next()) {
            (Some(image), None, _) => deploy_image(ui, client, &app, image, &self.change).await,
            (None, Some(source), None) => {
                let build = Build {
                    app,
                    source,
                    dockerfile: self.dockerfile,
                    args: self.build_args,
                    change: self.change,
                };
                build.run(ui, client).await
            }
            (None, Some(_), Some(word)) => {
                let what = format!("one path is built, and `{word}` is a second one");
                Err(Failure::new(Exit::Usage, what).hint("with `--app` every word is a path"))
            }
            (Some(_), Some(_), _) => {
                Err(Failure::new(Exit::Usage, "either an image or a path is deployed, not both"))
            }
            (None, None, _) => Err(Failure::new(Exit::Usage, "deploy what?").hint(format!(
                "`gantry app deploy {app} .` builds this directory; `gantry app deploy {app} --image IMAGE` runs an image"
            ))),
        }
    }
}

async fn deploy_image(
    ui: &mut Ui,
    client: &Client,
    app: &str,
    wanted: String,
    change: &ChangeArgs,
) -> Result<Exit, Failure> {
    let body = Deploy { image: wanted };
    let path = path(app, "/deploy");
    let accepted = client.change(Method::POST, &path, &body, &change.change()).await?;
    let operation = finish(ui, client, change, accepted).await?;
    Ok(done(ui, operation, |operation| {
        format!("deployed `{app}`: {}", image(operation, &body.image))
    }))
}

/// A source on its way.
struct Build {
    app: String,
    source: String,
    dockerfile: Option<String>,
    args: Vec<String>,
    change: ChangeArgs,
}

impl Build {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let dockerfile = self.dockerfile(ui, client).await?;
        let args = pairs("build-arg", &self.args)?;
        if dockerfile.is_none() && !args.is_empty() {
            return Err(Failure::new(Exit::Usage, "only a Dockerfile takes arguments")
                .hint("add `--dockerfile`"));
        }
        let upload = Upload::of(&self.source, dockerfile.as_deref())?;
        upload.tell(ui);
        let mut path = path(&self.app, "/build");
        if let Some(dockerfile) = &dockerfile {
            path.push_str(&format!("?dockerfile={}", escape(dockerfile)));
        }
        let accepted = upload.send(ui, client, &path, &args, &self.change.change()).await?;
        let operation = finish(ui, client, &self.change, accepted).await?;
        let app = &self.app;
        Ok(done(ui, operation, |operation| format!("deployed `{app}`: {}", image(operation, ""))))
    }

    /// The Dockerfile that is followed, if one is.
    async fn dockerfile(&self, ui: &mut Ui, client: &Client) -> Result<Option<String>, Failure> {
        let source = Path::new(&self.source);
        if let Some(dockerfile) = &self.dockerfile {
            if source.is_dir() && !source.join(dockerfile).is_file() {
                let what = format!("no file `{dockerfile}` in `{}`", self.source);
                return Err(Failure::new(Exit::NotFound, what)
                    .hint("`--dockerfile=FILE` names one, from the top of the source"));
            }
            return Ok(Some(dockerfile.clone()));
        }
        if !source.join(DOCKERFILE).is_file() {
            return Ok(None);
        }
        let info: AppInfo = client.get(&super::path(&self.app, "")).await?;
        if info.app.platform != STATIC {
            return Ok(None);
        }
        ui.status(&format!(
            "building as `{DOCKERFILE}` says: the platform of `{}` is `{STATIC}`",
            self.app
        ));
        Ok(Some(DOCKERFILE.to_owned()))
    }
}
