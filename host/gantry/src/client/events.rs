//! Server-sent events, as the HTML standard spells them (section 9.2).

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::Result;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its id; what a reader names to go on after it.
    pub id: Option<String>,
    /// Its kind.
    pub kind: String,
    /// What it tells.
    pub data: String,
}

/// Splits bytes into events. A broken connection is the last item.
pub(super) fn read(
    bytes: impl Stream<Item = Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = Result<Event>> + Send {
    let reader = Some((Box::pin(bytes), Splitter::default()));
    futures_util::stream::unfold(reader, |reader| async move {
        let (mut bytes, mut splitter) = reader?;
        loop {
            if let Some(event) = splitter.next() {
                return Some((Ok(event), Some((bytes, splitter))));
            }
            match bytes.next().await? {
                Ok(part) => splitter.rest.extend_from_slice(&part),
                Err(error) => return Some((Err(error), None)),
            }
        }
    })
}

#[derive(Default)]
struct Splitter {
    rest: Vec<u8>,
    event: Event,
    has_data: bool,
}

impl Splitter {
    fn next(&mut self) -> Option<Event> {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if std::mem::take(&mut self.has_data) {
                    return Some(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => self.event.id = Some(value.to_owned()),
                "event" => self.event.kind = value.to_owned(),
                "data" => {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                // A line that starts with a colon is there to keep the connection alive.
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_are_read_however_the_bytes_are_cut() {
        let text = ": hello\n\nid: 1\nevent: line\ndata: a\ndata: b\n\nevent: end\r\ndata:\r\n\r\ndata: lost";
        let line = Event { id: Some("1".into()), kind: "line".into(), data: "a\nb".into() };
        let end = Event { id: None, kind: "end".into(), data: String::new() };
        for size in [1, 2, 7, 1000] {
            let parts: Vec<Result<Bytes>> =
                text.as_bytes().chunks(size).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
            let events: Vec<_> =
                read(futures_util::stream::iter(parts)).map(|event| event.unwrap()).collect().await;
            assert_eq!(events, [line.clone(), end.clone()], "parts of {size}");
        }
    }
}
