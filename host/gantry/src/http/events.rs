//! Server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// How often a silent stream shows that it is alive.
const ALIVE: Duration = Duration::from_secs(10);

/// An event of this kind.
pub(super) fn event<T: Serialize>(kind: &str, id: Option<String>, data: &T) -> Event {
    // The shapes of `api` are plain records: they have no way to fail.
    let data = serde_json::to_string(data).unwrap_or_default();
    let event = Event::default().event(kind).data(data);
    match id {
        Some(id) => event.id(id),
        None => event,
    }
}

/// An answer of events that end by themselves, before the daemon does.
pub(super) fn answer(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let events = events.map(Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}

/// An answer of events that may go on for ever. They end with the daemon, so that nobody keeps it from ending.
pub(super) fn answer_until(
    ending: CancellationToken,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Response {
    answer(events.take_until(ending.cancelled_owned()))
}
