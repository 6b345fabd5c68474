//! `gantry app deploy` of a directory or an archive, by the command line on a real Docker engine.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_tests::artifacts::image;
use gantry_tests::daemon::{Daemon, Finished, docker, eventually, http_get};
use serde_json::Value;
use tempfile::TempDir;

/// Long enough for anything here on a busy machine; a wait ends as soon as what it waits for is there.
const SOON: Duration = Duration::from_secs(120);

/// What a daemon is told: the right to make images, and where they are; what is built is built by root, by number: the images have no names of users.
const CONFIG: &str = r#"
[provisioners.docker]
grants = ["images:build", "images:commit", "images:remove", "images:tag"]
config = { host = "here", docker = { repository-namespace = "gantry-test", user = "0", max-layers = 2, healthcheck = { max-time = 60 } } }
"#;

/// All programs of the busybox, so that the image has tar and chown.
const PROGRAMS: &str = "RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]";

/// A platform's own way to build: it unpacks the archive it is given, and signs.
const SCRIPT: &str = r#"RUN mkdir -p /var/lib/tsuru /var/tmp && printf '%s\n' '#!/bin/sh' 'set -e' '[ "$1" = archive ]' 'cd /home/application/current' 'rm -rf ./*' 'tar -xzf "${2#file://}"' 'echo signed by the platform >www/signed' >/var/lib/tsuru/deploy && chmod 755 /var/lib/tsuru/deploy"#;

/// An agent as the reference's platforms have one: it runs what it is given, and deploys what was built.
const AGENT: &str = r#"RUN printf '%s\n' '#!/bin/sh' 'for verb; do command=$last; last=$verb; done' 'case $verb in' 'build) echo "agent builds"; eval "$command" ;;' 'deploy-only) echo "agent deploys"; echo deployed by the agent >/home/application/current/www/deployed ;;' 'esac' >/bin/tsuru_unit_agent && chmod 755 /bin/tsuru_unit_agent"#;

/// An app, its source, and its platform if it has one; its images are removed afterwards.
struct Shop {
    daemon: Daemon,
    app: &'static str,
    source: TempDir,
    platform: Option<String>,
}

impl Shop {
    fn new(app: &'static str, platform: Option<&[&str]>) -> Result<Self> {
        let name = platform.map(|_| format!("{app}-platform"));
        if let (Some(name), Some(lines)) = (&name, platform) {
            let lines = [&[PROGRAMS], lines].concat().join("\n");
            image(&format!("gantry-test/{name}:latest"), "the platform", &lines)?;
        }
        let daemon = Daemon::with_docker(CONFIG)?;
        let shop = Self { daemon, app, source: tempfile::tempdir()?, platform: name };
        let platform = shop.platform.as_deref().unwrap_or("static");
        shop.daemon.cli(&["app", "create", app, platform])?.success()?;
        Ok(shop)
    }

    /// Writes a file of the source.
    fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.source.path().join(path);
        fs::create_dir_all(file.parent().context("it is in a folder")?)?;
        Ok(fs::write(file, text)?)
    }

    /// A source that serves a page.
    fn page(&self, text: &str, hooks: &[&str]) -> Result<()> {
        self.write("www/index.html", text)?;
        self.write("Procfile", "web: env WWW=/home/application/current/www serve\n")?;
        let hooks: Vec<String> = hooks.iter().map(|hook| format!("    - {hook}\n")).collect();
        let hooks = format!("healthcheck:\n  path: /\nhooks:\n  build:\n{}", hooks.concat());
        self.write("tsuru.yaml", &hooks)
    }

    fn source(&self) -> String {
        self.source.path().to_string_lossy().into_owned()
    }

    fn deploy(&self, more: &[&str]) -> Result<Finished> {
        self.daemon.cli(&[&["app", "deploy", self.app, &self.source()], more].concat())
    }

    /// What the app's only unit answers.
    fn get(&self, path: &str) -> Result<(u16, String)> {
        let units = self.daemon.json(&["unit", "list", self.app])?;
        let [unit] = units.as_array().context("a list of units")?.as_slice() else {
            anyhow::bail!("one unit: {units}")
        };
        let address = unit["address"].as_str().context("a unit has an address")?;
        let (status, body) = http_get(&format!("{address}/{path}"))?;
        Ok((status, body.trim_end().to_owned()))
    }

    fn images(&self) -> Result<BTreeSet<String>> {
        let names = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
        let own = format!("/app-{}:", self.app);
        Ok(names.lines().filter(|name| name.contains(&own)).map(str::to_owned).collect())
    }

    /// The names of the app's images without what they all start with.
    fn versions(&self) -> Result<Vec<String>> {
        let version = |name: &String| name.rsplit(':').next().unwrap_or_default().to_owned();
        Ok(self.images()?.iter().map(version).collect())
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        for (id, _) in self.daemon.containers().unwrap_or_default() {
            let _ = docker(&["rm", "-f", "-v", &id]);
        }
        let platform = self.platform.iter().map(|name| format!("gantry-test/{name}:latest"));
        for image in self.images().unwrap_or_default().into_iter().chain(platform) {
            let _ = docker(&["rmi", "-f", &image]);
        }
    }
}

/// A run that must have ended well, with what people read.
fn told(finished: Finished) -> Result<String> {
    let stderr = finished.stderr.clone();
    finished.success()?;
    Ok(stderr)
}

#[test]
fn a_directory_is_built_on_its_platform_and_the_next_on_the_apps_own_image() -> Result<()> {
    let shop = Shop::new("built", Some(&[SCRIPT]))?;
    shop.page("one", &["date +built >www/made", "test -x run.sh && test -L link"])?;
    shop.write("www/gone", "of the first")?;
    shop.write("run.sh", "#!/bin/sh\n")?;
    use std::os::unix::fs::{PermissionsExt, symlink};
    fs::set_permissions(shop.source.path().join("run.sh"), fs::Permissions::from_mode(0o755))?;
    symlink("run.sh", shop.source.path().join("link"))?;
    shop.write("a.log", "left out")?;
    shop.write(".tsuruignore", "*.log\n")?;

    let said = told(shop.deploy(&[])?)?;
    ensure!(said.contains("sending 7 files, "), "{said}");
    ensure!(said.contains("Building on gantry-test/built-platform:latest"), "{said}");
    assert_eq!(shop.get("")?, (200, "one".to_owned()));
    assert_eq!(shop.get("made")?.1, "built", "what a hook made is in the image");
    assert_eq!(shop.get("signed")?.1, "signed by the platform");
    assert_eq!(shop.versions()?, ["v1"]);
    let run = |line: &str| shop.daemon.cli(&["app", "run", "built", "--once", "--", line]);
    let there = run("ls /home/application/current /home/application")?.success()?;
    ensure!(there.contains("run.sh") && !there.contains("a.log"), "{there}");
    ensure!(!there.contains("archive.tar.gz"), "{there}");

    shop.page("two", &[])?;
    fs::remove_file(shop.source.path().join("www/gone"))?;
    let said = told(shop.deploy(&[])?)?;
    ensure!(said.contains("Building on gantry-test/app-built:v1"), "{said}");
    assert_eq!(shop.get("")?.1, "two");
    assert_eq!(shop.get("gone")?.0, 404, "what is not in the source any more is gone");
    // As many as are built on one another: the third is on the platform again.
    let said = told(shop.deploy(&[])?)?;
    ensure!(said.contains("Building on gantry-test/built-platform:latest"), "{said}");

    shop.daemon.cli(&["app", "rollback", "built", ":v1"])?.success()?;
    assert_eq!(shop.get("")?.1, "one");
    assert_eq!(shop.get("gone")?.1, "of the first");
    Ok(())
}

#[test]
fn a_build_that_fails_shows_its_last_words_and_leaves_the_old_units_and_nothing_else() -> Result<()>
{
    let shop = Shop::new("failing", Some(&[]))?;
    shop.page("good", &[])?;
    told(shop.deploy(&[])?)?;
    let (containers, images) = (shop.daemon.containers()?, shop.images()?);

    shop.page("bad", &["echo last words; echo complaint >&2; exit 3", "echo never"])?;
    let finished = shop.deploy(&[])?;
    let said = finished.failure(1)?;
    ensure!(said.contains("last words\n") && said.contains("complaint\n"), "{said}");
    ensure!(said.contains("exit 3` ended with 3") && !said.contains("never"), "{said}");
    assert_eq!(shop.daemon.containers()?, containers);
    assert_eq!(shop.images()?, images);
    assert_eq!(shop.get("")?.1, "good");

    // Built, and then not well: its health check asks for what is not there.
    shop.page("sick", &[])?;
    shop.write("tsuru.yaml", "healthcheck:\n  path: /nothing/there\n")?;
    let said = shop.deploy(&[])?.failure(1)?;
    ensure!(said.contains("wrong status code"), "{said}");
    assert_eq!(shop.daemon.containers()?, containers);
    assert_eq!(shop.images()?, images);
    assert_eq!(shop.get("")?.1, "good");
    Ok(())
}

#[test]
fn the_agent_of_a_platform_builds_and_deploys() -> Result<()> {
    let shop = Shop::new("agent", Some(&[SCRIPT, AGENT]))?;
    shop.page("one", &[])?;
    let said = told(shop.deploy(&[])?)?;
    let (builds, deploys) = (said.find("agent builds"), said.find("agent deploys"));
    ensure!(builds.is_some() && builds < deploys, "{said}");
    assert_eq!(shop.get("")?.1, "one");
    assert_eq!(shop.get("signed")?.1, "signed by the platform");
    assert_eq!(shop.get("deployed")?.1, "deployed by the agent");
    let versions = shop.versions()?;
    ensure!(!versions.iter().any(|version| version.ends_with("-builder")), "{versions:?}");
    let info = shop.daemon.json(&["app", "info", "agent"])?;
    assert_eq!(info["image"], "gantry-test/app-agent:v1");
    Ok(())
}

#[test]
fn a_dockerfile_is_built_with_its_arguments_without_what_is_ignored() -> Result<()> {
    let shop = Shop::new("dockered", None)?;
    image("gantry-test/dockered-base:latest", "base", PROGRAMS)?;
    let _base = Removed("gantry-test/dockered-base:latest");
    let dockerfile = "FROM gantry-test/dockered-base\nARG VERSION=none\nCOPY . /www/\nRUN echo \"$VERSION\" >/www/version\n";
    shop.write("Dockerfile", dockerfile)?;
    shop.write("index.html", "from a Dockerfile")?;
    shop.write("secret", "left out")?;
    shop.write(".dockerignore", "secret\nDockerfile\n")?;
    let said = told(shop.deploy(&["--dockerfile", "--build-arg", "VERSION=one"])?)?;
    ensure!(
        said.contains("Building the image of Dockerfile") && said.contains("Step 1/4"),
        "{said}"
    );
    assert_eq!(shop.get("")?.1, "from a Dockerfile");
    assert_eq!(shop.get("version")?.1, "one");
    for absent in ["secret", "Dockerfile"] {
        assert_eq!(shop.get(absent)?.0, 404, "{absent}");
    }

    // An app that only runs images needs no option.
    shop.write("index.html", "two")?;
    let said = told(shop.deploy(&[])?)?;
    ensure!(
        said.contains("building as `Dockerfile` says: the platform of `dockered` is `static`"),
        "{said}"
    );
    assert_eq!((shop.get("")?.1, shop.get("version")?.1), ("two".to_owned(), "none".to_owned()));
    assert_eq!(shop.versions()?, ["v1", "v2"]);
    shop.daemon.cli(&["app", "rollback", "dockered", ":v1"])?.success()?;
    assert_eq!(shop.get("version")?.1, "one");

    let before = (shop.daemon.containers()?, shop.images()?);
    shop.write("Dockerfile", "FROM gantry-test/dockered-base\nRUN echo last words; exit 3\n")?;
    let said = shop.deploy(&[])?.failure(1)?;
    ensure!(said.contains("last words") && said.contains("non-zero code: 3"), "{said}");
    assert_eq!((shop.daemon.containers()?, shop.images()?), before);
    Ok(())
}

/// An image that is removed afterwards.
struct Removed(&'static str);

impl Drop for Removed {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = docker(&["rmi", "-f", self.0]);
    }
}

#[test]
fn an_archive_is_built_from_a_file_and_from_standard_input() -> Result<()> {
    let shop = Shop::new("archived", Some(&[]))?;
    shop.page("from a file", &[])?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("source.tgz");
    let pack = |arguments: &[&str]| -> Result<Vec<u8>> {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(shop.source.path()).args(arguments).arg(".");
        let output = tar.output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(output.stdout)
    };
    pack(&["-czf", &file.to_string_lossy()])?;
    let said = told(shop.daemon.cli(&["app", "deploy", "archived", &file.to_string_lossy()])?)?;
    ensure!(said.contains("sending an archive, "), "{said}");
    assert_eq!(shop.get("")?.1, "from a file");

    shop.page("from standard input", &[])?;
    let mut command = shop.daemon.command()?;
    command.args(["app", "deploy", "-a", "archived", "-"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("it is piped")?;
    stdin.write_all(&pack(&["-cf", "-"])?)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(shop.get("")?.1, "from standard input");
    Ok(())
}

/// Begins a deploy whose hook waits for `/go`, and waits until it does.
fn begin_waiting(shop: &Shop) -> Result<(std::process::Child, String)> {
    shop.page("waiting", &["echo waiting now; until [ -e /go ]; do sleep 1; done"])?;
    let child = shop.daemon.begin(&["app", "deploy", shop.app, &shop.source()])?;
    let id = eventually(SOON, "the hook runs", || {
        let operations = shop.daemon.json(&["operation", "list", "--app", shop.app])?;
        let running = operations.as_array().and_then(|all| {
            all.iter().find(|one| one["verb"] == "deploy" && one["state"] == "running").cloned()
        });
        let Some(id) = running.and_then(|one| one["id"].as_str().map(str::to_owned)) else {
            return Ok(None);
        };
        let info: Value = shop.daemon.json(&["operation", "info", &id])?;
        let lines = info["lines"].as_array().cloned().unwrap_or_default();
        Ok(lines.iter().any(|line| line["text"] == "waiting now").then_some(id))
    })?;
    Ok((child, id))
}

#[test]
fn a_cancelled_build_leaves_nothing() -> Result<()> {
    let shop = Shop::new("cancelled", Some(&[]))?;
    let (child, id) = begin_waiting(&shop)?;
    assert_eq!(shop.daemon.containers()?.len(), 1);
    shop.daemon.cli(&["operation", "cancel", &id])?.success()?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(shop.daemon.containers()?, []);
    assert_eq!(shop.images()?, BTreeSet::new());
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_in_a_build_leaves_nothing_once_it_runs_again() -> Result<()> {
    let mut shop = Shop::new("killed", Some(&[]))?;
    shop.page("before", &[])?;
    told(shop.deploy(&[])?)?;
    let (containers, images) = (shop.daemon.containers()?, shop.images()?);
    let (mut child, id) = begin_waiting(&shop)?;
    shop.daemon.signal("KILL")?;
    shop.daemon.wait(SOON)?;
    // Whoever followed it gives up in a while, which nobody has to wait for.
    child.kill()?;
    child.wait()?;
    shop.daemon.resume()?;
    eventually(SOON, "the container of the build is gone", || {
        Ok((shop.daemon.containers()? == containers).then_some(()))
    })?;
    assert_eq!(shop.images()?, images);
    let info = shop.daemon.json(&["operation", "info", &id])?;
    assert_eq!(info["state"], "interrupted");
    let data = fs::read_dir(shop.daemon.folder.path().join("data"))?;
    let uploads =
        data.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let uploads: Vec<String> = uploads.filter(|name| name.starts_with(".tmp")).collect();
    ensure!(uploads.is_empty(), "{uploads:?}");
    assert_eq!(shop.get("")?.1, "before");

    shop.page("after", &[])?;
    told(shop.deploy(&[])?)?;
    assert_eq!(shop.get("")?.1, "after");
    Ok(())
}

#[test]
fn what_cannot_be_sent_is_told_before_anything_begins() -> Result<()> {
    let shop = Shop::new("unsent", Some(&[]))?;
    let empty = tempfile::tempdir()?;
    let empty = empty.path().to_string_lossy().into_owned();
    let cli = |arguments: &[&str]| shop.daemon.cli(&[&["app", "deploy"], arguments].concat());
    for (arguments, code, why) in [
        (&["unsent"][..], 2, "deploy what?"),
        (&["unsent", ".", "--image", "i"], 2, "either an image or a path"),
        (&["-a", "unsent", "a", "b"], 2, "`b` is a second one"),
        (&["unsent", "/nowhere/at/all"], 4, "no directory and no archive `/nowhere/at/all`"),
        (&["unsent", &empty], 2, "there is nothing to build"),
        (&["unsent", &empty, "--dockerfile"], 4, "no file `Dockerfile`"),
        (&["unsent", "/etc/hostname"], 2, "no tar archive"),
        (&["nobody", "/etc"], 4, "no app `nobody`"),
    ] {
        let said = cli(arguments)?.failure(code).with_context(|| format!("{arguments:?}"))?;
        ensure!(said.contains(why), "{arguments:?}: {said}");
    }
    shop.write("Procfile", "web: x\n")?;
    let said = shop.deploy(&["--build-arg", "A=1"])?.failure(2)?;
    ensure!(said.contains("only a Dockerfile takes arguments"), "{said}");
    let operations = shop.daemon.json(&["operation", "list", "--app", "unsent"])?;
    let verbs: Vec<&Value> =
        operations.as_array().into_iter().flatten().map(|one| &one["verb"]).collect();
    assert_eq!(verbs, ["app-create"]);
    ensure!(Path::new(&empty).is_dir());
    Ok(())
}
