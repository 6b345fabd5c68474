//! Images that are built on one of three hosts, pushed to a registry that asks for a password, pulled by the others, and removed when nobody can return to them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_tests::daemon::{Finished, eventually, http_get};
use gantry_tests::hosts::Host;
use gantry_tests::registry::{Registry, Trust};
use tempfile::TempDir;

use super::stage::{Three, units};

/// How long the daemon has to remove images that nobody needs.
const CLEANED: Duration = Duration::from_secs(5 * 60);

/// Three hosts, a registry that they trust, and an app with a source.
struct Shop {
    // The daemon ends before what it talks to.
    three: Three,
    registry: Registry,
    _trust: Trust,
    source: TempDir,
}

impl Shop {
    /// A daemon that knows this password of the registry; the registry's own when none is named.
    fn start(name: &str, password: Option<&str>) -> Result<Self> {
        let registry = Registry::start()?;
        let trust = registry.trusted_by_docker()?;
        let source = tempfile::tempdir()?;
        let file = source.path().join("password");
        std::fs::write(&file, password.unwrap_or(&registry.password))?;
        let (address, user, authority) = (&registry.address, &registry.user, registry.ca());
        let config = format!(
            r#"
[healing]
every = "0s"
[images]
every = "2s"
[[docker.registries]]
address = "{address}"
user = "{user}"
password-file = {file:?}
ca = {authority:?}
[provisioners.docker]
grants = ["images:build", "images:commit", "images:push", "images:remove", "images:tag"]
[provisioners.docker.config.docker]
registry = "{address}"
registry-max-try = 1
image-history-size = 2
"#
        );
        let three = Three::with(name, &config)?;
        three.daemon.cli(&["app", "create", "web", "static", "--pool", "three"])?.success()?;
        Ok(Self { three, registry, _trust: trust, source })
    }

    /// Builds a source that serves this text, and deploys it.
    fn deploy(&self, text: &str) -> Result<Finished> {
        self.deploy_with(text, "")
    }

    /// The same with more lines for its Dockerfile. It waits while the images of the app are cleaned.
    fn deploy_with(&self, text: &str, lines: &str) -> Result<Finished> {
        let folder = self.source.path().join("source");
        std::fs::create_dir_all(&folder)?;
        let dockerfile = format!("FROM {}\nCOPY page /www/index.html\n{lines}", self.three.image);
        std::fs::write(folder.join("Dockerfile"), dockerfile)?;
        std::fs::write(folder.join("page"), text)?;
        self.three.daemon.cli(&["app", "deploy", "web", &folder.to_string_lossy(), "--wait"])
    }

    /// The name of an image that was made of the app.
    fn image(&self, number: u32) -> String {
        self.registry.image(&format!("tsuru/app-web:v{number}"))
    }

    /// The numbers of the images made of the app that are on a host.
    fn on(&self, host: &Host) -> Result<BTreeSet<String>> {
        let list = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        let names = self.three.hosts.docker(host, &list)?;
        let own = self.registry.image("tsuru/app-web:");
        Ok(names.lines().filter_map(|name| name.strip_prefix(&own)).map(str::to_owned).collect())
    }

    /// Demands that an app has a unit on each host, all of which answer this.
    fn answers(&self, app: &str, text: &str) -> Result<()> {
        ensure!(self.three.counts(app)? == [1, 1, 1], "{:?}", self.three.spread(app)?);
        for unit in units(&self.three.daemon, app)? {
            let address = unit["address"].as_str().context("a unit has an address")?;
            let (status, body) = http_get(&format!("{address}/"))?;
            ensure!((status, body.trim_end()) == (200, text), "{unit}: {status} {body}");
        }
        Ok(())
    }
}

/// Builds a source on a platform, in a container whose image is committed: it is pushed and pulled as every other.
fn what_is_committed_runs_on_all(shop: &Shop) -> Result<()> {
    let Shop { three, registry, source, .. } = shop;
    let platform = registry.image("tsuru/site:latest");
    for host in &three.hosts.hosts {
        three.hosts.docker(host, &["tag", &three.image, &platform])?;
    }
    let folder = source.path().join("site");
    std::fs::create_dir_all(folder.join("www"))?;
    let program = "web: env WWW=/home/application/current/www serve\n";
    std::fs::write(folder.join("Procfile"), program)?;
    let hooks = "healthcheck:\n  path: /\nhooks:\n  build:\n    - echo six >www/index.html\n";
    std::fs::write(folder.join("tsuru.yaml"), hooks)?;

    let daemon = &three.daemon;
    daemon.cli(&["app", "create", "site", "site", "--pool", "three"])?.success()?;
    let built = daemon.cli(&["app", "deploy", "site", &folder.to_string_lossy(), "--wait"])?;
    let said = built.stderr.clone();
    built.success()?;
    ensure!(said.contains(&format!("Building on {platform}")), "{said}");
    ensure!(registry.tags("tsuru/app-site")? == versions(&["v1"]), "it is in the registry");
    daemon.cli(&["unit", "set", "site", "3"])?.success()?;
    // What a hook made is on all hosts, and only one of them made it.
    shop.answers("site", "six")
}

fn versions(numbers: &[&str]) -> BTreeSet<String> {
    numbers.iter().map(|&number| number.to_owned()).collect()
}

#[test]
fn what_is_built_on_one_host_runs_on_all_and_goes_when_nobody_can_return_to_it() -> Result<()> {
    let shop = Shop::start("pushed", None)?;
    let Shop { three, registry, .. } = &shop;
    let (hosts, daemon) = (&three.hosts.hosts, &three.daemon);
    let built = shop.deploy("one")?;
    let said = built.stderr.clone();
    ensure!(built.success()?.contains(&shop.image(1)), "{said}");
    ensure!(!said.contains(&registry.password), "{said}");
    ensure!(registry.tags("tsuru/app-web")? == versions(&["v1"]), "it is in the registry");
    let having = hosts.iter().filter(|host| shop.on(host).is_ok_and(|on| !on.is_empty()));
    ensure!(having.count() == 1, "only the host that built it has it");

    daemon.cli(&["unit", "set", "web", "3"])?.success()?;
    shop.answers("web", "one")?;
    for (number, text) in [("v2", "two"), ("v3", "three"), ("v4", "four")] {
        shop.deploy(text)?.success()?;
        shop.answers("web", text)?;
        ensure!(registry.tags("tsuru/app-web")?.contains(number), "{number} is pushed");
        for host in hosts {
            ensure!(shop.on(host)?.contains(number), "{} has {number}", host.name);
        }
    }
    three.nothing_else(&["web"])?;

    // What is on no host any more is pulled, with the password, by each host that runs it.
    for host in hosts {
        three.hosts.docker(host, &["rmi", &shop.image(3)])?;
    }
    daemon.cli(&["app", "create", "copy", "static", "--pool", "three"])?.success()?;
    daemon.cli(&["app", "deploy", "copy", "--image", &shop.image(3)])?.success()?;
    daemon.cli(&["unit", "set", "copy", "3"])?.success()?;
    shop.answers("copy", "three")?;
    daemon.cli(&["app", "remove", "copy", "-y"])?.success()?;

    // Of a deploy that fails nothing stays, neither on a host nor in the registry.
    let failed = shop.deploy_with("five", "ENV CRASH=3\n")?;
    ensure!(failed.code == Some(1) && failed.stderr.contains("Sending image"), "{failed:?}");
    let tags = registry.tags("tsuru/app-web")?;
    ensure!(tags.contains("v4") && !tags.contains("v5"), "{tags:?}");
    for host in hosts {
        ensure!(!shop.on(host)?.contains("v5"), "{}: {:?}", host.name, shop.on(host)?);
    }
    shop.answers("web", "four")?;

    // Two can be returned to; the older ones go from every host and from the registry, and the record says so.
    let kept = serde_json::json!([shop.image(3), shop.image(4)]);
    eventually(CLEANED, "old images are removed", || {
        let info = daemon.json(&["app", "info", "web"])?;
        Ok((info["images"] == kept).then_some(()))
    })?;
    // The record has its result when it has ended.
    let expected: BTreeSet<String> = [shop.image(1), shop.image(2)].into();
    eventually(CLEANED, "the record says what was removed", || {
        let mut gone = BTreeSet::new();
        for cleaned in three.operations("image-clean")? {
            ensure!(cleaned["who"] == "image-cleaner", "{cleaned}");
            let images = cleaned["result"]["cleaned"].as_array().into_iter().flatten();
            gone.extend(images.filter_map(|image| image.as_str().map(str::to_owned)));
        }
        Ok((gone == expected).then_some(()))
    })?;
    for host in hosts {
        ensure!(shop.on(host)? == versions(&["v3", "v4"]), "{}: {:?}", host.name, shop.on(host)?);
    }
    let left = registry.tags("tsuru/app-web")?;
    ensure!(!left.contains("v1") && !left.contains("v2"), "{left:?}");
    ensure!(left.contains("v3") && left.contains("v4"), "{left:?}");
    shop.answers("web", "four")?;
    daemon.cli(&["app", "rollback", "web", "v3"])?.success()?;
    shop.answers("web", "three")?;
    let refused = daemon.cli(&["app", "rollback", "web", "v1"])?;
    ensure!(refused.code != Some(0), "nobody can return to what is gone: {refused:?}");
    what_is_committed_runs_on_all(&shop)
}

#[test]
fn a_password_that_is_refused_fails_the_deploy_and_leaves_nothing() -> Result<()> {
    let shop = Shop::start("unpushed", Some("open-sesame"))?;
    let refused = shop.deploy("one")?;
    ensure!(refused.code != Some(0), "{refused:?}");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    ensure!(said.contains("unauthorized") || said.contains("no basic auth"), "{said}");
    ensure!(!said.contains("open-sesame"), "{said}");
    ensure!(shop.registry.catalog()?.is_empty(), "nothing is in the registry");
    for host in &shop.three.hosts.hosts {
        ensure!(shop.on(host)?.is_empty(), "{}: {:?}", host.name, shop.on(host)?);
    }
    shop.three.nothing_else(&["web"])
}
