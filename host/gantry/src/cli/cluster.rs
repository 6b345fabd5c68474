//! `gantry cluster`: the clusters that provisioners are given.
//!
//! Files are read here and their contents are sent: the daemon needs no file of anybody's home, and a kubeconfig is resolved to an address and credentials before anything is sent.

mod kubeconfig;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hyper::Method;

use super::change::{ChangeArgs, finish};
use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use super::{Sure, named, pairs, show, text_of};
use crate::api::{Cluster, ClusterChange, Items, NewCluster, Secret};
use crate::client::{Client, escape};
use kubeconfig::Resolved;

/// Add, look at, change and remove clusters
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    Add(Box<Add>),
    List(List),
    Info(Info),
    Update(Box<Update>),
    Remove(Remove),
}

/// Where a cluster is and who we are there.
#[derive(Debug, Default, Args)]
struct Place {
    /// A kubeconfig; address, authority and credentials are taken from it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["addresses", "in_cluster", "ca_cert", "client_cert", "client_key", "token_file"])]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; its current one when not given
    #[arg(long, value_name = "CONTEXT", requires = "kubeconfig")]
    context: Option<String>,
    /// Where its API server answers; as often as it has addresses
    #[arg(long = "address", value_name = "URL", conflicts_with = "in_cluster")]
    addresses: Vec<String>,
    /// It is the cluster that the daemon runs in, as its service account
    #[arg(long)]
    in_cluster: bool,
    /// Its certificate authority (PEM); those of the system when not given
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// The certificate to show (PEM)
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// A file with the token to show in place of a certificate
    #[arg(long, value_name = "FILE", conflicts_with = "client_cert")]
    token_file: Option<PathBuf>,
}

/// What a cluster is for.
#[derive(Debug, Default, Args)]
struct Settings {
    /// A pool whose apps it runs; as often as needed
    #[arg(long = "pool", value_name = "POOL", conflicts_with = "default")]
    pools: Vec<String>,
    /// It runs the apps of every pool of its provisioner that no cluster names
    #[arg(long)]
    default: bool,
    /// The namespace for apps, which has to be in the cluster [default: default]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// A setting: `overcommit-factor`, `POOL:overcommit-factor`
    #[arg(long = "custom-data", value_name = "KEY=VALUE")]
    custom_data: Vec<String>,
}

/// Add a cluster and give it to a provisioner
///
/// A kubeconfig is read by this command; the daemon gets the address, the authority and
/// the credentials of one context, keeps them, and shows the credentials to nobody. The
/// pools named are taken away from the provisioner's other clusters.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry cluster add north --kubeconfig ~/.kube/config --provisioner kubernetes --default
  gantry cluster add south --address https://10.0.0.1:6443 --ca-cert ca.pem --token-file token --provisioner kubernetes --pool prod
  gantry cluster add here --in-cluster --provisioner kubernetes --pool dev --namespace apps")]
pub(crate) struct Add {
    /// Its name: lower case letters, digits and dashes, starting with a letter
    name: String,
    #[command(flatten)]
    place: Place,
    /// The provisioner that it is given to
    #[arg(long)]
    provisioner: String,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    change: ChangeArgs,
}

/// List the clusters
#[derive(Debug, Args)]
pub(crate) struct List {}

/// Show a cluster, and whether it answers
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// The cluster
    #[arg(value_parser = named)]
    name: String,
}

/// Change a cluster; what is not said stays as it is
///
/// A new address or authority forgets the credentials that were given for the old one:
/// name them again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry cluster update north --pool prod --pool dev
  gantry cluster update north --token-file new-token
  gantry cluster update north --custom-data overcommit-factor=2")]
pub(crate) struct Update {
    /// The cluster
    #[arg(value_parser = named)]
    name: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Remove a cluster from its provisioner; what runs in it stays
///
/// Asks before it does so on a terminal; elsewhere it needs `--assume-yes`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  gantry cluster remove north")]
pub(crate) struct Remove {
    /// The cluster
    #[arg(value_parser = named)]
    name: String,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    change: ChangeArgs,
}

impl ClusterCommand {
    pub(crate) async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        match self {
            Self::Add(args) => args.run(ui, client).await,
            Self::List(List {}) => list(ui, client).await,
            Self::Info(args) => args.run(ui, client).await,
            Self::Update(args) => args.run(ui, client).await,
            Self::Remove(args) => args.run(ui, client).await,
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/clusters/{}", escape(name))
}

impl Place {
    /// What it comes to, with the files read.
    fn resolve(self) -> Result<Resolved, Failure> {
        if let Some(file) = self.kubeconfig {
            let text = text_of(&file)?;
            let folder = file.parent().unwrap_or_else(|| Path::new(""));
            let wanted = self.context.as_deref().unwrap_or_default();
            let resolved = kubeconfig::resolve(&text, wanted, |path| {
                std::fs::read_to_string(folder.join(path))
            });
            return resolved.map_err(|wrong| {
                let what = format!("the kubeconfig `{}` cannot be used", file.display());
                let mut failure = Failure::new(Exit::Usage, what);
                failure.causes.push(wrong.why);
                failure.hint = Some(wrong.hint);
                failure
            });
        }
        let contents = |file: Option<PathBuf>| file.as_deref().map(text_of).transpose();
        Ok(Resolved {
            addresses: self.addresses,
            ca_cert: contents(self.ca_cert)?,
            client_cert: contents(self.client_cert)?,
            client_key: contents(self.client_key)?.map(Secret::new),
            token: contents(self.token_file)?.map(|token| Secret::new(token.trim())),
            namespace: None,
        })
    }
}

impl Settings {
    /// The settings, with the namespace of a context where nobody names one.
    fn custom_data(&self, of_context: Option<String>) -> Result<BTreeMap<String, Secret>, Failure> {
        let mut data: BTreeMap<String, Secret> = pairs("custom-data", &self.custom_data)?
            .into_iter()
            .map(|(key, value)| (key, Secret::new(value)))
            .collect();
        if let Some(namespace) = self.namespace.clone() {
            data.insert("namespace".to_owned(), Secret::new(namespace));
        } else if let Some(namespace) = of_context {
            data.entry("namespace".to_owned()).or_insert_with(|| Secret::new(namespace));
        }
        Ok(data)
    }
}

impl Add {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let in_cluster = self.place.in_cluster;
        let place = self.place.resolve()?;
        let new = NewCluster {
            name: self.name.clone(),
            provisioner: self.provisioner,
            addresses: place.addresses,
            in_cluster,
            ca_cert: place.ca_cert.unwrap_or_default(),
            client_cert: place.client_cert.unwrap_or_default(),
            client_key: place.client_key.unwrap_or_default(),
            token: place.token.unwrap_or_default(),
            custom_data: self.settings.custom_data(place.namespace)?,
            pools: self.settings.pools,
            default: self.settings.default,
        };
        let change = self.change.change();
        let accepted = client.change(Method::POST, "/v1/clusters", &new, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("added the cluster `{}`", self.name)));
            ui.hint(&format!("`gantry cluster info {}` tells whether it answers", self.name));
        }
        Ok(Exit::Done)
    }
}

async fn list(ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
    let clusters: Items<Cluster> = client.get("/v1/clusters").await?;
    ui.data(&clusters.items, |page| page.table(&show::clusters(&clusters.items)));
    for problem in clusters.items.iter().filter_map(|cluster| cluster.problem.as_ref()) {
        ui.warning(&format!("{}: {}", problem.title, problem.detail));
    }
    if clusters.items.is_empty() {
        ui.hint("add one: `gantry cluster add NAME --kubeconfig FILE --provisioner PROVISIONER --default`");
    }
    Ok(Exit::Done)
}

impl Info {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let cluster: Cluster = client.get(&path(&self.name)).await?;
        ui.data(&cluster, |page| show::cluster(page, &cluster));
        if let Some(problem) = &cluster.problem {
            ui.warning(&format!("{}: {}", problem.title, problem.detail));
        }
        Ok(Exit::Done)
    }
}

impl Update {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let in_cluster = self.place.in_cluster;
        let place = self.place.resolve()?;
        let custom_data = self.settings.custom_data(place.namespace)?;
        let Settings { pools, default, .. } = self.settings;
        let body = ClusterChange {
            addresses: (!place.addresses.is_empty()).then_some(place.addresses),
            in_cluster,
            ca_cert: place.ca_cert,
            client_cert: place.client_cert,
            client_key: place.client_key,
            token: place.token,
            pools: (!pools.is_empty()).then_some(pools),
            default,
            custom_data,
        };
        if body == ClusterChange::default() {
            return Err(Failure::new(Exit::Usage, "nothing to change")
                .hint(format!("`gantry cluster update {} --pool POOL`", self.name)));
        }
        let change = self.change.change();
        let accepted = client.change(Method::PATCH, &path(&self.name), &body, &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("changed the cluster `{}`", self.name)));
        }
        Ok(Exit::Done)
    }
}

impl Remove {
    async fn run(self, ui: &mut Ui, client: &Client) -> Result<Exit, Failure> {
        let name = &self.name;
        let what = format!("the cluster `{name}`");
        let question = format!("Remove {what}? Nobody looks after what runs in it then.");
        self.sure.ask(ui, &what, &question)?;
        let change = self.change.change();
        let accepted = client.change(Method::DELETE, &path(name), &(), &change).await?;
        if let Some(operation) = finish(ui, client, &self.change, accepted).await? {
            ui.data(&operation, |page| page.line(format!("removed the cluster `{name}`")));
        }
        Ok(Exit::Done)
    }
}
