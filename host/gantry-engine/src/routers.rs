//! The routes to the platform's apps, by router.

use std::collections::BTreeSet;

use async_trait::async_trait;
use gantry_core::url::Url;
use gantry_core::yaml::RouterHealthcheck;
use gantry_core::{Error, quote};

/// The longest address of a route.
const ADDRESS_BYTES: usize = 512;
/// The most routes of one app on one router.
pub const ROUTES: usize = 10_000;
/// The longest text of a health check.
const TEXT_BYTES: usize = 4096;

/// The routes to the platform's apps. What reaches it was checked: addresses by [`check_addresses`], health checks by [`check_healthcheck`].
#[async_trait]
pub trait Routers: Send + Sync {
    /// Adds addresses after those that are there; one that is there stays where it is.
    async fn add_routes(&self, router: &str, app: &str, addresses: &[String]) -> Result<(), Error>;
    /// Removes addresses; removing what is not there succeeds.
    async fn remove_routes(
        &self,
        router: &str,
        app: &str,
        addresses: &[String],
    ) -> Result<(), Error>;
    /// The addresses, in order.
    async fn routes(&self, router: &str, app: &str) -> Result<Vec<String>, Error>;
    /// Exchanges the names under which the router serves two apps.
    async fn swap(&self, router: &str, app: &str, other: &str) -> Result<(), Error>;
    /// Says how the router finds out whether units work; gives whether it does so at all.
    async fn set_healthcheck(
        &self,
        router: &str,
        app: &str,
        healthcheck: &RouterHealthcheck,
    ) -> Result<bool, Error>;
}

/// Whether a route can go to each of these.
///
/// # Errors
/// The first that is no `http://host:port` or `https://host:port`; more of them than an app may have.
pub fn check_addresses(addresses: &[String]) -> Result<(), Error> {
    if addresses.len() > ROUTES {
        return Err(too_many());
    }
    match addresses.iter().find(|address| !is_address(address)) {
        None => Ok(()),
        Some(address) => Err(Error::InvalidArgument(format!(
            "{} is no address of a route: `http://host:port` or `https://host:port`, at most {ADDRESS_BYTES} bytes",
            shown(address)
        ))),
    }
}

/// Whether a route can go there: a scheme, a host and a port, and nothing else.
#[must_use]
pub fn is_address(address: &str) -> bool {
    if address.len() > ADDRESS_BYTES {
        return false;
    }
    let Ok(url) = Url::parse(address) else { return false };
    let (host, port) = url.host_and_port();
    let served = port.parse::<u16>().is_ok_and(|port| port > 0);
    // As it was written: whatever else there may be in a URL is not in this text.
    let whole = format!("{}://{}", url.scheme, url.host);
    matches!(&*url.scheme, "http" | "https") && !host.is_empty() && served && address == whole
}

/// Whether a router can be told this.
///
/// # Errors
/// What of it cannot be.
pub fn check_healthcheck(healthcheck: &RouterHealthcheck) -> Result<(), Error> {
    let RouterHealthcheck { path, status, body } = healthcheck;
    if !path.starts_with('/') || path.contains(char::is_control) {
        return Err(Error::InvalidArgument(format!(
            "the path of a health check begins with `/`, not {}",
            shown(path)
        )));
    }
    if *status != 0 && !(100..600).contains(status) {
        return Err(Error::InvalidArgument(format!("{status} is no status of HTTP")));
    }
    if path.len() > TEXT_BYTES || body.len() > TEXT_BYTES {
        return Err(Error::InvalidArgument(format!(
            "a text of a health check has at most {TEXT_BYTES} bytes"
        )));
    }
    Ok(())
}

/// What a plugin sent, as an error names it.
fn shown(text: &str) -> String {
    quote(text.get(..text.floor_char_boundary(ADDRESS_BYTES)).unwrap_or_default())
}

/// An app has as many routes as it may.
#[must_use]
pub fn too_many() -> Error {
    Error::InvalidArgument(format!("an app has at most {ROUTES} routes on a router"))
}

/// An app is not on a router.
#[must_use]
pub fn not_on(router: &str, app: &str) -> Error {
    Error::NotFound(format!("the app `{app}` has no router {}", shown(router)))
}

/// An app that is exchanged with one cannot be exchanged with another.
#[must_use]
pub fn swapped_with(app: &str, other: &str) -> Error {
    Error::Conflict(format!("`{app}` is swapped with `{other}`"))
}

/// These addresses after those: one that is there stays where it is.
///
/// # Errors
/// More than an app may have.
pub fn added(mut there: Vec<String>, more: &[String]) -> Result<Vec<String>, Error> {
    let mut known: BTreeSet<String> = there.iter().cloned().collect();
    there.extend(more.iter().filter(|address| known.insert((*address).clone())).cloned());
    if there.len() > ROUTES { Err(too_many()) } else { Ok(there) }
}

/// Those addresses without these.
#[must_use]
pub fn removed(mut there: Vec<String>, less: &[String]) -> Vec<String> {
    let less: BTreeSet<&String> = less.iter().collect();
    there.retain(|address| !less.contains(address));
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for good in ["http://10.0.0.1:80", "https://node-1:32768", "http://[fe80::1]:8888"] {
            assert!(is_address(good), "{good}");
        }
        let long = format!("http://{}:80", "h".repeat(600));
        for bad in [
            "",
            "10.0.0.1:80",
            "http://10.0.0.1",
            "http://:80",
            "http://10.0.0.1:0",
            "http://10.0.0.1:65536",
            "http://10.0.0.1:80/",
            "http://10.0.0.1:80/up",
            "http://10.0.0.1:80?x",
            "http://10.0.0.1:80#x",
            "http://ann@10.0.0.1:80",
            "HTTP://10.0.0.1:80",
            "ftp://10.0.0.1:80",
            "unix:///run/app.sock",
            "http://10.0.0.1:80\n",
            &long,
        ] {
            assert!(!is_address(bad), "{bad}");
        }
        let error = check_addresses(&["http://h:1".into(), "h:1".into()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"h:1\" is no address of a route: `http://host:port` or `https://host:port`, at most 512 bytes"
        );
    }

    #[test]
    fn a_router_is_told_what_it_can_ask_for() {
        let check = |path: &str, status, body: &str| {
            check_healthcheck(&RouterHealthcheck { path: path.into(), status, body: body.into() })
        };
        assert_eq!(check("/", 0, ""), Ok(()));
        assert_eq!(check("/up", 200, "WORKING"), Ok(()));
        for (path, status, body) in [
            ("", 0, ""),
            ("up", 0, ""),
            ("/a\nb", 0, ""),
            ("/", 99, ""),
            ("/", 600, ""),
            ("/", -1, ""),
            ("/", 0, &*"b".repeat(4097)),
        ] {
            assert!(check(path, status, body).is_err(), "{path:?} {status}");
        }
    }

    #[test]
    fn addresses_keep_their_order_and_come_once() {
        let texts = |texts: &[&str]| -> Vec<String> { texts.iter().map(|&t| t.into()).collect() };
        let there = added(texts(&["b", "a"]), &texts(&["a", "c", "c"])).unwrap();
        assert_eq!(there, ["b", "a", "c"]);
        assert_eq!(removed(there, &texts(&["a", "x"])), ["b", "c"]);
        let many: Vec<String> = (0..ROUTES).map(|number| number.to_string()).collect();
        assert_eq!(added(many.clone(), &many).unwrap().len(), ROUTES);
        assert_eq!(added(many, &texts(&["more"])), Err(too_many()));
    }
}
