//! Units that come and go, each choice in sight of those before (spec 5.11).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use gantry_sdk::gantry_core::error::ContractError;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::gantry_core::url::url_to_host;

use super::groups::{Groups, Kinds};
use super::ranking::{For, Ranking};
use super::{Memory, NoPlace, Node, numbers, place_of};

/// A place that was found for a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address of the node.
    pub address: String,
    /// Its machine.
    pub host: String,
    /// What is to be logged: the pool was full and takes the unit all the same.
    pub warning: Option<String>,
}

/// A unit that was chosen to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its number: units count from 0 in the order in which they came.
    pub unit: usize,
    /// The host it was on, which may be none of the candidates.
    pub host: String,
}

/// The candidates for the units of a pool, with what is on them.
#[derive(Clone, Debug)]
pub struct Placer<'a> {
    hosts: Vec<Host<'a>>,
    /// The numbers of hosts; those that are no candidates come after those that are.
    numbers: HashMap<String, usize>,
    names: Vec<String>,
    processes: Processes,
    units: usize,
    kinds: Kinds,
    groups: Groups,
    adding: Ranking,
    removing: Ranking,
    memory: Memory,
    /// How much memory may still be promised on each host that has a limit, the least first.
    room: BTreeSet<(i64, usize)>,
    /// The hosts that have room, by how much was asked for when some had too little: plans are few.
    with_room: HashMap<i64, WithRoom>,
    looked_at: u64,
}

/// A candidate.
#[derive(Clone, Debug)]
struct Host<'a> {
    node: &'a Node,
    total: i64,
    /// How much memory may still be promised; none for any amount.
    room: Option<i64>,
    /// The processes that have units there.
    processes: BTreeSet<usize>,
}

impl Host<'_> {
    fn has_room(&self, bytes: i64) -> bool {
        self.room.is_none_or(|room| room >= bytes)
    }
}

/// Which hosts have room for a unit.
#[derive(Clone, Debug)]
enum Fit {
    All,
    Some,
    /// None, which is said, and all take it.
    AllTheSame(String),
}

/// The hosts that have room for units of a size, ranked for the processes of that size. The others count for nothing, not even for the groups.
#[derive(Clone, Debug)]
struct WithRoom {
    ranking: Ranking,
    groups: Groups,
}

impl WithRoom {
    fn looked_at(&self) -> u64 {
        self.ranking.looked_at() + self.groups.looked_at()
    }

    /// Leaves out a host; tells whether the others rank as they did.
    fn leave<'p>(
        &mut self,
        host: usize,
        kinds: &Kinds,
        processes: impl Fn(usize) -> Option<&'p BTreeSet<usize>>,
    ) -> bool {
        let hold = self.groups.leave(host, kinds);
        if hold {
            self.ranking.leave(host, processes);
        }
        hold
    }
}

/// The processes that have units.
#[derive(Clone, Debug, Default)]
struct Processes {
    numbers: HashMap<String, HashMap<String, usize>>,
    units: Vec<Units>,
}

/// The units of a process, by the number of their host, the oldest first.
type Units = BTreeMap<usize, VecDeque<usize>>;

impl Processes {
    fn number(&mut self, app: &str, process: &str) -> usize {
        let known = self.numbers.get(app).and_then(|processes| processes.get(process));
        if let Some(number) = known {
            return *number;
        }
        let number = self.units.len();
        self.units.push(Units::new());
        self.numbers.entry(app.to_owned()).or_default().insert(process.to_owned(), number);
        number
    }

    fn units(&self, process: usize) -> Option<&Units> {
        self.units.get(process)
    }

    /// The processes of some apps.
    fn of_apps(&self, is: impl Fn(&str) -> bool) -> Vec<usize> {
        let apps = self.numbers.iter().filter(|(app, _)| is(app));
        apps.flat_map(|(_, processes)| processes.values().copied()).collect()
    }

    fn own(&self, process: usize, host: usize) -> i64 {
        let units = self.units(process).and_then(|units| units.get(&host));
        units.map_or(0, |units| i64::try_from(units.len()).unwrap_or(i64::MAX))
    }
}

impl<'a> Placer<'a> {
    /// The candidates with the units that are there already: of every app and in every status, wherever they are.
    pub fn new<'u>(
        candidates: &[&'a Node],
        units: impl IntoIterator<Item = &'u UnitRecord>,
        memory: Memory,
    ) -> Self {
        let hosts: Vec<Host<'a>> = candidates
            .iter()
            .map(|node| {
                let (room, processes) = (memory.limit(node), BTreeSet::new());
                Host { node, total: 0, room, processes }
            })
            .collect();
        let names: Vec<String> = candidates.iter().map(|node| node.address.clone()).collect();
        let numbers = numbers(names.iter().map(String::as_str));
        let all: Vec<_> = candidates.iter().map(|node| &node.metadata).collect();
        let kinds = Kinds::of(&all);
        let groups = kinds.groups(&(0..all.len()).collect::<Vec<_>>());
        let limited = hosts.iter().enumerate();
        let room = limited.filter_map(|(number, host)| Some((host.room?, number))).collect();
        let empty = |what| {
            let hosts = (0..hosts.len()).map(|host| (host, 0));
            Ranking::new(what, &groups.of_nodes, hosts)
        };
        let mut placer = Self {
            adding: empty(For::Adding),
            removing: empty(For::Removing),
            hosts,
            numbers,
            names,
            processes: Processes::default(),
            units: 0,
            looked_at: all.len() as u64,
            kinds,
            groups,
            memory,
            room,
            with_room: HashMap::new(),
        };
        for unit in units {
            placer.put(&unit.app_name, &unit.process_name, place_of(unit));
        }
        placer
    }

    /// Why the hosts are in no groups although their metadata differs: worth a line in the log.
    #[must_use]
    pub fn imbalance(&self) -> Option<String> {
        let spoiled = !self.groups.are_clean();
        let why = spoiled.then(|| self.kinds.imbalance()).flatten()?;
        Some(format!("ignoring metadata diff when selecting node: {why}"))
    }

    /// How many hosts, groups of hosts and marks of their kinds were looked at so far, for all choices and to know the groups.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        let with_room: u64 = self.with_room.values().map(WithRoom::looked_at).sum();
        let of_all = self.adding.looked_at() + self.removing.looked_at() + self.groups.looked_at();
        self.looked_at + with_room + of_all
    }

    /// The addresses of the hosts that have enough memory left for one more unit of an app.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn with_enough_memory(&self, app: &str) -> Result<Vec<String>, NoPlace> {
        let bytes = self.memory.of(app);
        let some = matches!(self.fit(app)?, Fit::Some);
        let hosts = self.hosts.iter().filter(|host| !some || host.has_room(bytes));
        Ok(hosts.map(|host| host.node.address.clone()).collect())
    }

    /// Finds the place for one more unit of a process, and counts it there from now on.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn place(&mut self, app: &str, process: &str) -> Result<Place, NoPlace> {
        let fit = self.fit(app)?;
        let number = self.processes.number(app, process);
        let (best, warning) = match fit {
            Fit::All => (self.adding.best(number), None),
            Fit::Some => (self.with_room(self.memory.of(app)).best(number), None),
            Fit::AllTheSame(warning) => (self.adding.best(number), Some(warning)),
        };
        let Some(host) = best.and_then(|number| self.hosts.get(number)) else {
            return Err(NoPlace::NoNode);
        };
        let address = host.node.address.clone();
        self.put(app, process, &address);
        Ok(Place { host: url_to_host(&address), address, warning })
    }

    /// The host that the next unit of a process to go should be on: the fullest, by its address. None without candidates.
    pub fn fullest(&mut self, app: &str, process: &str) -> Option<&str> {
        let process = self.processes.number(app, process);
        let best = self.removing.best(process)?;
        self.hosts.get(best).map(|host| host.node.address.as_str())
    }

    /// Chooses the next unit of a process to go, and counts it no more: the oldest on the fullest host, or else any that there is.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn remove(&mut self, app: &str, process: &str) -> Result<Removed, ContractError> {
        let number = self.processes.number(app, process);
        let fullest = self.removing.best(number);
        let units = self.processes.units.get_mut(number);
        let found = units.and_then(|units| {
            let host = fullest.filter(|host| units.contains_key(host));
            let host = host.or_else(|| units.keys().next().copied())?;
            let on_host = units.get_mut(&host)?;
            let unit = on_host.pop_front()?;
            if on_host.is_empty() {
                units.remove(&host);
            }
            Some((unit, host))
        });
        let Some((unit, host)) = found else {
            let (app, process) = (app.to_owned(), process.to_owned());
            return Err(ContractError::ContainerNotFound { app, process });
        };
        self.changed(number, host, -1, self.memory.of(app));
        Ok(Removed {
            unit,
            host: self.names.get(host).map_or_else(String::new, |name| url_to_host(name)),
        })
    }

    /// Which hosts have enough memory left for one more unit of an app.
    fn fit(&self, app: &str) -> Result<Fit, NoPlace> {
        let bytes = self.memory.of(app);
        if self.room.first().is_none_or(|(least, _)| *least >= bytes) {
            return Ok(Fit::All);
        }
        let without_limit = self.room.len() < self.hosts.len();
        if without_limit || self.room.last().is_some_and(|(most, _)| *most >= bytes) {
            return Ok(Fit::Some);
        }
        let full = NoPlace::Memory { app: app.to_owned(), bytes };
        if !self.memory.grows {
            return Err(full);
        }
        Ok(Fit::AllTheSame(format!("WARNING: {full}. Will ignore memory restrictions.")))
    }

    /// The ranking of the hosts that have room for so much.
    fn with_room(&mut self, bytes: i64) -> &mut Ranking {
        let ranked = match self.with_room.remove(&bytes) {
            Some(ranked) => ranked,
            None => self.rank_with_room(bytes),
        };
        &mut self.with_room.entry(bytes).or_insert(ranked).ranking
    }

    fn rank_with_room(&mut self, bytes: i64) -> WithRoom {
        self.looked_at += self.hosts.len() as u64;
        let hosts = self.hosts.iter().enumerate();
        let fitting = hosts.filter(|(_, host)| host.has_room(bytes));
        let totals: Vec<_> = fitting.map(|(number, host)| (number, host.total)).collect();
        let fitting: Vec<usize> = totals.iter().map(|(number, _)| *number).collect();
        let groups = self.kinds.groups(&fitting);
        let mut ranking = Ranking::new(For::Adding, &groups.of_nodes, totals);
        for process in self.processes.of_apps(|app| self.memory.of(app) == bytes) {
            for host in self.processes.units(process).into_iter().flat_map(Units::keys) {
                self.looked_at += 1;
                let own = self.processes.own(process, *host);
                if ranking.has(*host)
                    && let Some(total) = self.hosts.get(*host).map(|host| host.total)
                {
                    ranking.change(process, *host, own, own, total);
                }
            }
        }
        WithRoom { ranking, groups }
    }

    /// Counts one more unit of a process on a host.
    pub fn put(&mut self, app: &str, process: &str, host: &str) {
        let number = self.processes.number(app, process);
        let host = self.numbers.get(host).copied().unwrap_or_else(|| {
            self.numbers.insert(host.to_owned(), self.names.len());
            self.names.push(host.to_owned());
            self.names.len() - 1
        });
        if let Some(units) = self.processes.units.get_mut(number) {
            units.entry(host).or_default().push_back(self.units);
            self.units += 1;
        }
        self.changed(number, host, 1, self.memory.of(app));
    }

    /// Takes note that a host has one unit more or less, which needs so much memory.
    fn changed(&mut self, process: usize, number: usize, change: i64, bytes: i64) {
        let own = self.processes.own(process, number);
        // Only candidates have a score.
        let Some(host) = self.hosts.get_mut(number) else { return };
        host.total += change;
        let total = host.total;
        if own > 0 {
            host.processes.insert(process);
        } else {
            host.processes.remove(&process);
        }
        if let Some(room) = &mut host.room {
            self.room.remove(&(*room, number));
            *room = room.saturating_sub(change.saturating_mul(bytes));
            self.room.insert((*room, number));
        }
        self.adding.change(process, number, change, own, total);
        self.removing.change(process, number, change, own, total);

        let Self { hosts, with_room, kinds, looked_at, .. } = self;
        let Some(host) = hosts.get(number) else { return };
        let processes = |host: usize| hosts.get(host).map(|host| &host.processes);
        with_room.retain(|size, with| {
            *looked_at += 1;
            let holds = match (with.ranking.has(number), host.has_room(*size)) {
                (false, has_room) => !has_room,
                (true, false) => with.leave(number, kinds, processes),
                (true, true) => {
                    if *size == bytes {
                        with.ranking.change(process, number, change, own, total);
                    } else {
                        with.ranking.rank(number, total);
                    }
                    true
                }
            };
            // Ranked anew when somebody asks.
            if !holds {
                *looked_at += with.looked_at();
            }
            holds
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(address: &str, metadata: &[(&str, &str)]) -> Node {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let metadata = metadata.iter().map(owned).collect();
        Node { address: address.to_owned(), metadata, enabled: true }
    }

    fn unit(app: &str, host: &str) -> UnitRecord {
        UnitRecord {
            app_name: app.to_owned(),
            process_name: "web".to_owned(),
            host_addr: host.to_owned(),
            ..UnitRecord::default()
        }
    }

    fn placer<'a>(nodes: &'a [Node], units: &[UnitRecord], memory: Memory) -> Placer<'a> {
        Placer::new(&nodes.iter().collect::<Vec<_>>(), units, memory)
    }

    #[test]
    fn units_on_a_host_in_no_group_count_for_the_first_group() {
        // Groups [0] and [0, 1, 2]: the later one counts. h3 is in none.
        let nodes = [
            node("h0", &[("x", "2")]),
            node("h1", &[("y", ""), ("z", "")]),
            node("h2", &[("x", ""), ("z", "")]),
            node("h3", &[("y", "1")]),
        ];
        let mut placer = placer(&nodes, &[unit("a", "h3")], Memory::default());
        let groups: Vec<usize> = placer.groups.of_nodes.iter().flatten().copied().collect();
        assert_eq!(groups, [1, 1, 1]);
        // The group that the unit counts for has no host, so all are as before, and the host itself has more units.
        assert_eq!(placer.place("a", "web").map(|place| place.host), Ok("h0".to_owned()));
        // In the group of the other hosts is one now; on the host in no group the unit is not seen.
        assert_eq!(placer.place("a", "web").map(|place| place.host), Ok("h3".to_owned()));
    }

    #[test]
    fn the_oldest_unit_on_the_fullest_host_goes_first_and_one_elsewhere_last() {
        let nodes = [node("http://h0:1", &[]), node("http://h1:1", &[])];
        let units = [unit("a", "gone"), unit("a", "h0"), unit("a", "h1"), unit("a", "h1")];
        let mut placer = placer(&nodes, &units, Memory::default());
        let mut next = || placer.remove("a", "web").map(|removed| (removed.unit, removed.host));
        assert_eq!(next().unwrap(), (2, "h1".to_owned()));
        assert_eq!(next().unwrap(), (3, "h1".to_owned()));
        assert_eq!(next().unwrap(), (1, "h0".to_owned()));
        assert_eq!(next().unwrap(), (0, "gone".to_owned()));
        assert_eq!(
            next().unwrap_err().to_string(),
            "Container of app \"a\" with process \"web\" was not found in any servers"
        );
    }

    #[test]
    fn two_nodes_on_one_machine_are_two_and_a_unit_that_says_the_machine_alone_is_on_the_last() {
        let nodes = [node("http://h0:1", &[]), node("http://h1:1", &[]), node("http://h0:2", &[])];
        let mut placer = placer(&nodes, &[unit("a", "h0")], Memory::default());
        let mut next = || placer.place("a", "web").map(|place| place.address).unwrap();
        assert_eq!([next(), next(), next()], ["http://h0:1", "http://h1:1", "http://h0:1"]);
    }

    #[test]
    fn a_full_pool_that_grows_takes_units_with_a_warning() {
        let nodes = [node("h0", &[("mem", "100")]), node("h1", &[("mem", "200")])];
        let of_apps = BTreeMap::from([("a".to_owned(), 100)]);
        let memory = Memory { ratio: 1.0, total_key: "mem".to_owned(), of_apps, grows: true };
        let mut growing = placer(&nodes, &[], memory.clone());
        let mut next = || growing.place("a", "web").unwrap();
        assert_eq!([next().host, next().host, next().host], ["h0", "h1", "h1"]);
        let over = next();
        assert_eq!(over.host, "h0");
        assert_eq!(
            over.warning.as_deref(),
            Some(
                "WARNING: no nodes found with enough memory for container of \"a\": 0.0001MB. Will ignore memory restrictions."
            )
        );
        let units = [unit("a", "h0"), unit("a", "h1"), unit("a", "h1")];
        let mut full = placer(&nodes, &units, Memory { grows: false, ..memory });
        let none = NoPlace::Memory { app: "a".to_owned(), bytes: 100 };
        assert_eq!(full.place("a", "web"), Err(none));
        // A unit less leaves room for one more.
        assert_eq!(full.remove("a", "web").unwrap().host, "h1");
        assert_eq!(full.place("a", "web").map(|place| place.host), Ok("h1".to_owned()));
    }

    #[test]
    fn metadata_out_of_balance_is_worth_a_line() {
        let nodes = [node("h0", &[("odd", "1")]), node("h1", &[])];
        assert_eq!(
            placer(&nodes, &[], Memory::default()).imbalance().as_deref(),
            Some(
                "ignoring metadata diff when selecting node: unbalanced metadata for node group: map[odd:1] vs map[]"
            )
        );
        assert_eq!(placer(&nodes[..1], &[], Memory::default()).imbalance(), None);
    }
}
