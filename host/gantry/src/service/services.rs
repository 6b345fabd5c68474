//! Services that apps are bound to: databases and the like, which are told of apps and their units and answer with variables.
//!
//! ```text
//! bind      written down ─► app bound there ─► variables written down ─► units told ─► units replaced by new ones that have the variables
//!                └──────────────────────────── failed: all of it is taken back ────────────┘
//!
//! unbind    units and app unbound there ─► forgotten with the variables ─► units replaced
//!                └─ failed: bound as before; forced: forgotten all the same
//! ```
//!
//! What a service tells an app is kept apart from what people set, and wins over it; when it goes, theirs is there again. A daemon that dies in the middle of a bind leaves one that is
//! half-made: it gives nothing to the app, the same request again goes on with it, and unbind takes it back.

mod answer;
mod binding;
mod bindings;
mod endpoint;

use std::sync::Arc;

use futures_util::future::join_all;
use gantry_engine::{Apps, Operation};
use serde_json::{Value, json};

use super::pools::RECORD_TIME;
use super::{OrProblem, Service, not_found};
use crate::api::{
    self, NewService, Problem, ProblemKind, ServiceBind, ServiceBindChange, ServiceChange,
};
use crate::clock;
use crate::near;
use crate::operation::{Caller, Request};
use crate::store::{self, ServiceRecord};

use binding::Binding;
pub(crate) use bindings::{BindError, Bindings};
pub(crate) use endpoint::BoundApp;

/// How many seconds a service has to answer unless somebody says otherwise.
const TIMEOUT: u32 = 60;

/// The most that it may have: a plugin that hears nothing for longer is taken for one that hangs.
const LONGEST_TIMEOUT: u32 = 120;

impl Service {
    /// The services, by name.
    pub(crate) async fn services(&self) -> Result<Vec<api::Service>, Problem> {
        let records = self.store.services_and_binds().await;
        let records = records.or_problem(|| "could not list the services".to_owned())?;
        Ok(records.into_iter().map(|(record, binds)| resource(record, binds)).collect())
    }

    /// A service.
    pub(crate) async fn service_info(&self, name: &str) -> Result<api::Service, Problem> {
        let record = self.service_record(name).await?;
        let binds = self.store.binds_of_service(name).await;
        let binds = binds.or_problem(|| format!("could not read the service `{name}`"))?;
        Ok(resource(record, binds))
    }

    async fn service_record(&self, name: &str) -> Result<ServiceRecord, Problem> {
        let records = self.store.services().await;
        let records = records.or_problem(|| format!("could not read the service `{name}`"))?;
        let nearest = near::nearest(name, records.iter().map(|record| &record.name));
        records.into_iter().find(|record| record.name == name).ok_or_else(|| {
            not_found("service", name, nearest)
                .hint_if_none("`gantry service list` lists the services")
        })
    }

    /// Adds a service. Nothing is asked of it before an app is bound.
    pub(crate) async fn add_service(
        self: &Arc<Self>,
        mut caller: Caller,
        new: NewService,
    ) -> Result<String, Problem> {
        let NewService { name, url, username, password, timeout } = new;
        let title = format!("could not add the service `{name}`");
        let invalid = |why: String| Problem::new(ProblemKind::Invalid, &title).because(why);
        if !is_name(&name) {
            return Err(invalid(format!(
                "`{name}` is no name of a service: at most 63 letters, digits, dashes and underscores, starting with a letter"
            ))
            .hint("choose another name: `gantry service add NAME URL`"));
        }
        let username = if username.is_empty() { name.clone() } else { username };
        let record = ServiceRecord {
            name: name.clone(),
            url: checked_url(&url).map_err(|wrong| wrong.problem(&title))?,
            username: checked_username(username).map_err(|wrong| wrong.problem(&title))?,
            password,
            timeout: checked_timeout(timeout.unwrap_or(TIMEOUT))
                .map_err(|wrong| wrong.problem(&title))?,
            created: clock::now(),
        };
        caller.unshown = json!({"password": record.password});
        let request = Request {
            verb: "service-add",
            detail: shown(&record),
            lock: service_lock(&name),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why) = (Arc::clone(self), title.clone());
        let work = move |_| async move {
            match service.store.insert_service(record).await.or_problem(|| why.clone())? {
                true => Ok(json!({"service": name})),
                false => Err(Problem::new(ProblemKind::Conflict, why)
                    .because("there is one of this name")
                    .hint(format!("`gantry service info {name}` shows it"))),
            }
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// Changes where a service answers and who we are there. A password stays with the place that it was given for.
    pub(crate) async fn update_service(
        self: &Arc<Self>,
        mut caller: Caller,
        name: &str,
        change: ServiceChange,
    ) -> Result<String, Problem> {
        let title = format!("could not change the service `{name}`");
        if change == ServiceChange::default() {
            return Err(Problem::new(ProblemKind::Invalid, title)
                .because("nothing to change")
                .hint(format!("`gantry service update {name} --url URL`")));
        }
        caller.unshown = json!({"password": change.password});
        // Before it waits for its turn: what is wrong with the request is told at once.
        let record = changed(self.service_record(name).await?, change.clone(), &title)?;
        let request = Request {
            verb: "service-update",
            detail: shown(&record),
            lock: service_lock(name),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why, name) = (Arc::clone(self), title.clone(), name.to_owned());
        let work = move |_| async move {
            let record = changed(service.service_record(&name).await?, change, &why)?;
            if !service.store.change_service(record).await.or_problem(|| why)? {
                service.service_record(&name).await?;
            }
            Ok(json!({"service": name}))
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// Removes a service that no app is bound to.
    pub(crate) async fn remove_service(
        self: &Arc<Self>,
        caller: Caller,
        name: &str,
    ) -> Result<String, Problem> {
        let title = format!("could not remove the service `{name}`");
        self.service_record(name).await?;
        let request = Request {
            verb: "service-remove",
            detail: json!({"service": name}),
            lock: service_lock(name),
            time: RECORD_TIME,
            caller,
            ..Request::default()
        };
        let (service, why, name) = (Arc::clone(self), title.clone(), name.to_owned());
        let work = move |_| async move {
            let bound = service.store.remove_service(&name).await.or_problem(|| why.clone())?;
            let Some(app) = bound.first() else { return Ok(json!({"service": name})) };
            Err(Problem::new(ProblemKind::Conflict, why)
                .because(format!("bound to it: `{}`", bound.join("`, `")))
                .hint(format!(
                    "`gantry service unbind {name} {app}`; with `--force` also when it does not answer"
                )))
        };
        self.operations.begin(request, work).await.or_problem(|| title)
    }

    /// Binds an app to a service, and replaces its units by new ones that have the variables.
    pub(crate) async fn bind_service(
        self: &Arc<Self>,
        caller: Caller,
        name: &str,
        change: ServiceBindChange,
    ) -> Result<String, Problem> {
        let ServiceBindChange { app, no_restart, .. } = change;
        let title = format!("could not bind `{app}` to the service `{name}`");
        self.service_record(name).await?;
        let (detail, name) = (json!({"service": name, "no_restart": no_restart}), name.to_owned());
        self.change(caller, "service-bind", &app, detail, move |change| async move {
            // It may have changed while this waited for its turn.
            let service = change.service.service_record(&name).await?;
            Binding::of(change, service, title).await?.make(no_restart).await
        })
        .await
    }

    /// Unbinds an app from a service, and replaces its units by new ones that do not have the variables. Forced, whatever the service says.
    pub(crate) async fn unbind_service(
        self: &Arc<Self>,
        caller: Caller,
        name: &str,
        change: ServiceBindChange,
    ) -> Result<String, Problem> {
        let ServiceBindChange { app, no_restart, force } = change;
        let title = format!("could not unbind `{app}` from the service `{name}`");
        self.service_record(name).await?;
        let detail = json!({"service": name, "no_restart": no_restart, "force": force});
        let name = name.to_owned();
        self.change(caller, "service-unbind", &app, detail, move |change| async move {
            let service = change.service.service_record(&name).await?;
            Binding::of(change, service, title).await?.undo(no_restart, force).await
        })
        .await
    }

    /// Unbinds an app that is going from all its services; gives what could not be told.
    pub(super) async fn leave_services(&self, app: &str) -> Vec<String> {
        let binds = self.store.binds_of_app(app).await;
        let binds = match binds.or_problem(|| "its services are not known".to_owned()) {
            Ok(binds) => binds,
            Err(problem) => return vec![format!("{}: {}", problem.title, problem.detail)],
        };
        let bound = BoundApp { name: app.to_owned(), hosts: self.hosts(app).await };
        let unbound = binds.iter().map(|(_, service)| self.bindings.leave(service, &bound));
        let left = join_all(unbound).await.into_iter().flat_map(|unbound| match unbound {
            Ok(failures) => failures.iter().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        });
        left.collect()
    }

    /// The change of an app ends: its services know the units that there are, and no other, also where its provisioner tells nobody of them. In the reference a pod of Kubernetes tells
    /// the platform that it is there, which binds it. What cannot be told is tried again with the next change; it makes no failure of this one.
    pub(super) async fn settle_units(&self, operation: &Operation, app: &str) {
        // Whoever asked to stop waits for nobody else.
        let told = operation.cancel.run_until_cancelled(self.tell_units(app)).await;
        let Some(Err(problem)) = told else { return };
        let why = if problem.detail.is_empty() { problem.title } else { problem.detail };
        operation.progress.show(&format!(
            "warning: its services do not know of every unit yet: {why}; they are told again with the next change\n"
        ));
    }

    async fn tell_units(&self, app: &str) -> Result<(), Problem> {
        let title = || format!("could not tell the services of `{app}` about its units");
        let mut binds = self.store.binds_of_app(app).await.or_problem(title)?;
        // A service that has not bound the app is told of no unit.
        binds.retain(|(bind, _)| bind.envs.is_some());
        // While it moves, its units are in two places.
        if binds.is_empty() || self.store.move_of(app).await.or_problem(title)?.is_some() {
            return Ok(());
        }
        let record = self.record(app).await?;
        let provisioner = self.provisioner(&record.provisioner)?;
        let units = provisioner.units(&self.question(), std::slice::from_ref(&record.app)).await;
        let units = units.or_problem(title)?;
        let bound = BoundApp { name: app.to_owned(), hosts: self.hosts(app).await };
        let mut told = Vec::with_capacity(binds.len());
        for (_, service) in &binds {
            told.push(self.bindings.settle(service, &bound, &units));
        }
        join_all(told).await.into_iter().try_for_each(|told| told.or_problem(title))
    }

    /// Where the routers of an app answer for it.
    pub(super) async fn hosts(&self, app: &str) -> Vec<String> {
        let Ok(record) = self.record(app).await else { return Vec::new() };
        let routers = self.platform(&record.provisioner).routers(app).await;
        hosts(routers.unwrap_or_default())
    }
}

/// The addresses of these routers, as far as they are known.
pub(crate) fn hosts(routers: Vec<gantry_core::AppRouter>) -> Vec<String> {
    routers.into_iter().map(|router| router.address).filter(|host| !host.is_empty()).collect()
}

/// A service as it goes over the wire.
fn resource(record: ServiceRecord, binds: Vec<store::ServiceBind>) -> api::Service {
    let bind = |bind: store::ServiceBind| ServiceBind {
        app: bind.app,
        half_made: bind.envs.is_none(),
        variables: bind.envs.unwrap_or_default().0.into_keys().collect(),
    };
    api::Service {
        name: record.name,
        url: record.url,
        username: record.username,
        has_password: !record.password.is_empty(),
        timeout: record.timeout,
        binds: binds.into_iter().map(bind).collect(),
        created: clock::text(record.created),
    }
}

fn service_lock(name: &str) -> Option<String> {
    Some(format!("the service {name}"))
}

/// A service as the journal shows it.
fn shown(record: &ServiceRecord) -> Value {
    let ServiceRecord { name, url, username, timeout, .. } = record;
    json!({"service": name, "url": url, "username": username, "timeout": timeout})
}

/// What is wrong with a part of a service.
struct Wrong {
    why: String,
    hint: &'static str,
}

impl Wrong {
    fn problem(self, title: &str) -> Problem {
        Problem::new(ProblemKind::Invalid, title).because(self.why).hint(self.hint)
    }
}

/// The service as it is with a change.
fn changed(
    record: ServiceRecord,
    change: ServiceChange,
    title: &str,
) -> Result<ServiceRecord, Problem> {
    let wrong = |wrong: Wrong| wrong.problem(title);
    let ServiceChange { url, username, password, timeout } = change;
    let url = url.map(|url| checked_url(&url)).transpose().map_err(wrong)?;
    let moves = url.as_ref().is_some_and(|url| *url != record.url);
    let kept = if moves { api::Secret::default() } else { record.password };
    Ok(ServiceRecord {
        url: url.unwrap_or(record.url),
        username: username
            .map(checked_username)
            .transpose()
            .map_err(wrong)?
            .unwrap_or(record.username),
        password: password.unwrap_or(kept),
        timeout: timeout.map(checked_timeout).transpose().map_err(wrong)?.unwrap_or(record.timeout),
        ..record
    })
}

/// It is a part of paths at the service, and of messages.
fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// An URL of http or https without anything that is asked for below it, and without credentials, which would be shown.
fn checked_url(url: &str) -> Result<String, Wrong> {
    let wrong = |why: &str, hint| Wrong { why: format!("{why} is no URL of a service"), hint };
    let usual =
        "`http://host:port` or `https://host`, with the path that comes before `/resources`";
    let parsed = url.parse::<hyper::Uri>().ok();
    let authority = parsed.as_ref().and_then(hyper::Uri::authority);
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        // Not with what is in it.
        return Err(wrong("one with a user in it", "`--username USER --password-file FILE`"));
    }
    let scheme = parsed.as_ref().and_then(hyper::Uri::scheme_str);
    let is_known = matches!(scheme, Some("http" | "https"));
    let has_host = authority.is_some_and(|authority| !authority.host().is_empty());
    if !is_known || !has_host || url.contains(['?', '#']) {
        return Err(wrong(&format!("`{}`", without_user(url)), usual));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// What was meant to be an URL, without what may be a password in it.
fn without_user(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest)
}

/// A colon ends it where it is sent.
fn checked_username(username: String) -> Result<String, Wrong> {
    if username.is_empty() || username.contains(|c: char| c == ':' || c.is_control()) {
        let why = "a user has a name, without colons".to_owned();
        return Err(Wrong { why, hint: "`--username USER`" });
    }
    Ok(username)
}

fn checked_timeout(seconds: u32) -> Result<u32, Wrong> {
    if (1..=LONGEST_TIMEOUT).contains(&seconds) {
        return Ok(seconds);
    }
    let why = format!("a service has 1 to {LONGEST_TIMEOUT} seconds to answer, not {seconds}");
    Err(Wrong { why, hint: "`--timeout SECONDS`" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Secret;

    #[test]
    fn a_service_has_a_name_that_fits_into_a_path() {
        for good in ["db", "My_db-2", "a", &"a".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "1db", "-db", "db/..", "d b", "é", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_url_says_where_and_nothing_else() {
        for (url, kept) in [
            ("http://db:8080", "http://db:8080"),
            ("https://db.example/", "https://db.example"),
            ("http://[::1]:80/api/v1//", "http://[::1]:80/api/v1"),
        ] {
            assert_eq!(checked_url(url).ok().as_deref(), Some(kept));
        }
        for bad in [
            "",
            "db",
            "db:80",
            "/db",
            "ftp://db",
            "http://",
            "http:///x",
            "http://db/?a=b",
            "http://db/#a",
            "http://d b",
        ] {
            assert!(checked_url(bad).is_err(), "{bad}");
        }
        for secret in
            ["http://me:hush@db", "http://me:hush@db/?x", "me:hush@db", "ftp://me:hush@db"]
        {
            let wrong = checked_url(secret).unwrap_err();
            assert!(!wrong.why.contains("hush"), "{}", wrong.why);
        }
    }

    #[test]
    fn a_password_stays_with_the_place_it_was_given_for() {
        let record = || ServiceRecord {
            name: "db".into(),
            url: "http://db".into(),
            username: "me".into(),
            password: Secret::new("hush"),
            timeout: 60,
            created: 1,
        };
        let with = |change: ServiceChange| changed(record(), change, "no").unwrap();
        let url = |url: &str| Some(url.to_owned());
        let timeout = with(ServiceChange { timeout: Some(5), ..Default::default() });
        assert_eq!((timeout.timeout, timeout.password.reveal()), (5, "hush"));
        let same = with(ServiceChange { url: url("http://db/"), ..Default::default() });
        assert_eq!(same, record());
        let moved = with(ServiceChange { url: url("https://db"), ..Default::default() });
        assert_eq!((moved.url.as_str(), moved.password.reveal()), ("https://db", ""));
        let both = ServiceChange {
            url: url("https://db"),
            password: Some(Secret::new("new")),
            ..Default::default()
        };
        assert_eq!(with(both).password.reveal(), "new");
        for wrong in [
            ServiceChange { url: url("db"), ..Default::default() },
            ServiceChange { timeout: Some(0), ..Default::default() },
            ServiceChange { timeout: Some(121), ..Default::default() },
            ServiceChange { username: Some("a:b".into()), ..Default::default() },
            ServiceChange { username: Some(String::new()), ..Default::default() },
        ] {
            let problem = changed(record(), wrong, "no").unwrap_err();
            assert!(problem.kind == ProblemKind::Invalid && problem.hint.is_some(), "{problem:?}");
        }
    }
}
