//! Clusters: records with credentials that nobody is shown, given to their provisioners at the start and on every change.
//!
//! A cluster that does not answer keeps nobody from anything: it is given all the same, and whoever needs it is told. One that cannot be used at all (credentials that are none) is not
//! given, and says why where it is shown.

mod settle;
mod several;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gantry_engine::call::cluster::{ClusterInfo, Kind};
use gantry_engine::kubernetes::{Credentials, Endpoint};
use gantry_engine::{Cluster, Clusters, EngineError, GivenCluster, Kubernetes};
use serde_json::json;

use self::several::Several;
use super::pools::{RECORD_TIME, in_the_way, no_pool, way_out};
use super::{OrProblem, Service, not_found};
use crate::api::{self, ClusterChange, NewCluster, Problem, ProblemKind};
use crate::clock;
use crate::near;
use crate::operation::{Caller, Request};
use crate::store::{ClusterPlace, ClusterRecord, LeftBehind, Put, of_pool};

/// The lock of every change of clusters: one takes pools away from others.
const LOCK: &str = "the clusters";

/// How long a cluster has to show that it answers.
const SHORT: Duration = Duration::from_secs(5);

/// Clusters that are given to the daemon in place of those that the records name.
pub type ClusterEngines = BTreeMap<String, Arc<dyn Cluster>>;

/// The engines of the clusters that there are records of.
pub(super) struct Engines {
    clusters: Arc<Clusters>,
    given: ClusterEngines,
    // Std mutexes: held for a look or an insert, never across an await.
    made: Mutex<BTreeMap<String, Made>>,
    unusable: Mutex<BTreeMap<String, Problem>>,
}

#[derive(Clone)]
struct Made {
    provisioner: String,
    place: ClusterPlace,
    engine: Arc<dyn Cluster>,
    address: String,
}

impl Engines {
    pub(super) fn new(clusters: Arc<Clusters>, given: ClusterEngines) -> Self {
        Self { clusters, given, made: Mutex::default(), unusable: Mutex::default() }
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<String, Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unusable(&self) -> MutexGuard<'_, BTreeMap<String, Problem>> {
        self.unusable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine of a cluster: the one that there is, as long as its place is the same.
    async fn engine(&self, record: &ClusterRecord) -> Result<Made, EngineError> {
        let known = self.made().get(&record.name).cloned();
        if let Some(known) = known.filter(|known| known.place == record.place) {
            return Ok(known);
        }
        let (engine, address) = match self.given.get(&record.name) {
            Some(given) => {
                let address = record.place.addresses.first().cloned().unwrap_or_default();
                (Arc::clone(given), address)
            }
            None => connect(&record.place).await?,
        };
        let (provisioner, place) = (record.provisioner.clone(), record.place.clone());
        Ok(Made { provisioner, place, engine, address })
    }

    /// Gives every cluster to its provisioner, and takes those away that there are no records of any more.
    async fn give(&self, records: &[ClusterRecord]) {
        for record in records {
            match self.engine(record).await {
                Ok(made) => {
                    let info = info(record, &made.address);
                    let engine = Arc::clone(&made.engine);
                    self.clusters.give(
                        &record.provisioner,
                        &record.name,
                        GivenCluster { info, engine },
                    );
                    self.made().insert(record.name.clone(), made);
                    self.unusable().remove(&record.name);
                }
                Err(error) => {
                    let title = format!("the cluster `{}` cannot be used", record.name);
                    let problem = Err::<(), _>(error).or_problem(|| title);
                    let Err(problem) = problem else { continue };
                    let problem = problem.hint(format!(
                        "`gantry cluster update {}` changes where it is",
                        record.name
                    ));
                    tracing::warn!(
                        cluster = record.name,
                        detail = problem.detail,
                        "cannot be used"
                    );
                    self.clusters.take(&record.provisioner, &record.name);
                    self.unusable().insert(record.name.clone(), problem);
                }
            }
        }
        let gone: Vec<(String, Made)> = {
            let mut made = self.made();
            let there = |name: &String| records.iter().any(|record| record.name == *name);
            let gone = made.iter().filter(|(name, _)| !there(name));
            let gone = gone.map(|(name, made)| (name.clone(), made.clone())).collect();
            made.retain(|name, _| there(name));
            gone
        };
        for (name, made) in gone {
            self.clusters.take(&made.provisioner, &name);
        }
        self.unusable().retain(|name, _| records.iter().any(|record| record.name == *name));
    }
}

/// Makes the engine of a place. Nothing is sent.
async fn connect(place: &ClusterPlace) -> Result<(Arc<dyn Cluster>, String), EngineError> {
    let ca = (!place.ca_cert.is_empty()).then(|| place.ca_cert.clone());
    let credentials = if !place.token.is_empty() {
        Credentials::Token(place.token.reveal().to_owned())
    } else if !place.client_cert.is_empty() {
        let (certificate, key) = (&place.client_cert, place.client_key.reveal());
        Credentials::Certificate { certificate: certificate.clone(), key: key.to_owned() }
    } else {
        Credentials::None
    };
    let mut addresses = place.addresses.iter();
    let Some(address) = addresses.next() else {
        let engine = Kubernetes::new(&Endpoint::in_cluster()).await?;
        let address = engine.address().to_owned();
        return Ok((Arc::new(engine), address));
    };
    let at = |address: &str| Endpoint::address(address, ca.clone(), credentials.clone());
    let first = Arc::new(Kubernetes::new(&at(address)).await?);
    let mut others: Vec<Arc<dyn Cluster>> = Vec::new();
    for address in addresses {
        others.push(Arc::new(Kubernetes::new(&at(address)).await?));
    }
    let engine: Arc<dyn Cluster> =
        if others.is_empty() { first } else { Arc::new(Several::of(first, others)) };
    Ok((engine, address.clone()))
}

/// What plugins are told of a cluster: nothing secret is in a record's settings.
fn info(record: &ClusterRecord, address: &str) -> ClusterInfo {
    ClusterInfo {
        name: record.name.clone(),
        address: address.to_owned(),
        pools: record.pools.clone(),
        is_default: record.is_default,
        namespace: record.namespace().to_owned(),
        custom_data: record.custom_data.clone(),
    }
}

impl Service {
    /// Gives every cluster to its provisioner.
    pub(crate) async fn give_clusters(&self) -> Result<(), Problem> {
        let records = self.store.clusters().await;
        let records = records.or_problem(|| "could not list the clusters".to_owned())?;
        self.cluster_engines.give(&records).await;
        Ok(())
    }

    /// The clusters, by name.
    pub(crate) async fn clusters(&self) -> Result<Vec<api::Cluster>, Problem> {
        let records = self.store.clusters().await;
        let records = records.or_problem(|| "could not list the clusters".to_owned())?;
        Ok(records.into_iter().map(|record| self.cluster_resource(record)).collect())
    }

    /// A cluster, asked whether it answers.
    pub(crate) async fn cluster(&self, name: &str) -> Result<api::Cluster, Problem> {
        let record = self.cluster_record(name).await?;
        let given = self.clusters.cluster(&record.provisioner, name);
        let mut resource = self.cluster_resource(record);
        if let Ok(given) = given
            && let Err(error) = answers(&given).await
        {
            let title = format!("could not look into the cluster `{name}`");
            resource.problem = Err::<(), _>(error).or_problem(|| title).err();
        }
        Ok(resource)
    }

    /// Adds a cluster.
    pub(crate) async fn add_cluster(
        self: &Arc<Self>,
        mut caller: Caller,
        new: NewCluster,
    ) -> Result<String, Problem> {
        let title = format!("could not add the cluster `{}`", new.name);
        caller.unshown = json!(new);
        let record = settle::settle(new, clock::now()).map_err(|wrong| invalid(&title, wrong))?;
        self.known_provisioner(&record.provisioner, &title).await?;
        self.save_cluster(caller, "cluster-add", title, record, None).await
    }

    /// Changes a cluster.
    pub(crate) async fn update_cluster(
        self: &Arc<Self>,
        mut caller: Caller,
        name: &str,
        change: ClusterChange,
    ) -> Result<String, Problem> {
        let title = format!("could not change the cluster `{name}`");
        caller.unshown = json!(change);
        let record = self.changed_cluster(name, change.clone(), &title).await?;
        self.save_cluster(caller, "cluster-update", title, record, Some(change)).await
    }

    /// The record of a cluster that is changed, of what is there now.
    async fn changed_cluster(
        &self,
        name: &str,
        change: ClusterChange,
        title: &str,
    ) -> Result<ClusterRecord, Problem> {
        let before = self.cluster_record(name).await?;
        settle::changed(&before, change).map_err(|wrong| invalid(title, wrong))
    }

    /// Writes a cluster down: a new one as it is given, one that is changed as it is once its turn has come.
    async fn save_cluster(
        self: &Arc<Self>,
        caller: Caller,
        verb: &'static str,
        title: String,
        record: ClusterRecord,
        change: Option<ClusterChange>,
    ) -> Result<String, Problem> {
        // What cannot be is refused while somebody is there to mend it.
        self.check_cluster(&record, &title).await?;
        let request = Request {
            verb,
            plugin: Some(record.provisioner.clone()),
            detail: match &change {
                None => settle::shown(&record),
                Some(change) => settle::asked(&record.name, change),
            },
            lock: Some(LOCK.to_owned()),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why) = (Arc::clone(self), title.clone());
        let work = move |_| async move {
            let (name, new) = (record.name.clone(), change.is_none());
            let record = match change {
                None => record,
                Some(change) => service.changed_cluster(&name, change, &why).await?,
            };
            service.check_cluster(&record, &why).await?;
            let pools = service.provisioners_of_pools().await?;
            let put = service.store.put_cluster(record, new, pools).await;
            match put.or_problem(|| why.clone())? {
                Put::Done => {}
                Put::Leaves(left) => return Err(leaves(why, &left)),
                Put::Refused if new => {
                    return Err(Problem::new(ProblemKind::Conflict, why)
                        .because("there is one of this name")
                        .hint(format!("`gantry cluster update {name}` changes it")));
                }
                Put::Refused => return Err(not_found("cluster", &name, None)),
            }
            service.give_clusters().await?;
            Ok(json!({"cluster": name}))
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// Refuses a cluster with pools of somebody else, or that cannot be used at all.
    async fn check_cluster(&self, record: &ClusterRecord, title: &str) -> Result<(), Problem> {
        let pools = self.provisioners_of_pools().await?;
        for pool in &record.pools {
            let provisioner = pools.get(pool).ok_or_else(|| no_pool(pool, &pools))?;
            if *provisioner != record.provisioner {
                return Err(Problem::new(ProblemKind::Conflict, title)
                    .because(format!("the pool `{pool}` is of the provisioner `{provisioner}`"))
                    .hint("`gantry pool list` lists the pools with their provisioners"));
            }
        }
        let usable = self.cluster_engines.engine(record).await.or_problem(|| title.to_owned());
        usable.map(|_| ()).map_err(|problem| {
            problem.hint_if_none("name a place that can be: `--kubeconfig FILE`, or `--address URL --ca-cert FILE --token-file FILE`")
        })
    }

    /// Removes a cluster that none of ours is in. What else is in it stays there.
    pub(crate) async fn remove_cluster(
        self: &Arc<Self>,
        caller: Caller,
        name: &str,
    ) -> Result<String, Problem> {
        let title = format!("could not remove the cluster `{name}`");
        let record = self.cluster_record(name).await?;
        let request = Request {
            verb: "cluster-remove",
            plugin: Some(record.provisioner),
            detail: json!({"cluster": name}),
            lock: Some(LOCK.to_owned()),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why, name) = (Arc::clone(self), title.clone(), name.to_owned());
        let work = move |_| async move {
            let pools = service.provisioners_of_pools().await?;
            let left = service.store.remove_cluster(&name, pools).await;
            let left = left.or_problem(|| why.clone())?;
            if !left.is_empty() {
                return Err(leaves(why, &left));
            }
            service.give_clusters().await?;
            Ok(json!({"cluster": name}))
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// The name of the cluster of a provisioner that runs the apps of a pool.
    pub(super) async fn cluster_of_pool(
        &self,
        provisioner: &str,
        pool: &str,
    ) -> Result<Option<String>, Problem> {
        let records = self.store.clusters().await;
        let records = records.or_problem(|| "could not list the clusters".to_owned())?;
        Ok(of_pool(&records, provisioner, pool).map(|record| record.name.clone()))
    }

    async fn cluster_record(&self, name: &str) -> Result<ClusterRecord, Problem> {
        let records = self.store.clusters().await;
        let records = records.or_problem(|| format!("could not read the cluster `{name}`"))?;
        let nearest = near::nearest(name, records.iter().map(|record| &record.name));
        records.into_iter().find(|record| record.name == name).ok_or_else(|| {
            not_found("cluster", name, nearest)
                .hint_if_none("`gantry cluster list` lists the clusters")
        })
    }

    fn cluster_resource(&self, record: ClusterRecord) -> api::Cluster {
        api::Cluster {
            namespace: record.namespace().to_owned(),
            credentials: settle::credentials(&record.place).to_owned(),
            own_ca: !record.place.ca_cert.is_empty(),
            problem: self.cluster_engines.unusable().get(&record.name).cloned(),
            name: record.name,
            provisioner: record.provisioner,
            addresses: record.place.addresses,
            pools: record.pools,
            default: record.is_default,
            custom_data: record.custom_data,
            created: clock::text(record.created),
        }
    }
}

async fn answers(given: &GivenCluster) -> Result<(), EngineError> {
    let kind = Kind::new("v1", "Namespace");
    let asked = given.engine.get(&kind, "", &given.info.namespace);
    match tokio::time::timeout(SHORT, asked).await {
        // It may have to be made yet, and that the cluster says so is an answer.
        Ok(Ok(_) | Err(EngineError::NotFound(_))) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(EngineError::TimedOut(format!("no answer within {} s", SHORT.as_secs()))),
    }
}

/// A change that would leave what is in clusters where nobody looks for it any more: who removed it then would remove its record, and it would run on.
fn leaves(title: String, left: &[LeftBehind]) -> Problem {
    let places = left.iter().map(|LeftBehind { cluster, namespace, left }| {
        format!("left in the cluster `{cluster}` (namespace `{namespace}`): {}", in_the_way(left))
    });
    let problem =
        Problem::new(ProblemKind::Conflict, title).because(places.collect::<Vec<_>>().join("; "));
    match left.first() {
        Some(first) => problem.hint(way_out(&first.left)),
        None => problem,
    }
}

fn invalid(title: &str, wrong: settle::Wrong) -> Problem {
    Problem::new(ProblemKind::Invalid, title).because(wrong.why).hint(wrong.hint)
}
