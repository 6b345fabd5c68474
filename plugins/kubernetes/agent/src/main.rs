//! Makes images of apps inside a cluster, without a container engine and without rights.
//!
//! A pod of the Kubernetes provisioner runs it three times. First `install` puts the program into a folder that all containers of the pod see. Then `work` runs it there, in the container of
//! the platform's image: it unpacks the source, runs the platform's command and the app's build hooks, and makes a layer of what they changed. Beside it, in the container of the program's
//! own image, `build` passes the source on, takes the layer, and pushes it to the registry on top of the layers that are there already. So the password of the registry is never where the
//! app's code runs, and nothing needs root, a privilege or an engine's socket.
//!
//! ```text
//!   archive ──► build ── source ──► work ──► platform's command, build hooks
//!                 │ ◄── output, layer ──┘
//!                 ▼
//!              registry: layer, configuration, manifest (in this order: an image has its name when all of it is there)
//! ```
//!
//! `deploy` gives an image another name, and `inspect` does that and tells what is in it.

mod archive;
mod error;
mod layer;
mod link;
mod manifest;
mod publish;
mod snapshot;
mod work;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use gantry_registry::Account;

use crate::error::{Doing as _, Result, build};
use crate::publish::Job;
use crate::work::{Place, Work};

/// The folder that all containers of the pod see.
const SHARED: &str = "/tmp/intercontainer";

/// A folder of this container's own.
const SCRATCH: &str = "/tmp/scratch";

/// Where a container says why it ended.
const LAST_WORD: &str = "/dev/termination-log";

/// So many letters of it are kept: 4096 bytes.
const LONGEST_LAST_WORD: usize = 1024;

/// How long one container waits for the other, whose image may have to be pulled first.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().unwrap_or_default();
    match run(&verb.to_string_lossy(), arguments.collect()) {
        Ok(true) => ExitCode::SUCCESS,
        // The other container tells why.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let text = error.to_string();
            // On the stream of what else was said, which comes before it: nobody orders two streams.
            let _gone = writeln!(io::stdout(), "error: {text}");
            // Of what is longer the cluster keeps the end, and what matters is in the beginning.
            let start: String = text.chars().take(LONGEST_LAST_WORD).collect();
            let _absent = std::fs::write(LAST_WORD, start);
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &str, arguments: Vec<OsString>) -> Result<bool> {
    let mut arguments = arguments.into_iter();
    let mut argument = || arguments.next().unwrap_or_default();
    let (shared, scratch) = (Path::new(SHARED), Path::new(SCRATCH));
    let socket = shared.join("socket");
    match verb {
        "install" => install(&PathBuf::from(argument())).map(|()| true),
        "work" => {
            let command = argument().to_string_lossy().into_owned();
            at_work(&Work::Build { command }, &socket)
        }
        "look" => at_work(&Work::Look, &socket),
        "build" => {
            let now = jiff::Timestamp::now().to_string();
            let next_door = || link::listen(&socket);
            job()?.build(io::stdin(), next_door, scratch, &mut io::stdout(), &now).map(|()| true)
        }
        "deploy" => {
            until_somebody_listens()?;
            job()?.retag(scratch, &mut io::stdout()).map(|()| true)
        }
        "inspect" => {
            until_somebody_listens()?;
            let told = job()?.inspect(|| link::listen(&socket), scratch)?;
            writeln!(io::stdout(), "{told}").doing(|| "cannot tell of the image".to_owned())?;
            Ok(true)
        }
        _ => Err(build(
            "usage: gantry-build-agent install FILE | work COMMAND | look | build | deploy | inspect",
        )),
    }
}

/// Whoever attaches sends something: what is told before nobody sees.
fn until_somebody_listens() -> Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop).doing(|| "nobody listens".to_owned())
}

/// Puts this program where it can be run in another container.
fn install(place: &Path) -> Result<()> {
    let installing = || format!("cannot install `{}`", place.display());
    let own = std::env::current_exe().doing(installing)?;
    std::fs::copy(own, place).map(drop).doing(installing)
}

fn at_work(work: &Work, socket: &Path) -> Result<bool> {
    let place = Place { root: PathBuf::from("/"), shared: PathBuf::from(SHARED) };
    work::run(work, &place, || link::connect(socket, PATIENCE))
}

fn job() -> Result<Job> {
    let set = |name: &str| std::env::var(format!("DEPLOYAGENT_{name}")).unwrap_or_default();
    let account = Account {
        registry: set("REGISTRY_ADDRESS"),
        user: set("REGISTRY_AUTH_USER"),
        password: set("REGISTRY_AUTH_PASS"),
        authority: set("REGISTRY_CA"),
        program: concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
        ..Account::default()
    };
    Job::new(&set("SOURCE_IMAGE"), &set("DESTINATION_IMAGES"), account)
}
