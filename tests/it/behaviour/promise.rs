//! A promise, and what is expected of each backend.

use std::fmt;

use anyhow::{Result, anyhow, bail, ensure};
use futures_util::future::BoxFuture;
use gantry_runtime::{CallError, Cause, Interface, Provisioner};
use serde_json::{Value, json};

use super::stage::Stage;

/// What finds out whether something is so.
pub(super) type Check = fn(Stage) -> BoxFuture<'static, Result<()>>;

/// The two plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    Docker,
    Kubernetes,
}

impl Plugin {
    pub(super) const BOTH: [Self; 2] = [Self::Docker, Self::Kubernetes];

    pub(super) async fn stage(self, promise: &Promise) -> Result<Stage> {
        let config = (promise.config)();
        match self {
            Self::Docker => super::docker::stage(config).await,
            Self::Kubernetes => super::kubernetes::stage(config).await,
        }
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
        })
    }
}

/// What is expected of a backend.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// It keeps the promise.
    Kept,
    /// The plugin has no such interface: what the promise asks is answered with that it does not support it. Why that is so.
    Lacks(Interface, &'static str),
    /// The promise breaks, with these words, and something else is so instead. Why that is so.
    Differs { breaks: &'static str, instead: Check, why: &'static str },
}

impl Expected {
    /// In one word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Lacks(..) => "not exported",
            Self::Differs { .. } => "differs",
        }
    }

    /// Why it is not kept.
    pub(super) fn why(self) -> Option<String> {
        match self {
            Self::Kept => None,
            Self::Lacks(interface, why) => Some(format!("no `{interface}`: {why}")),
            Self::Differs { why, .. } => Some(why.to_owned()),
        }
    }
}

/// A promise of the contract.
pub(super) struct Promise {
    pub(super) says: &'static str,
    kept: Check,
    config: fn() -> Value,
    docker: Expected,
    kubernetes: Expected,
}

impl Promise {
    /// One that both keep.
    pub(super) const fn new(says: &'static str, kept: Check) -> Self {
        let (docker, kubernetes) = (Expected::Kept, Expected::Kept);
        Self { says, kept, config: || json!({}), docker, kubernetes }
    }

    /// The same under this configuration.
    pub(super) const fn under(self, config: fn() -> Value) -> Self {
        Self { config, ..self }
    }

    pub(super) const fn on_docker(self, docker: Expected) -> Self {
        Self { docker, ..self }
    }

    pub(super) const fn on_kubernetes(self, kubernetes: Expected) -> Self {
        Self { kubernetes, ..self }
    }

    pub(super) fn expected(&self, plugin: Plugin) -> Expected {
        match plugin {
            Plugin::Docker => self.docker,
            Plugin::Kubernetes => self.kubernetes,
        }
    }

    /// Finds out whether a plugin does what is expected of it.
    pub(super) async fn examine(&self, plugin: Plugin) -> Result<()> {
        let stage = plugin.stage(self).await?;
        let provisioner = stage.provisioner.clone();
        let held = (self.kept)(stage).await;
        let expected = self.expected(plugin);
        judge(expected, held, &provisioner)?;
        if let Expected::Differs { instead, .. } = expected {
            let stage = plugin.stage(self).await?;
            instead(stage).await.map_err(|error| error.context("what should be so instead"))?;
        }
        Ok(())
    }
}

/// Whether what came of a promise is what was expected.
fn judge(expected: Expected, held: Result<()>, provisioner: &Provisioner) -> Result<()> {
    let error = match (expected, held) {
        (Expected::Kept, held) => return held,
        (_, Ok(())) => bail!("it is kept, and should be: {}", expected.word()),
        (_, Err(error)) => error,
    };
    match expected {
        Expected::Kept => Ok(()),
        Expected::Lacks(interface, _) => {
            ensure!(!provisioner.supports(interface), "it exports `{interface}`");
            let cause = error.downcast_ref::<CallError>().map(|error| &error.cause);
            let is_unsupported = matches!(cause, Some(Cause::NotSupported { .. }));
            ensure!(is_unsupported, "it breaks for another reason: {error:#}");
            Ok(())
        }
        Expected::Differs { breaks, .. } => {
            let told = format!("{error:#}");
            ensure!(told.contains(breaks), "it breaks for another reason: {told}");
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_as_written_down_is_told() -> Result<()> {
    fn nothing(_: Stage) -> BoxFuture<'static, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
    let provisioner = super::docker::stage(json!({})).await?.provisioner;
    let unsupported = || {
        let (provisioner, action) = ("docker".to_owned(), "volumes".to_owned());
        anyhow::Error::new(CallError::from(Cause::NotSupported { provisioner, action }))
    };
    let (kept, why) = (Expected::Kept, "so");
    let differs = Expected::Differs { breaks: "two", instead: nothing, why };
    let lacks = Expected::Lacks(Interface::Volumes, why);
    let has = Expected::Lacks(Interface::Exec, why);
    let cases = [
        (kept, Ok(()), ""),
        (kept, Err(anyhow!("one")), "one"),
        (differs, Err(anyhow!("one or two")), ""),
        (differs, Err(anyhow!("three")), "it breaks for another reason: three"),
        (differs, Ok(()), "it is kept, and should be: differs"),
        (lacks, Err(unsupported()), ""),
        (lacks, Err(anyhow!("three")), "it breaks for another reason: three"),
        (lacks, Ok(()), "it is kept, and should be: not exported"),
        (has, Err(unsupported()), "it exports `exec`"),
    ];
    for (expected, held, told) in cases {
        let judged = judge(expected, held, &provisioner);
        assert_eq!(judged.err().map(|error| error.to_string()).unwrap_or_default(), told);
    }
    Ok(())
}
