//! How many units a deploy starts (spec 5.4).

use std::collections::BTreeMap;

/// How many units of each process to start, given the processes of the containers that run now: as many as run, or else as many as run without the name of a process, and at
/// least one. Processes the image does not declare get none.
#[must_use]
pub fn containers_to_add<'a, S: AsRef<str>>(
    image_processes: impl IntoIterator<Item = &'a str>,
    old_processes: &[S],
) -> BTreeMap<&'a str, usize> {
    let count = |process: &str| old_processes.iter().filter(|old| old.as_ref() == process).count();
    image_processes
        .into_iter()
        .map(|process| {
            let units = match count(process) {
                0 => count("").max(1),
                units => units,
            };
            (process, units)
        })
        .collect()
}
