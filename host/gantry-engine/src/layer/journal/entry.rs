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
    /// It is there, and so many calls have made it the app, less those that were refused: stops and removals of containers from before the operation, and images made current.
    InService(String, u64),
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
    /// The create ended without an answer, or with one that does not say that nothing was made.
    Lost,
    /// The engine showed a container of somebody else under its name.
    Taken,
    /// A container from before the operation is about to be stopped or removed, or an image to become current.
    Replacing,
    /// That was refused.
    Kept,
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
            // What may not be there serves nobody.
            (nothing @ (Self::Asked | Self::Unknown), Event::Replacing | Event::Kept) => nothing,
            (Self::Made(id), Event::Replacing) => Self::InService(id, 1),
            (Self::InService(id, times), Event::Replacing) => {
                Self::InService(id, times.saturating_add(1))
            }
            (Self::InService(id, 0 | 1), Event::Kept) => Self::Made(id),
            (Self::InService(id, times), Event::Kept) => {
                Self::InService(id, times.saturating_sub(1))
            }
            (made @ Self::Made(_), Event::Kept) => made,
            (
                made @ (Self::Made(_) | Self::InService(..)),
                Event::Shown(_) | Event::Lost | Event::Taken,
            ) => made,
        }
    }

    /// Its id, once it is known.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Made(id) | Self::InService(id, _) => Some(id),
            Self::Asked | Self::Unknown | Self::Gone => None,
        }
    }

    /// Whether it is the app now.
    pub(super) fn is_in_service(&self) -> bool {
        matches!(self, Self::InService(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_follows_from_what_is_heard() {
        let made = |id: &str| State::Made(id.to_owned());
        let serves = |times| State::InService("a".to_owned(), times);
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
            (State::Asked, Event::Replacing, State::Asked),
            (State::Unknown, Event::Replacing, State::Unknown),
            (made("a"), Event::Replacing, serves(1)),
            (serves(1), Event::Replacing, serves(2)),
            (serves(2), Event::Kept, serves(1)),
            (serves(1), Event::Kept, made("a")),
            (made("a"), Event::Kept, made("a")),
            (serves(1), Event::Shown("a"), serves(1)),
            (serves(1), Event::Removed, State::Gone),
            (State::Gone, Event::Shown("a"), State::Gone),
            (State::Gone, Event::Replacing, State::Gone),
            (State::Gone, Event::Lost, State::Gone),
        ];
        for (before, event, after) in table {
            assert_eq!(before.clone().after(event), after, "{before:?} and {event:?}");
        }
    }
}
