//! Pools: those of the configuration, which are there at every start, and those that people make.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_core::name::PoolName;
use serde_json::json;

use super::{OrProblem, Service, not_found};
use crate::api::{self, NewPool, Problem, ProblemKind};
use crate::clock;
use crate::near;
use crate::operation::{Caller, Request};
use crate::store::{InPool, PoolRecord};

/// How long a change of a record may take.
pub(super) const RECORD_TIME: Duration = Duration::from_secs(60);

impl Service {
    /// The provisioner of each pool. The configuration's word counts.
    pub(super) async fn provisioners_of_pools(&self) -> Result<BTreeMap<String, String>, Problem> {
        let records = self.store.pools().await;
        let records = records.or_problem(|| "could not list the pools".to_owned())?;
        let made = records.into_iter().map(|record| (record.name, record.provisioner));
        Ok(made.chain(self.config.pools.clone()).collect())
    }

    /// A pool with its provisioner, the default one when the name is empty.
    pub(super) async fn pool_or_default(&self, name: String) -> Result<(String, String), Problem> {
        let name = if name.is_empty() { self.config.default_pool.clone() } else { name };
        let pools = self.provisioners_of_pools().await?;
        match pools.get(&name) {
            Some(provisioner) => Ok((name, provisioner.clone())),
            None => Err(no_pool(&name, &pools)),
        }
    }

    /// The pools, by name.
    pub(crate) async fn pools(&self) -> Result<Vec<api::Pool>, Problem> {
        let apps = self.store.apps().await.or_problem(|| "could not list the apps".to_owned())?;
        let pools = self.provisioners_of_pools().await?;
        let resource = |(name, provisioner): (String, String)| api::Pool {
            provisioner,
            default: name == self.config.default_pool,
            configured: self.config.pools.contains_key(&name),
            apps: apps.iter().filter(|record| record.app.pool == name).count(),
            name,
        };
        Ok(pools.into_iter().map(resource).collect())
    }

    /// Creates a pool.
    pub(crate) async fn create_pool(
        self: &Arc<Self>,
        caller: Caller,
        new: NewPool,
    ) -> Result<String, Problem> {
        let NewPool { name, provisioner } = new;
        let title = format!("could not create the pool `{name}`");
        name.parse::<PoolName>().map_err(|error| {
            Problem::new(ProblemKind::Invalid, &title)
                .because(error.to_string())
                .hint("choose another name: `gantry pool create NAME --provisioner PROVISIONER`")
        })?;
        let taken = {
            let title = title.clone();
            move || {
                Problem::new(ProblemKind::Conflict, title)
                    .because("there is one of this name")
                    .hint("`gantry pool list` lists them")
            }
        };
        if self.config.pools.contains_key(&name) {
            return Err(taken());
        }
        self.known_provisioner(&provisioner, &title).await?;
        let request = Request {
            verb: "pool-create",
            plugin: Some(provisioner.clone()),
            detail: json!({"pool": name, "provisioner": provisioner}),
            lock: pool_lock(&name),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why) = (Arc::clone(self), title.clone());
        let work = move |_| async move {
            let record = PoolRecord { name: name.clone(), provisioner, created: clock::now() };
            match service.store.insert_pool(record).await.or_problem(|| why)? {
                true => Ok(json!({"pool": name})),
                false => Err(taken()),
            }
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// Removes a pool that nothing is in.
    pub(crate) async fn remove_pool(
        self: &Arc<Self>,
        caller: Caller,
        name: &str,
    ) -> Result<String, Problem> {
        let title = format!("could not remove the pool `{name}`");
        let pools = self.provisioners_of_pools().await?;
        let Some(provisioner) = pools.get(name).cloned() else {
            return Err(no_pool(name, &pools));
        };
        if self.config.pools.contains_key(name) {
            return Err(Problem::new(ProblemKind::Conflict, title)
                .because("the configuration has it")
                .hint(format!("take `pools.{name}` out of it and start the daemon again")));
        }
        let request = Request {
            verb: "pool-remove",
            plugin: Some(provisioner),
            detail: json!({"pool": name}),
            lock: pool_lock(name),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why, name) = (Arc::clone(self), title.clone(), name.to_owned());
        let work = move |_| async move {
            let left = service.store.remove_pool(&name).await.or_problem(|| why.clone())?;
            if left.is_empty() {
                return Ok(json!({"pool": name}));
            }
            Err(Problem::new(ProblemKind::Conflict, why)
                .because(format!("in it: {}", in_the_way(&left)))
                .hint(way_out(&left)))
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// Checks that a plugin is installed under a name.
    pub(super) async fn known_provisioner(&self, name: &str, title: &str) -> Result<(), Problem> {
        if name.is_empty() {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because("provisioner name is mandatory")
                .hint("name it: `--provisioner PROVISIONER`; `gantry plugin list` lists them"));
        }
        let installed = self.store.plugins().await.or_problem(|| title.to_owned())?;
        if installed.iter().any(|record| record.name == name) {
            return Ok(());
        }
        let nearest = near::nearest(name, installed.iter().map(|record| &record.name));
        Err(not_found("provisioner", name, nearest)
            .hint_if_none(&format!("install one: `gantry plugin install {name} FILE`")))
    }
}

/// The lock of a pool.
fn pool_lock(name: &str) -> Option<String> {
    Some(format!("the pool {name}"))
}

pub(super) fn no_pool(name: &str, pools: &BTreeMap<String, String>) -> Problem {
    let names: Vec<_> = pools.keys().map(String::as_str).collect();
    not_found("pool", name, near::nearest(name, &names))
        .hint_if_none(&format!("there is `{}`", names.join("`, `")))
}

/// How many names of each kind are told.
const TOLD: usize = 5;

/// What is in a pool, for people.
pub(super) fn in_the_way(left: &InPool) -> String {
    let some = |one: &str, many: &str, names: &[String]| {
        let word = if names.len() == 1 { one } else { many };
        let told: Vec<&str> = names.iter().take(TOLD).map(String::as_str).collect();
        let more = match names.len().saturating_sub(TOLD) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!names.is_empty()).then(|| format!("the {word} `{}`{more}", told.join("`, `")))
    };
    let parts = [
        some("app", "apps", &left.apps),
        some("volume", "volumes", &left.volumes),
        some("cluster", "clusters", &left.clusters),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

pub(super) fn way_out(left: &InPool) -> String {
    match (left.apps.first(), left.volumes.first(), left.clusters.first()) {
        (Some(app), ..) => format!(
            "move it first, or remove it: `gantry app update {app} --pool POOL`, `gantry app remove {app}`"
        ),
        (None, Some(volume), _) => format!("remove it first: `gantry volume remove {volume}`"),
        (None, None, Some(cluster)) => {
            format!("give it other pools first: `gantry cluster update {cluster} --pool POOL`")
        }
        (None, None, None) => "`gantry pool list` lists the pools".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_pool_is_told_by_name_with_a_way_out() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let table = [
            (names(&["web"]), names(&[]), names(&[]), "the app `web`", "app update web"),
            (
                names(&["api", "web"]),
                names(&["data"]),
                names(&["north"]),
                "the apps `api`, `web`; the volume `data`; the cluster `north`",
                "app update api",
            ),
            (
                names(&["a", "b", "c", "d", "e", "f", "g"]),
                names(&[]),
                names(&[]),
                "the apps `a`, `b`, `c`, `d`, `e` and 2 more",
                "app remove a",
            ),
            (names(&[]), names(&["a", "b"]), names(&[]), "the volumes `a`, `b`", "volume remove a"),
            (names(&[]), names(&[]), names(&["n"]), "the cluster `n`", "cluster update n"),
        ];
        for (apps, volumes, clusters, told, hint) in table {
            let left = InPool { apps, volumes, clusters };
            assert_eq!(in_the_way(&left), told);
            assert!(way_out(&left).contains(hint), "{}", way_out(&left));
        }
    }
}
