//! What is known of one container that an operation asked for. Decides, and does nothing.

/// What is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its create is under way.
    Asked,
    /// Its create ended, and nobody can tell how.
    Unknown,
    /// It is there, with this id.
    Made(String),
    /// It never came to be, or is removed.
    Gone,
}

/// What is heard of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// The create gave its id, or the engine showed it under its name and with the mark of the operation.
    Shown(&'a str),
    /// The engine refused the create.
    Refused,
    /// The create ended without an answer.
    Lost,
    /// The engine showed a container of somebody else under its name.
    Taken,
    /// It was removed.
    Removed,
}

impl State {
    /// What is known after an event.
    pub(super) fn after(self, event: Event<'_>) -> Self {
        match (self, event) {
            (Self::Gone, _) | (_, Event::Refused | Event::Removed) => Self::Gone,
            (Self::Asked | Self::Unknown, Event::Shown(id)) => Self::Made(id.to_owned()),
            (Self::Asked | Self::Unknown, Event::Lost) => Self::Unknown,
            // While the create is under way, the other one may go in time.
            (Self::Asked, Event::Taken) => Self::Asked,
            (Self::Unknown, Event::Taken) => Self::Gone,
            (made @ Self::Made(_), Event::Shown(_) | Event::Lost | Event::Taken) => made,
        }
    }

    /// Its id, once it is known.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Made(id) => Some(id),
            Self::Asked | Self::Unknown | Self::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_follows_from_what_is_heard() {
        let made = |id: &str| State::Made(id.to_owned());
        let table = [
            (State::Asked, Event::Shown("a"), made("a")),
            (State::Asked, Event::Refused, State::Gone),
            (State::Asked, Event::Lost, State::Unknown),
            (State::Asked, Event::Taken, State::Asked),
            (State::Unknown, Event::Taken, State::Gone),
            (State::Unknown, Event::Shown("a"), made("a")),
            (State::Unknown, Event::Lost, State::Unknown),
            (State::Unknown, Event::Refused, State::Gone),
            // Seen before the answer of its create was lost.
            (made("a"), Event::Lost, made("a")),
            (made("a"), Event::Shown("a"), made("a")),
            (made("a"), Event::Taken, made("a")),
            (made("a"), Event::Removed, State::Gone),
            // The name was taken by another create of the same operation, which was seen under it.
            (made("a"), Event::Refused, State::Gone),
            (State::Gone, Event::Shown("a"), State::Gone),
            (State::Gone, Event::Lost, State::Gone),
        ];
        for (before, event, after) in table {
            assert_eq!(before.clone().after(event), after, "{before:?} and {event:?}");
        }
    }
}
