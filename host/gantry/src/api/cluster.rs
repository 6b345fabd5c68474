//! Clusters: where each answers, for which pools, and nothing of who we are there.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Problem;

/// A text that is sent and never shown: not in answers, not in logs, not by `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A text that is not to be shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret()" } else { "Secret(…)" })
    }
}

/// A cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// The provisioner that it was given to.
    pub provisioner: String,
    /// Where its API server answers; none for the cluster that the daemon runs in.
    pub addresses: Vec<String>,
    /// The pools whose apps it runs.
    pub pools: Vec<String>,
    /// Whether it runs the apps of every pool of its provisioner that no cluster names.
    pub default: bool,
    /// The namespace for apps.
    pub namespace: String,
    /// The other settings, without the secret ones.
    pub custom_data: BTreeMap<String, String>,
    /// Whether it has a certificate authority of its own.
    pub own_ca: bool,
    /// Who we are there: `token`, `certificate`, `service account` or `nobody`.
    pub credentials: String,
    /// When it was added.
    pub created: String,
    /// Why it cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// A cluster to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewCluster {
    /// Its name.
    pub name: String,
    /// The provisioner that it is given to.
    pub provisioner: String,
    /// Where its API server answers.
    pub addresses: Vec<String>,
    /// Whether it is the cluster that the daemon runs in, in place of an address.
    pub in_cluster: bool,
    /// Its certificate authority, as PEM; the system's when empty.
    pub ca_cert: String,
    /// The certificate that we show, as PEM.
    pub client_cert: String,
    /// The key of that certificate, as PEM.
    pub client_key: Secret,
    /// The token that we show in place of a certificate.
    pub token: Secret,
    /// The pools whose apps it runs.
    pub pools: Vec<String>,
    /// Whether it runs the apps of every other pool of its provisioner, in place of a list.
    pub default: bool,
    /// Settings: `namespace`, `overcommit-factor`, `POOL:overcommit-factor`, `token`.
    pub custom_data: BTreeMap<String, Secret>,
}

/// A change of a cluster: what is not said stays as it is.
///
/// Where a cluster answers and who we are there belong together: a new address or authority takes the credentials that come with it and forgets the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterChange {
    /// Where its API server answers.
    pub addresses: Option<Vec<String>>,
    /// Whether it is the cluster that the daemon runs in.
    pub in_cluster: bool,
    /// Its certificate authority, as PEM.
    pub ca_cert: Option<String>,
    /// The certificate that we show, as PEM.
    pub client_cert: Option<String>,
    /// The key of that certificate, as PEM.
    pub client_key: Option<Secret>,
    /// The token that we show in place of a certificate.
    pub token: Option<Secret>,
    /// The pools whose apps it runs.
    pub pools: Option<Vec<String>>,
    /// Whether it runs the apps of every other pool.
    pub default: bool,
    /// Settings to set; an empty value takes one away.
    pub custom_data: BTreeMap<String, Secret>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_shows_a_secret() {
        let secret = || Secret::new("s3cr3t");
        let new = NewCluster {
            client_key: secret(),
            token: secret(),
            custom_data: [("token".to_owned(), secret())].into(),
            ..NewCluster::default()
        };
        let change = ClusterChange {
            client_key: Some(secret()),
            token: Some(secret()),
            ..Default::default()
        };
        let shown = format!("{new:?}{change:?}");
        assert!(!shown.contains("s3cr3t") && shown.contains("Secret(…)"), "{shown}");
        assert_eq!(format!("{:?}", Secret::default()), "Secret()");
    }
}
