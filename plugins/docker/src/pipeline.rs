//! Ordered actions that can be undone (spec 5.2).
//!
//! ```text
//! forward 0 ► forward 1 ► forward 2 fails ► undo 1 ► undo 0 ► the failure of 2
//! ```
//!
//! The action that fails cleans up after itself; it is not undone. Once an action that commits is done there is no way back: what fails after it is told and nothing is undone.

use crate::failure::Failure;

/// One action on a context.
pub(crate) struct Action<C> {
    /// Its name, for the log.
    pub(crate) name: &'static str,
    /// Does it. What it leaves for its undo and for the actions after it is in the context.
    pub(crate) forward: fn(&mut C) -> Result<(), Failure>,
    /// Takes it back, as far as that is possible.
    pub(crate) undo: Option<fn(&mut C)>,
    /// Once it is done there is no way back, and nobody asks any more whether to stop.
    pub(crate) commits: bool,
}

/// Who looks at a pipeline while it runs.
pub(crate) trait Watch {
    /// Before an action: an error stops the pipeline as if the action had failed.
    fn before(&mut self, action: &'static str) -> Result<(), Failure>;

    /// After a failure, before anything is undone.
    fn failed(&mut self, action: &'static str, failure: &Failure);
}

/// Runs the actions in order; after a failure undoes those before it, last first.
pub(crate) fn run<C>(
    actions: &[Action<C>],
    context: &mut C,
    watch: &mut impl Watch,
) -> Result<(), Failure> {
    let mut done: Vec<&Action<C>> = Vec::new();
    let mut committed = false;
    for action in actions {
        let go = if committed { Ok(()) } else { watch.before(action.name) };
        if let Err(failure) = go.and_then(|()| (action.forward)(context)) {
            if committed {
                return Err(failure);
            }
            watch.failed(action.name, &failure);
            for undo in done.into_iter().rev().filter_map(|action| action.undo) {
                undo(context);
            }
            return Err(failure);
        }
        committed |= action.commits;
        done.push(action);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gantry_sdk::Error;

    use super::*;

    #[derive(Default)]
    struct Trace {
        fails_at: &'static str,
        told: Vec<String>,
    }

    impl Trace {
        fn forward(&mut self, action: &'static str) -> Result<(), Failure> {
            self.told.push(format!("+{action}"));
            if self.fails_at == action { Err(failure(action)) } else { Ok(()) }
        }
    }

    fn failure(action: &str) -> Failure {
        Error::Other(format!("{action} failed")).into()
    }

    const fn action(
        name: &'static str,
        forward: fn(&mut Trace) -> Result<(), Failure>,
        undo: Option<fn(&mut Trace)>,
    ) -> Action<Trace> {
        Action { name, forward, undo, commits: false }
    }

    const ACTIONS: &[Action<Trace>] = &[
        action("a", |trace| trace.forward("a"), Some(|trace| trace.told.push("-a".to_owned()))),
        action("b", |trace| trace.forward("b"), None),
        action("c", |trace| trace.forward("c"), Some(|trace| trace.told.push("-c".to_owned()))),
        action("d", |trace| trace.forward("d"), Some(|trace| trace.told.push("-d".to_owned()))),
        Action { commits: true, ..action("e", |trace| trace.forward("e"), None) },
        action("f", |trace| trace.forward("f"), None),
    ];

    /// Refuses one action, and writes down what failed.
    #[derive(Default)]
    struct Watcher {
        refuses: &'static str,
        failed: Vec<String>,
    }

    impl Watch for Watcher {
        fn before(&mut self, action: &'static str) -> Result<(), Failure> {
            if self.refuses == action { Err(Failure::cancelled()) } else { Ok(()) }
        }

        fn failed(&mut self, action: &'static str, failure: &Failure) {
            self.failed.push(format!("{action}: {}", failure.line));
        }
    }

    #[test]
    fn a_failure_undoes_what_was_done_before_it_last_first() {
        let table = [
            ("", "+a +b +c +d +e +f", ""),
            ("a", "+a", "a: a failed"),
            ("b", "+a +b -a", "b: b failed"),
            ("c", "+a +b +c -a", "c: c failed"),
            ("d", "+a +b +c +d -c -a", "d: d failed"),
            ("e", "+a +b +c +d +e -d -c -a", "e: e failed"),
            ("f", "+a +b +c +d +e +f", ""),
        ];
        for (fails_at, told, failed) in table {
            let mut trace = Trace { fails_at, ..Trace::default() };
            let mut watcher = Watcher::default();
            let result = run(ACTIONS, &mut trace, &mut watcher);
            assert_eq!(result.is_err(), !fails_at.is_empty());
            assert_eq!(trace.told.join(" "), told, "failing at {fails_at:?}");
            assert_eq!(watcher.failed.join(" "), failed);
        }
    }

    #[test]
    fn nobody_asks_whether_to_stop_once_there_is_no_way_back() {
        let mut trace = Trace::default();
        let mut watcher = Watcher { refuses: "f", ..Watcher::default() };
        assert_eq!(run(ACTIONS, &mut trace, &mut watcher), Ok(()));
        assert_eq!(trace.told.join(" "), "+a +b +c +d +e +f");
    }

    #[test]
    fn a_cancelled_pipeline_begins_no_further_action() {
        let mut trace = Trace::default();
        let mut watcher = Watcher { refuses: "d", ..Watcher::default() };
        let result = run(ACTIONS, &mut trace, &mut watcher);
        assert_eq!(result, Err(Failure::cancelled()));
        assert_eq!(trace.told.join(" "), "+a +b +c -c -a");
        assert_eq!(watcher.failed, ["d: unit creation canceled by user action"]);
    }
}
