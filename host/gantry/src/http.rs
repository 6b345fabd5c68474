//! The HTTP API: handlers check, convert and forward; they decide nothing.
//!
//! `docs/http.md` lists the routes with what each takes and answers.

mod agents;
mod apps;
mod builds;
mod clusters;
mod events;
mod guests;
mod node_containers;
mod nodes;
mod operations;
mod plans;
mod plugins;
mod pools;
mod request;
mod routes;
mod services;
mod shell;
mod volumes;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};

use crate::api::{Accepted, Problem, ProblemKind, Version};
use crate::config::Token;
use crate::service::Service;

pub(crate) use guests::Guests;
pub(crate) use request::Peer;

/// The result of a handler.
type Answer<T> = Result<T, Refused>;

/// A problem on its way out.
pub(crate) struct Refused(Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.kind.status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(problem)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// A change that was accepted.
fn accepted(operation: String) -> (StatusCode, Json<Accepted>) {
    let events = format!("/v1/operations/{operation}/events");
    (StatusCode::ACCEPTED, Json(Accepted { operation, events }))
}

/// The API over a service, for callers that must know the token, if there is one. Agents in units have tokens of their apps.
pub(crate) fn router(service: Arc<Service>, token: Option<Token>) -> Router {
    let mut api = api(Arc::clone(&service));
    if let Some(token) = token {
        api = with_token(api, token);
    }
    let agents = Router::new()
        .route("/v1/apps/{app}/units/register", post(agents::register))
        // Where the agents of the reference look for it, and the units of its provisioner for Kubernetes.
        .route("/apps/{app}/units/register", post(agents::register))
        .layer(DefaultBodyLimit::max(request::LARGEST_DOCUMENT))
        .method_not_allowed_fallback(no_method)
        .with_state(service);
    api.merge(agents)
}

fn api(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/apps", get(apps::list).post(apps::create))
        .route("/v1/apps/{app}", get(apps::info).patch(apps::update).delete(apps::remove))
        .route("/v1/apps/{app}/deploy", post(apps::deploy))
        .route("/v1/apps/{app}/build", post(builds::deploy))
        .route("/v1/apps/{app}/rollback", post(apps::rollback))
        .route("/v1/apps/{app}/start", post(apps::start))
        .route("/v1/apps/{app}/stop", post(apps::stop))
        .route("/v1/apps/{app}/restart", post(apps::restart))
        .route("/v1/apps/{app}/sleep", post(apps::sleep))
        .route("/v1/apps/{app}/run", post(apps::run))
        .route("/v1/apps/{app}/shell", get(shell::open))
        .route("/v1/apps/{app}/log", get(apps::log))
        .route(
            "/v1/apps/{app}/units",
            get(apps::units).post(apps::add_units).put(apps::set_units).delete(apps::remove_units),
        )
        .route("/v1/apps/{app}/units/{unit}/kill", post(apps::kill_unit))
        .route("/v1/apps/{app}/env", get(apps::envs).patch(apps::change_envs))
        .route("/v1/apps/{app}/quota", get(plans::quota).put(plans::change_quota))
        .route("/v1/apps/{app}/swap", post(routes::swap))
        .route("/v1/units", get(apps::all_units))
        .route("/v1/routers", get(routes::routers))
        .route("/v1/routers/{router}", get(routes::router))
        .route("/v1/routes", get(routes::table))
        .route("/v1/routes/events", get(routes::follow))
        .route("/v1/plans", get(plans::list).post(plans::create))
        .route("/v1/plans/{plan}", get(plans::info).delete(plans::remove))
        .route("/v1/services", get(services::list).post(services::add))
        .route(
            "/v1/services/{service}",
            get(services::info).patch(services::update).delete(services::remove),
        )
        .route("/v1/services/{service}/binds", post(services::bind).delete(services::unbind))
        .route("/v1/pools", get(pools::list).post(pools::create))
        .route("/v1/pools/{pool}", delete(pools::remove))
        .route("/v1/clusters", get(clusters::list).post(clusters::add))
        .route(
            "/v1/clusters/{cluster}",
            get(clusters::info).patch(clusters::update).delete(clusters::remove),
        )
        .route("/v1/nodes", get(nodes::list).post(nodes::add))
        .route("/v1/nodes/rebalance", post(nodes::rebalance))
        .route("/v1/nodes/status", post(nodes::report))
        .route("/v1/nodes/{address}", get(nodes::info).patch(nodes::update).delete(nodes::remove))
        .route("/v1/node-containers", get(node_containers::list).post(node_containers::add))
        .route(
            "/v1/node-containers/{name}",
            get(node_containers::info)
                .patch(node_containers::update)
                .post(node_containers::upgrade)
                .delete(node_containers::remove),
        )
        .route("/v1/volumes", get(volumes::list).post(volumes::create))
        .route("/v1/volumes/{volume}", get(volumes::info).delete(volumes::remove))
        .route("/v1/volumes/{volume}/binds", post(volumes::bind).delete(volumes::unbind))
        .route("/v1/plugins", get(plugins::list))
        .route("/v1/operations", get(operations::list))
        .route("/v1/operations/{id}", get(operations::info))
        .route("/v1/operations/{id}/events", get(operations::events))
        .route("/v1/operations/{id}/cancel", post(operations::cancel))
        .route("/v1/plugins/{name}", get(plugins::info).put(plugins::install))
        .route("/v1/plugins/{name}/swap", post(plugins::swap))
        .route("/v1/inspect", post(plugins::inspect))
        // Whatever reads a body has a limit of its own.
        .layer(DefaultBodyLimit::disable())
        .fallback(no_resource)
        .method_not_allowed_fallback(no_method)
        .with_state(service)
}

fn with_token(router: Router, token: Token) -> Router {
    let check = move |request: axum::extract::Request, next: middleware::Next| {
        let known = shown(request.headers()).is_some_and(|shown| shown.is(&token));
        async move {
            if known {
                return next.run(request).await;
            }
            let problem = Problem::new(ProblemKind::Unauthorized, "the token is missing or wrong")
                .hint("set GANTRY_TOKEN to the token that the daemon was given");
            Refused(problem).into_response()
        }
    };
    router.layer(middleware::from_fn(check))
}

/// The token that a caller shows.
fn shown(headers: &HeaderMap) -> Option<Token> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::new(token)).flatten()
}

async fn version(State(service): State<Arc<Service>>) -> Json<Version> {
    Json(service.version())
}

async fn no_resource(uri: axum::http::Uri) -> Refused {
    Refused(Problem::new(ProblemKind::NotFound, format!("there is nothing at `{}`", uri.path())))
}

async fn no_method(method: axum::http::Method, uri: axum::http::Uri) -> Response {
    let title = format!("`{}` does not take {method}", uri.path());
    let mut response = Refused(Problem::new(ProblemKind::Invalid, title)).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The page for whoever asks without the command line.
    const PAGE: &str = include_str!("../../../docs/http.md");

    /// This file: a router does not tell its routes.
    const SOURCE: &str = include_str!("http.rs");

    /// A method and a path.
    type Route = (String, String);

    /// The routes of the functions above.
    fn served() -> Vec<Route> {
        let code = SOURCE.split("#[cfg(test)]").next().unwrap_or_default();
        let mut served = Vec::new();
        for route in code.split(".route(").skip(1) {
            let route = route.split(".layer(").next().unwrap_or_default();
            let (path, handlers) = route.split_once("\",").expect("a path and its handlers");
            let path = path.trim().trim_start_matches('"');
            for method in ["get", "post", "put", "patch", "delete"] {
                let call = format!("{method}(");
                let takes = handlers.split(&call).count().saturating_sub(1);
                served.extend((0..takes).map(|_| (method.to_uppercase(), path.to_owned())));
            }
        }
        served.sort();
        served
    }

    /// The routes of the page's tables.
    fn documented() -> Vec<Route> {
        let route = |line: &str| {
            let (method, rest) = line.strip_prefix("| ")?.split_once(" | `/")?;
            Some((method.to_owned(), format!("/{}", rest.split('`').next()?)))
        };
        let mut documented: Vec<Route> = PAGE.lines().filter_map(route).collect();
        documented.sort();
        documented
    }

    #[test]
    fn the_page_has_every_route_once_and_no_other() {
        let served = served();
        assert!(served.len() > 70, "not all of them were found: {served:?}");
        assert_eq!(documented(), served);
    }

    #[test]
    fn the_page_has_every_kind_of_problem_with_its_status() {
        let mut words: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
        for kind in ProblemKind::ALL {
            words.entry(kind.status()).or_default().push(kind.word());
        }
        for (status, mut words) in words {
            let line = PAGE.lines().find(|line| line.starts_with(&format!("| {status} |")));
            let line = line.unwrap_or_else(|| panic!("{status} is not there"));
            let mut told: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
            told.sort_unstable();
            words.sort_unstable();
            assert_eq!(told, words, "{status}");
        }
    }
}
