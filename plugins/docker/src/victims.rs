//! Which units go when there are to be fewer (spec 5.11, "Removal"): those on the machines that have the most, the oldest first.

use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Result, quote};

use crate::placing;
use crate::scheduler::{Memory, Node, Placer};

/// Chooses so many units of a process, one at a time, each in sight of those before.
pub(crate) fn choose(
    app: &App,
    units: &[UnitRecord],
    process: &str,
    count: usize,
) -> Result<Vec<UnitRecord>> {
    let available = units.iter().filter(|unit| unit.process_name == process).count();
    if available < count {
        let process = quote(process);
        return Err(Error::InvalidArgument(format!(
            "cannot remove {count} units from process {process}, only {available} available"
        )));
    }
    let (nodes, others) = placing::seen_by(app, units)?;
    pick(&app.name, &nodes, units, &others, process, count)
}

/// The decision: `others` are the units of other apps on the machines.
fn pick(
    app: &str,
    nodes: &[Node],
    units: &[UnitRecord],
    others: &[UnitRecord],
    process: &str,
    count: usize,
) -> Result<Vec<UnitRecord>> {
    let candidates: Vec<&Node> = nodes.iter().collect();
    // The numbers that the placer gives are places in this order.
    let mut placer = Placer::new(&candidates, units.iter().chain(others), Memory::default());
    let mut victims = Vec::with_capacity(count);
    for _ in 0..count {
        let removed = placer.remove(app, process)?;
        victims.extend(units.get(removed.unit).cloned());
    }
    Ok(victims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: &str, process: &str, host: &str) -> UnitRecord {
        UnitRecord {
            id: id.to_owned(),
            app_name: "a".to_owned(),
            process_name: process.to_owned(),
            host_addr: host.to_owned(),
            ..UnitRecord::default()
        }
    }

    fn node(host: &str) -> Node {
        Node { address: format!("tcp://{host}:1"), enabled: true, ..Node::default() }
    }

    fn ids(units: Result<Vec<UnitRecord>>) -> Vec<String> {
        units.unwrap().into_iter().map(|unit| unit.id).collect()
    }

    #[test]
    fn on_one_machine_the_oldest_go() {
        let units = [unit("1", "web", "h"), unit("2", "worker", "h"), unit("3", "web", "h")];
        let nodes = [node("h")];
        assert_eq!(ids(pick("a", &nodes, &units, &[], "web", 2)), ["1", "3"]);
        assert_eq!(ids(pick("a", &nodes, &units, &[], "worker", 1)), ["2"]);
        assert!(pick("a", &nodes, &units, &[], "cron", 1).is_err());
    }

    #[test]
    fn the_fullest_machine_loses_first() {
        let units = [unit("1", "web", "h"), unit("2", "web", "i"), unit("3", "web", "i")];
        let nodes = [node("h"), node("i")];
        assert_eq!(ids(pick("a", &nodes, &units, &[], "web", 1)), ["2"]);
        let others =
            ["4", "5"].map(|id| UnitRecord { app_name: "b".to_owned(), ..unit(id, "web", "h") });
        let units = &units[..2];
        assert_eq!(ids(pick("a", &nodes, units, &others, "web", 1)), ["1"]);
    }
}
