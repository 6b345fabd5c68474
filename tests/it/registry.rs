//! A registry with TLS and a password, and Docker engines that push to it and pull from it through Gantry's engine.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gantry_engine::docker::{Auth, Docker, Endpoint, Timeouts};
use gantry_engine::{Containers as _, EngineError};
use gantry_tests::artifacts::image;
use gantry_tests::daemon::docker;
use gantry_tests::hosts::Hosts;
use gantry_tests::registry::Registry;

/// An image of this machine's engine that is named for the registry. Dropped, it is removed.
struct Made(String);

impl Made {
    fn of(registry: &Registry, name: &str) -> Result<Self> {
        let made = Self(registry.image(name));
        image(&made.0, name, "")?;
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = docker(&["rmi", "-f", &self.0]);
    }
}

fn engine(endpoint: Endpoint, auth: Auth) -> Result<Docker> {
    Ok(Docker::with(endpoint, auth, Timeouts::default())?)
}

fn known(registry: &Registry) -> Auth {
    Auth::none().with(&registry.address, &registry.user, &registry.password)
}

async fn push(engine: &Docker, image: &str) -> Result<(), EngineError> {
    engine.push_image(image, Box::pin(tokio::io::sink())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_pushed_with_the_password_and_pulled_by_another_host() -> Result<()> {
    let registry = Registry::start()?;
    let _trust = registry.trusted_by_docker()?;
    let made = Made::of(&registry, "team/shop:v1")?;
    let here = Endpoint::from_env;

    for auth in [Auth::none(), Auth::none().with(&registry.address, &registry.user, "wrong")] {
        let refused = push(&engine(here()?, auth)?, &made.0).await.err().context("refused")?;
        let text = refused.to_string();
        ensure!(
            text.contains("no basic auth credentials") || text.contains("unauthorized"),
            "{text}"
        );
        ensure!(!text.contains(&registry.password), "{text}");
    }
    ensure!(registry.catalog()?.is_empty(), "what was refused is not in it");

    push(&engine(here()?, known(&registry))?, &made.0).await?;
    ensure!(registry.catalog()? == ["team/shop".to_owned()].into());
    ensure!(registry.tags("team/shop")? == ["v1".to_owned()].into());

    let hosts = Hosts::start(1)?;
    let host = hosts.hosts.first().context("one host")?;
    let there = || {
        let address = format!("tcp://{}:2376", host.address);
        Endpoint::parse(&address).map(|host| host.with_certificates(hosts.certificates()))
    };
    let refused = engine(there()?, Auth::none())?.pull_image(&made.0).await.err();
    let text = refused.context("a pull needs the password too")?.to_string();
    ensure!(text.contains("no basic auth credentials") || text.contains("unauthorized"), "{text}");
    let other = engine(there()?, known(&registry))?;
    other.pull_image(&made.0).await?;
    let command = ["run", "--rm", "--network=none", "--entrypoint=/bin/cat", &made.0];
    let page = hosts.docker(host, &[&command[..], &["/www/index.html"]].concat())?;
    ensure!(page.trim() == "team/shop:v1", "{page}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_nobody_vouches_for_is_refused() -> Result<()> {
    let registry = Registry::start()?;
    let other = Registry::start()?;
    let made = Made::of(&registry, "team/shop:v1")?;
    let engine = engine(Endpoint::from_env()?, known(&registry))?;
    let refused = async |what: &str| {
        let error = push(&engine, &made.0).await.err().context(what.to_owned())?.to_string();
        ensure!(error.contains("x509: certificate signed by unknown authority"), "{error}");
        anyhow::Ok(())
    };
    refused("nobody vouches").await?;
    {
        let _trust = registry.trusted_by_docker_as(&other.ca())?;
        refused("another one vouches").await?;
    }
    ensure!(registry.catalog()?.is_empty(), "what was refused is not in it");
    let trust = registry.trusted_by_docker()?;
    push(&engine, &made.0).await?;
    drop(trust);
    ensure!(!Path::new("/etc/docker/certs.d").join(&registry.address).exists(), "nothing stays");
    Ok(())
}
