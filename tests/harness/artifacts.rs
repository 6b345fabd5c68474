//! What is built before a test can use it: the binary, the plugins, the images. Each is built once a run, by the tool that a person would use.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use gantry_runtime::{Runtime, RuntimeSettings};

/// What makes cargo build a component, small as it is shipped.
const AS_PLUGIN: [&str; 4] = ["--target", "wasm32-wasip2", "--profile", "plugin"];

/// The top of the source tree.
#[must_use]
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where cargo puts what it builds, told from where this test itself lies (`<target>/debug/deps/it-…`).
fn target() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target =
        own.ancestors().nth(3).context("a test lies three folders below the target directory")?;
    Ok(target.to_owned())
}

fn run(what: &str, command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("could not start {command:?}"))?;
    ensure!(
        output.status.success(),
        "could not build {what}: {command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A command that knows nothing of what cargo tells its tests about themselves: a build of something else would take it for its own, and make anew what is there.
pub fn without_cargos_words(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
        {
            command.env_remove(name);
        }
    }
    command
}

fn build(what: &str, command: &mut Command) -> Result<()> {
    run(what, without_cargos_words(command))
}

fn cargo(what: &str, arguments: &[&str]) -> Result<PathBuf> {
    let target = target()?;
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(top()).args(arguments).arg("--target-dir").arg(&target);
    build(what, &mut command)?;
    Ok(target)
}

fn once(
    place: &'static OnceLock<Result<PathBuf, String>>,
    build: impl FnOnce() -> Result<PathBuf>,
) -> Result<PathBuf> {
    place
        .get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

/// The `gantry` binary.
pub fn gantry() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&PLACE, || {
        // The whole workspace, so that the dependencies have the features they have in the tests and nothing is built twice.
        let target = cargo("gantry", &["build", "--workspace", "--bin", "gantry"])?;
        Ok(target.join("debug/gantry"))
    })
}

/// A provisioner of plugins/.
fn plugin(place: &'static OnceLock<Result<PathBuf, String>>, package: &str) -> Result<PathBuf> {
    once(place, || {
        let target = cargo(package, &[&["build", "-p", package], &AS_PLUGIN[..]].concat())?;
        let file = target.join("wasm32-wasip2/plugin").join(package.replace('-', "_"));
        Ok(file.with_extension("wasm"))
    })
}

/// The Docker plugin.
pub fn docker_plugin() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    plugin(&PLACE, "gantry-docker")
}

/// The daemon's program, built for release, for benchmarks.
pub fn released() -> Result<PathBuf> {
    // With the benchmarks, so that the dependencies have the features they have there and nothing is built twice.
    let packages = ["-p", "gantry", "-p", "gantry-tests", "--bin", "gantry", "--bench", "gantry"];
    let target = cargo("gantry", &[&["build", "--release"], &packages[..]].concat())?;
    Ok(target.join("release/gantry"))
}

/// The Kubernetes plugin.
pub fn kubernetes_plugin() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    plugin(&PLACE, "gantry-kubernetes")
}

/// The agent that builds inside clusters: a program that needs nothing of the image it is in.
pub fn build_agent() -> Result<PathBuf> {
    static PLACE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&PLACE, || {
        let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let target = target()?;
        let mut command = Command::new(env!("CARGO"));
        command
            .current_dir(top())
            .args(["build", "-p", "gantry-build-agent", "--profile", "plugin", "--target", &triple])
            .arg("--target-dir")
            .arg(&target)
            // What little C there is needs no library, so that the compiler of this machine does.
            .env(format!("CC_{}", triple.replace('-', "_")), "cc");
        build("gantry-build-agent", &mut command)?;
        Ok(target.join(triple).join("plugin/gantry-build-agent"))
    })
}

/// An example of the Rust SDK.
pub fn sdk_example(name: &str) -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    example(&FOLDER, "gantry-sdk", name)
}

/// A guest of tests/guests.
pub fn guest(name: &str) -> Result<PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    example(&FOLDER, "gantry-guests", name)
}

/// An example of a package; all of them are built. Those of the packages lie in one folder, so no two have one name.
fn example(
    folder: &'static OnceLock<Result<PathBuf, String>>,
    package: &str,
    name: &str,
) -> Result<PathBuf> {
    let folder = once(folder, || {
        let target =
            cargo(package, &[&["build", "-p", package, "--examples"], &AS_PLUGIN[..]].concat())?;
        Ok(target.join("wasm32-wasip2/plugin/examples"))
    })?;
    let path = folder.join(name).with_extension("wasm");
    ensure!(path.is_file(), "{package} has no example {name:?}");
    Ok(path)
}

/// Where the tests keep what was compiled of the plugins: compiling takes longer than most tests, and is done once.
pub fn compiled_plugins() -> Result<PathBuf> {
    let folder = target()?.join("tmp/compiled-plugins");
    // Compiled plugins are code: the runtime wants this folder and the one around it for us alone.
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&folder)?;
    Ok(folder)
}

/// A runtime that finds the plugins compiled.
pub fn runtime() -> Result<Runtime> {
    let cache = Some(compiled_plugins()?);
    Ok(Runtime::new(RuntimeSettings { cache, ..RuntimeSettings::default() })?)
}

/// Makes an image that answers `text` on port 8888, with more lines for its Dockerfile.
pub fn image(name: &str, text: &str, dockerfile: &str) -> Result<()> {
    let mut command = Command::new("bash");
    command
        .current_dir(top())
        .arg("-euc")
        .arg(". tests/scripts/images.sh; make_image \"$@\"")
        .args([OsStr::new("image"), OsStr::new(name), OsStr::new(text), OsStr::new(dockerfile)]);
    run(name, &mut command)
}
