//! The best host for one more unit, or for one less, kept up to date change by change (spec 5.11).
//!
//! A host's score has three parts, the first of which decides before the second: the units of the process in the host's group, those on the host, all units on the host. Adding wants the least and
//! the first in order, removing the most and the last. So that both are one search, a ranking counts with a sign and always looks for the least.
//!
//! Scores of a process differ from those of another, and one unit more changes the third part for all of them. What is kept is therefore of two kinds: one order of the hosts of each group by the
//! third part, which all processes share, and for each process its few hosts and groups by *level* (the parts before). The best is the first at the least level.
//!
//! * At the level of nothing stands most of what there is: a walk along the order, which goes on where it ended the last time.
//! * At other levels stand few, each where its rank was when it was last looked at: the first whose rank still is the same is the best.
//!
//! Both hold because ranks only go up while units are only added (or only removed, in the ranking for that). What goes down is counted, and makes all be looked at anew. Hosts that leave because they
//! are full change nothing of that.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a ranking is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Adding,
    Removing,
}

/// Where something is in an order: the units, and the place in the list that settles ties.
type Rank = (i64, i64);

/// An ordered list of things that have a number.
#[derive(Clone, Debug, Default)]
struct Order {
    items: BTreeSet<(Rank, usize)>,
    ranks: HashMap<usize, Rank>,
    /// How often something came to an earlier place.
    sunk: u64,
}

impl Order {
    fn first(&self) -> Option<Rank> {
        self.items.first().map(|(rank, _)| *rank)
    }

    fn rank(&self, item: usize) -> Option<Rank> {
        self.ranks.get(&item).copied()
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn set(&mut self, item: usize, rank: Rank) {
        let before = self.ranks.insert(item, rank);
        if before == Some(rank) {
            return;
        }
        if let Some(before) = before {
            self.items.remove(&(before, item));
        }
        if before.is_none_or(|before| rank < before) {
            self.sunk += 1;
        }
        self.items.insert((rank, item));
    }

    fn remove(&mut self, item: usize) {
        if let Some(rank) = self.ranks.remove(&item) {
            self.items.remove(&(rank, item));
        }
    }
}

/// At which level things stand for one process; those that are not named stand at the level of nothing.
#[derive(Clone, Debug, Default)]
struct Levels<L> {
    of: HashMap<usize, (L, Rank)>,
    at: BTreeMap<L, Named>,
    /// Where the walk along those at the level of nothing ended, and how often something had sunk.
    walked: Option<(u64, (Rank, usize))>,
}

/// Things at a level, each at the rank it had or at one before.
#[derive(Clone, Debug)]
struct Named {
    items: BTreeSet<(Rank, usize)>,
    /// How often something had sunk when these ranks were right.
    sunk: u64,
}

impl<L: Copy + Default + Ord> Levels<L> {
    /// The least level that one of `all` things stands at.
    fn least(&self, all: usize) -> L {
        let named = self.at.first_key_value().map(|(level, _)| *level);
        let nothing = (self.of.len() < all).then(L::default);
        named.into_iter().chain(nothing).min().unwrap_or_default()
    }

    /// Puts a thing at a level; its rank there is not before this one.
    fn set(&mut self, item: usize, level: L, rank: Rank, sunk: u64) {
        if level == L::default() {
            self.unname(item);
        } else {
            self.name(item, level, rank, sunk);
        }
    }

    /// The same, so that no walk has to come by: at the level of nothing too.
    fn name(&mut self, item: usize, level: L, rank: Rank, sunk: u64) {
        self.unname(item);
        self.of.insert(item, (level, rank));
        let named = self.at.entry(level);
        let named = named.or_insert_with(|| Named { items: BTreeSet::new(), sunk });
        named.items.insert((rank, item));
    }

    fn unname(&mut self, item: usize) {
        if let Some((level, rank)) = self.of.remove(&item)
            && let Some(named) = self.at.get_mut(&level)
        {
            named.items.remove(&(rank, item));
            if named.items.is_empty() {
                self.at.remove(&level);
            }
        }
    }

    /// The rank of the first of those that are named at a level.
    fn first_at(
        &mut self,
        level: L,
        sunk: u64,
        mut rank: impl FnMut(usize) -> Option<Rank>,
        looked_at: &mut u64,
    ) -> Option<Rank> {
        let named = self.at.get_mut(&level)?;
        let mut set = |items: &mut BTreeSet<(Rank, usize)>, item: usize, rank: Rank| {
            items.insert((rank, item));
            self.of.insert(item, (level, rank));
        };
        if named.sunk != sunk {
            for (_, item) in std::mem::take(&mut named.items) {
                *looked_at += 1;
                set(&mut named.items, item, rank(item)?);
            }
            named.sunk = sunk;
        }
        loop {
            let first = *named.items.first()?;
            let (was, item) = first;
            *looked_at += 1;
            let is = rank(item)?;
            if is == was {
                return Some(is);
            }
            named.items.remove(&first);
            set(&mut named.items, item, is);
        }
    }

    /// Where to begin a walk along those at the level of nothing.
    fn beginning(&self, sunk: u64) -> (Rank, usize) {
        match self.walked {
            Some((then, end)) if then == sunk => end,
            _ => ((i64::MIN, i64::MIN), 0),
        }
    }
}

/// Where the hosts and the groups stand for one process.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// How many units are counted in each group.
    sums: HashMap<usize, i64>,
    /// Units of the process on each host, by group.
    hosts: HashMap<usize, Levels<i64>>,
    /// Of each group the units counted in it, and the least number on one of its hosts.
    groups: Levels<(i64, i64)>,
}

/// A host, as far as its groups go.
#[derive(Clone, Copy, Debug)]
struct Seat {
    /// The group it stands in.
    group: usize,
    /// The group that its units are counted in.
    counted: usize,
}

/// The hosts, ranked for every process.
#[derive(Clone, Debug)]
pub(super) struct Ranking {
    sign: i64,
    seats: Vec<Seat>,
    /// The hosts of each group.
    groups: HashMap<usize, Order>,
    /// The groups that have hosts, each where its first host is.
    fronts: Order,
    standings: HashMap<usize, Standing>,
    /// The processes that have none in a group any more since a host left it.
    returned: HashMap<usize, Vec<usize>>,
    /// How often a host came to an earlier place, in whichever group.
    sunk: u64,
    looked_at: u64,
}

impl Ranking {
    /// Hosts with so many units each, in these groups of all hosts. Units on a host that is in no group are counted in the first, and it has a group count of 0 itself (the reference's index of a
    /// missing host).
    pub(super) fn new(
        what: For,
        groups: &[Option<usize>],
        hosts: impl IntoIterator<Item = (usize, i64)>,
    ) -> Self {
        let sign = match what {
            For::Adding => 1,
            For::Removing => -1,
        };
        // Hosts in no group stand in one of their own, in which nothing is counted; when there are no groups at all that is every host, and no count decides anything.
        let outside = groups.iter().flatten().max().map_or(0, |last| last + 1);
        let seat = |group: &Option<usize>| Seat {
            group: group.unwrap_or(outside),
            counted: group.unwrap_or_default(),
        };
        let mut ranking = Self {
            sign,
            seats: groups.iter().map(seat).collect(),
            groups: HashMap::new(),
            fronts: Order::default(),
            standings: HashMap::new(),
            returned: HashMap::new(),
            sunk: 0,
            looked_at: 0,
        };
        for (host, total) in hosts {
            ranking.rank(host, total);
        }
        ranking
    }

    /// How many hosts and groups were looked at so far in search of the best.
    pub(super) fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// Takes note that a host now has `own` units of a process, `change` more than before, and `total` units.
    pub(super) fn change(
        &mut self,
        process: usize,
        host: usize,
        change: i64,
        own: i64,
        total: i64,
    ) {
        self.rank(host, total);
        let Some(seat) = self.seats.get(host).copied() else { return };
        let standing = self.standings.entry(process).or_default();
        *standing.sums.entry(seat.counted).or_default() += change;
        let levels = standing.hosts.entry(seat.group).or_default();
        let Some(order) = self.groups.get(&seat.group) else { return };
        let rank = order.rank(host).unwrap_or_default();
        levels.set(host, self.sign * own, rank, order.sunk);
        // Against the grain of the walks: what they passed may stand at nothing again.
        if change * self.sign < 0 {
            levels.walked = None;
            standing.groups.walked = None;
        }
        self.stand(process, seat.group, false);
        self.stand(process, seat.counted, false);
    }

    /// Whether a host is among those that are ranked.
    pub(super) fn has(&self, host: usize) -> bool {
        let order = self.seats.get(host).and_then(|seat| self.groups.get(&seat.group));
        order.is_some_and(|order| order.rank(host).is_some())
    }

    /// Ranks a host no more; what is on it counts for nothing. `processes` tells which have units on a host.
    ///
    /// Only for groups in which nothing is counted but what is on their own hosts.
    pub(super) fn leave<'p>(
        &mut self,
        host: usize,
        processes: impl Fn(usize) -> Option<&'p BTreeSet<usize>>,
    ) {
        let Some(Seat { group, .. }) = self.seats.get(host).copied() else { return };
        let Some(order) = self.groups.get_mut(&group) else { return };
        order.remove(host);
        match order.first() {
            Some(front) => self.fronts.set(group, front),
            None => self.fronts.remove(group),
        }
        let emptiest = order.items.first().map(|(_, host)| *host);
        for process in processes(host).into_iter().flatten() {
            self.looked_at += 1;
            let Some(standing) = self.standings.get_mut(process) else { continue };
            let levels = standing.hosts.entry(group).or_default();
            let own = levels.of.get(&host).map_or(0, |(own, _)| self.sign * own);
            levels.unname(host);
            *standing.sums.entry(group).or_default() -= own;
            self.stand(*process, group, true);
        }
        let Some(emptiest) = emptiest else {
            for process in self.returned.remove(&group).unwrap_or_default() {
                self.looked_at += 1;
                self.stand(process, group, true);
            }
            return;
        };
        // A process that is on all hosts that are left, so on the emptiest, may have had none on this one alone.
        for process in processes(emptiest).into_iter().flatten() {
            self.looked_at += 1;
            self.stand(*process, group, true);
        }
    }

    /// Puts a group at the level where it stands for a process. A walk may have passed it already.
    fn stand(&mut self, process: usize, group: usize, was_passed: bool) {
        let Some(standing) = self.standings.get_mut(&process) else { return };
        let Some(order) = self.groups.get(&group) else { return };
        // One without hosts stands nowhere.
        let Some(front) = order.first() else { return standing.groups.unname(group) };
        let sum = standing.sums.get(&group).copied().unwrap_or_default();
        let least = standing.hosts.get(&group);
        let level = (self.sign * sum, least.map_or(0, |levels| levels.least(order.len())));
        if was_passed {
            if sum == 0 {
                self.returned.entry(group).or_default().push(process);
            }
            standing.groups.name(group, level, front, self.sunk);
        } else {
            standing.groups.set(group, level, front, self.sunk);
        }
    }

    /// Puts a host where one with so many units belongs.
    pub(super) fn rank(&mut self, host: usize, total: i64) {
        let Some(seat) = self.seats.get(host) else { return };
        let place = i64::try_from(host).unwrap_or(i64::MAX);
        let order = self.groups.entry(seat.group).or_default();
        let sunk = order.sunk;
        order.set(host, (self.sign * total, self.sign * place));
        self.sunk += order.sunk - sunk;
        if let Some(front) = order.first() {
            self.fronts.set(seat.group, front);
        }
    }

    /// The best host for a process; none when there are no hosts.
    pub(super) fn best(&mut self, process: usize) -> Option<usize> {
        let Self { groups, fronts, standings, looked_at, sunk, .. } = self;
        let Standing { hosts, groups: levels, .. } = standings.entry(process).or_default();
        let level = levels.least(fronts.len());
        let mut looks_within = 0;
        let mut best_of = |group: usize| {
            best_in(groups.get(&group)?, hosts.entry(group).or_default(), &mut looks_within)
        };
        let is_nothing = level == <(i64, i64)>::default() && levels.of.len() < fronts.len();
        let walked = is_nothing.then(|| best_at_nothing(fronts, levels, &mut best_of, looked_at));
        let named = levels.first_at(level, *sunk, &mut best_of, looked_at);
        let best = walked.flatten().into_iter().chain(named).min();
        *looked_at += looks_within;
        let (_, place) = best?;
        usize::try_from(self.sign * place).ok()
    }
}

/// The rank of the best host of all groups at the level of nothing.
fn best_at_nothing(
    fronts: &Order,
    levels: &mut Levels<(i64, i64)>,
    mut best_of: impl FnMut(usize) -> Option<Rank>,
    looked_at: &mut u64,
) -> Option<Rank> {
    let mut first = None;
    let mut best: Option<Rank> = None;
    for (front, group) in fronts.items.range(levels.beginning(fronts.sunk)..) {
        // No host of this group or of one that follows comes before its front.
        if best.is_some_and(|best| best < *front) {
            break;
        }
        *looked_at += 1;
        if !levels.of.contains_key(group) {
            first = first.or(Some((*front, *group)));
            best = best.into_iter().chain(best_of(*group)).min();
        }
    }
    levels.walked = first.map(|first| (fronts.sunk, first));
    best
}

/// The rank of the first host of a group that stands at the group's least level.
fn best_in(order: &Order, levels: &mut Levels<i64>, looked_at: &mut u64) -> Option<Rank> {
    let level = levels.least(order.len());
    if level != 0 {
        return levels.first_at(level, order.sunk, |host| order.rank(host), looked_at);
    }
    let mut walk = order.items.range(levels.beginning(order.sunk)..);
    let found = walk.find(|(_, host)| {
        *looked_at += 1;
        !levels.of.contains_key(host)
    });
    levels.walked = found.map(|found| (order.sunk, *found));
    found.map(|(rank, _)| *rank)
}
