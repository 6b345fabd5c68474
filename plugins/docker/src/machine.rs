//! The machines of pools: the Docker hosts that the operator gave, and what is written down of each in the plugin's durable keys, `nodes/<address>`, a JSON record (spec 5.12).
//!
//! A host that nobody has said anything about has no record. It is as good as any other, and serves every pool that has no machine of its own, so that one host that was configured is enough to
//! begin with.

mod checks;

use std::collections::BTreeMap;

use gantry_sdk::config::Config;
use gantry_sdk::containers::{self, EngineError};
use gantry_sdk::gantry_core::node::Node;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::state;
use gantry_sdk::{Error, Result, Settings};
use serde::{Deserialize, Serialize};

use self::checks::Checks;
use crate::host::host_of;
use crate::{keys, name};

/// Where all records are.
const ALL: &str = "nodes/";

/// For how long no unit is started on a machine that failed (spec 5.13).
const DISABLED_SECONDS: i64 = 30;

/// The metadata that names a machine's pool, and what the infrastructure calls it.
pub(crate) const POOL: &str = "pool";
pub(crate) const IAAS_ID: &str = "iaas-id";

/// Where a machine is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Creation {
    /// It has not answered yet.
    Pending,
    /// It takes units.
    #[default]
    Created,
    /// It could not be made ready.
    Error,
    /// The operator wants no units there.
    Disabled,
    /// It died, and its units are replaced elsewhere.
    GivenUp,
}

impl Creation {
    fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Created => "created",
            Self::Error => "error",
            Self::Disabled | Self::GivenUp => "disabled",
        }
    }
}

/// A machine, as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Machine {
    /// The address of its engine.
    pub(crate) address: String,
    /// What people say of it; its pool and what the infrastructure calls it among them.
    pub(crate) metadata: BTreeMap<String, String>,
    /// Where it is in its life.
    pub(crate) creation: Creation,
    /// Whether the operator wanted no units there when it was given up.
    pub(crate) was_disabled: bool,
    /// How often it failed since it last answered.
    pub(crate) failures: u32,
    /// Until when no unit is started there, in milliseconds since 1970.
    pub(crate) disabled_until: i64,
    /// Its last failure.
    pub(crate) last_error: String,
    /// When it last answered.
    pub(crate) last_success: i64,
    /// When it last failed for the first time since it answered; 0 while it answers.
    pub(crate) failing_since: i64,
    /// What its agent checked of it.
    pub(crate) checks: Checks,
}

impl Machine {
    /// A machine that nothing is known of.
    pub(crate) fn unknown(address: &str) -> Self {
        Self { address: address.to_owned(), ..Self::default() }
    }

    /// Its pool; empty when nobody said.
    pub(crate) fn pool(&self) -> &str {
        self.metadata.get(POOL).map_or("", String::as_str)
    }

    /// Whether units may be started there now.
    pub(crate) fn is_enabled(&self, now: i64) -> bool {
        self.creation == Creation::Created && self.disabled_until <= now
    }

    /// Whether units may be started there when nobody else takes them: it may have failed a moment ago.
    pub(crate) fn takes_units(&self) -> bool {
        self.creation == Creation::Created
    }

    /// What the scheduler sees of it, for units of a pool: one that serves every pool is of this one.
    pub(crate) fn metadata_in(&self, pool: &str) -> BTreeMap<String, String> {
        let mut metadata = self.metadata.clone();
        metadata.insert(POOL.to_owned(), pool.to_owned());
        metadata
    }

    /// How it is, in the reference's words.
    pub(crate) fn status(&self, now: i64) -> &'static str {
        match self.creation {
            Creation::Pending | Creation::Error | Creation::Disabled | Creation::GivenUp => {
                self.creation.word()
            }
            Creation::Created if self.disabled_until > now => "temporarily disabled",
            Creation::Created if self.failures > 0 => "ready for retry",
            // A host that nobody wrote anything of is used as any other.
            Creation::Created if self.last_success > 0 || self.metadata.is_empty() => "ready",
            Creation::Created => "waiting",
        }
    }

    /// Gives it up: its units are replaced elsewhere. One that was to be made ready again takes units when it is taken back.
    pub(crate) fn give_up(&mut self) {
        if self.creation != Creation::GivenUp {
            self.was_disabled = self.creation == Creation::Disabled;
            self.creation = Creation::GivenUp;
        }
    }

    /// Takes it back, as it was before it was given up.
    pub(crate) fn take_back(&mut self) {
        if self.creation == Creation::GivenUp {
            let disabled = std::mem::take(&mut self.was_disabled);
            self.creation = if disabled { Creation::Disabled } else { Creation::Created };
        }
    }

    /// Takes down that it answered: it has not failed in a row.
    pub(crate) fn seen(&mut self, now: i64) {
        self.last_success = now;
        self.failures = 0;
        self.failing_since = 0;
    }

    /// Takes down that it answered and may take units.
    pub(crate) fn answered(&mut self, now: i64) {
        self.seen(now);
        self.forgive();
        if self.creation == Creation::Pending || self.creation == Creation::Error {
            self.creation = Creation::Created;
        }
    }

    /// Takes down that it did not, and that nothing is started there for a while.
    pub(crate) fn failed(&mut self, error: &str, now: i64, disabled_for: i64) {
        if self.failures == 0 {
            self.failing_since = now;
        }
        self.failures = self.failures.saturating_add(1);
        error.clone_into(&mut self.last_error);
        self.disabled_until = now.saturating_add(disabled_for);
    }

    /// Forgets its failures.
    pub(crate) fn forgive(&mut self) {
        self.failures = 0;
        self.failing_since = 0;
        self.disabled_until = 0;
        self.last_error.clear();
    }

    /// Changes what people say of it: an empty value takes a key away.
    pub(crate) fn tell(&mut self, metadata: BTreeMap<String, String>) {
        for (key, value) in metadata {
            if value.is_empty() {
                self.metadata.remove(&key);
            } else {
                self.metadata.insert(key, value);
            }
        }
    }

    /// What people see of it.
    pub(crate) fn node(&self, now: i64) -> Node {
        let mut extra = BTreeMap::new();
        let mut tell = |key: &str, value: String| {
            if !value.is_empty() {
                extra.insert(key.to_owned(), value);
            }
        };
        if self.failures > 0 {
            tell("Failures", self.failures.to_string());
        }
        if self.disabled_until > now {
            tell("DisabledUntil", time(self.disabled_until));
        }
        tell("LastError", self.last_error.clone());
        tell("LastSuccess", time(self.last_success));
        Node {
            address: self.address.clone(),
            pool: self.pool().to_owned(),
            iaas_id: self.metadata.get(IAAS_ID).cloned().unwrap_or_default(),
            status: self.status(now).to_owned(),
            metadata: self.metadata.clone(),
            metadata_no_prefix: self.metadata.clone(),
            extra_data: extra,
            provisioner: None,
        }
    }
}

/// A time as RFC 3339 spells it, in UTC; empty for none.
fn time(milliseconds: i64) -> String {
    if milliseconds == 0 {
        return String::new();
    }
    jiff::Timestamp::from_millisecond(milliseconds).map(|time| time.to_string()).unwrap_or_default()
}

/// All machines, by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machines(Vec<Machine>);

impl Machines {
    /// Reads what is written down of the hosts that the operator gave.
    pub(crate) fn read() -> Result<Self> {
        let entries = state::all(ALL)?;
        let written = entries.iter().map(keys::read).collect::<Result<_>>()?;
        Ok(Self::of(containers::nodes(), written))
    }

    /// The hosts that were given, each with its record. What was written down of a host that is not given any more waits until it is given again.
    pub(crate) fn of(given: Vec<String>, written: Vec<Machine>) -> Self {
        let mut written: BTreeMap<String, Machine> =
            written.into_iter().map(|machine| (machine.address.clone(), machine)).collect();
        let machine = |address: String| {
            written.remove(&address).unwrap_or_else(|| Machine::unknown(&address))
        };
        Self(given.into_iter().map(machine).collect())
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Machine] {
        &self.0
    }

    /// Those of a pool, those that take no units among them. A pool without any is served by those that are of no pool.
    pub(crate) fn of_pool<'a>(&'a self, pool: &str) -> Vec<&'a Machine> {
        let of = |name: &str| self.0.iter().filter(|machine| machine.pool() == name).collect();
        let own: Vec<&Machine> = of(pool);
        if own.is_empty() { of("") } else { own }
    }

    /// The one with this address.
    pub(crate) fn find(&self, address: &str) -> Result<&Machine> {
        let exact = self.0.iter().find(|machine| machine.address == address);
        exact.ok_or(Error::NodeNotFound)
    }

    /// The address of the engine that has a unit. Records from before there were several hosts say the machine alone.
    pub(crate) fn address_of(&self, unit: &UnitRecord) -> String {
        if !unit.node.is_empty() {
            return unit.node.clone();
        }
        let of_host = |machine: &&Machine| host_of(&machine.address) == unit.host_addr;
        let machine = self.0.iter().find(of_host).or(self.0.first());
        machine.map(|machine| machine.address.clone()).unwrap_or_default()
    }
}

/// Changes what is written down of a host that was given.
pub(crate) fn update(address: &str, change: impl Fn(&mut Machine)) -> Result<Machine> {
    keys::change(&key(address), keys::read, |written: &mut Option<Machine>| {
        let machine = written.get_or_insert_with(|| Machine::unknown(address));
        change(machine);
        Ok(machine.clone())
    })
}

/// Whether anything is written down of a host; of one that was removed nothing is.
pub(crate) fn is_written_down(address: &str) -> Result<bool> {
    Ok(state::get(&key(address))?.is_some())
}

/// Forgets what is written down of a host.
pub(crate) fn forget(address: &str) -> Result<()> {
    keys::remove(&key(address))
}

/// Whether a host is given to this provisioner now.
pub(crate) fn is_given(address: &str) -> bool {
    containers::nodes().iter().any(|given| given == address)
}

/// Why a host that is not given any more says nothing.
pub(crate) fn not_given(address: &str) -> EngineError {
    let why = format!("the Docker host `{address}` is not given to this provisioner any more");
    EngineError::Unreachable(why)
}

/// What a failure on a host means. The platform has nothing of a host that is not given any more; what is there may be there all the same.
pub(crate) fn on(address: &str, error: EngineError) -> EngineError {
    let is_nothing = matches!(error, EngineError::NotFound(_));
    if is_nothing && !is_given(address) { not_given(address) } else { error }
}

/// Whether a failure is the machine's own, and not of what it was asked.
pub(crate) fn is_of_machine(error: &EngineError) -> bool {
    match error {
        EngineError::Unreachable(_) | EngineError::TimedOut(_) => true,
        EngineError::NotFound(_)
        | EngineError::Conflict(_)
        | EngineError::Invalid(_)
        | EngineError::Denied(_)
        | EngineError::Cancelled
        | EngineError::Failed(_) => false,
    }
}

/// Whether a machine answers and cannot make a container, whatever of, as one with a full disk: that counts as its own failure (spec 5.3). A start that fails may be the command's fault.
fn makes_nothing(done: usize, error: &EngineError) -> bool {
    done == 0 && matches!(error, EngineError::Failed(_))
}

/// Takes down that a machine made no container, after so many steps that went well, if that is its own failure.
pub(crate) fn note_create(address: &str, done: usize, error: &EngineError) {
    if makes_nothing(done, error) {
        note_failure(address, error);
    }
}

/// Takes down that a machine failed a call. What cannot be written down is only logged: the call's own failure counts.
pub(crate) fn note_failure(address: &str, error: &EngineError) {
    let text = error.to_string();
    let disabled_for = Config.integer("docker:healing:disabled-time").unwrap_or(DISABLED_SECONDS);
    let disabled_for = disabled_for.max(0).saturating_mul(1000);
    let noted = update(address, |machine| machine.failed(&text, name::now(), disabled_for));
    if let Err(error) = noted {
        let fields = [("node", address), ("error", &error.to_string())];
        gantry_sdk::log::warn("the failure of a node is not written down", &fields);
    }
}

fn key(address: &str) -> String {
    format!("{ALL}{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_machine_is_what_happened_to_it() {
        let now = 1_000_000;
        let mut machine = Machine { metadata: metadata(&[("pool", "p")]), ..Machine::unknown("n") };
        assert_eq!((machine.status(now), machine.is_enabled(now)), ("waiting", true));
        machine.answered(now);
        assert_eq!((machine.status(now), machine.is_enabled(now)), ("ready", true));
        machine.failed("no", now, 30);
        machine.failed("no again", now + 1, 30);
        assert_eq!((machine.failures, machine.failing_since), (2, now));
        assert_eq!((machine.status(now), machine.is_enabled(now)), ("temporarily disabled", false));
        let later = now + 31;
        assert_eq!((machine.status(later), machine.is_enabled(later)), ("ready for retry", true));
        machine.answered(later);
        assert_eq!(
            (machine.failures, machine.failing_since, machine.status(later)),
            (0, 0, "ready")
        );
        for (creation, word) in [
            (Creation::Pending, "pending"),
            (Creation::Error, "error"),
            (Creation::Disabled, "disabled"),
            (Creation::GivenUp, "disabled"),
        ] {
            machine.creation = creation;
            assert_eq!((machine.status(later), machine.is_enabled(later)), (word, false));
        }
        machine.creation = Creation::Pending;
        machine.answered(later);
        assert_eq!(machine.creation, Creation::Created);
        machine.creation = Creation::Disabled;
        machine.answered(later);
        assert_eq!(machine.creation, Creation::Disabled, "only the operator enables it again");
    }

    #[test]
    fn only_a_create_that_the_engine_fails_is_the_fault_of_a_machine_that_answers() {
        let text = || "x".to_owned();
        assert!(makes_nothing(0, &EngineError::Failed(text())));
        assert!(!makes_nothing(1, &EngineError::Failed(text())), "the command may not be there");
        for error in [
            EngineError::NotFound(text()),
            EngineError::Invalid(text()),
            EngineError::Conflict(text()),
            EngineError::Denied(text()),
            EngineError::Cancelled,
        ] {
            assert!(!makes_nothing(0, &error), "{error}");
        }
    }

    #[test]
    fn an_empty_value_takes_a_key_away() {
        let mut machine =
            Machine { metadata: metadata(&[("a", "1"), ("b", "2")]), ..Machine::default() };
        machine.tell(metadata(&[("a", ""), ("b", "3"), ("c", "4")]));
        assert_eq!(machine.metadata, metadata(&[("b", "3"), ("c", "4")]));
    }

    #[test]
    fn people_see_what_is_known_and_nothing_else() {
        let mut machine = Machine {
            metadata: metadata(&[("pool", "p"), ("iaas-id", "i-1"), ("rack", "7")]),
            ..Machine::unknown("tcp://10.0.0.1:2376")
        };
        let node = machine.node(5);
        assert_eq!((node.pool.as_str(), node.iaas_id.as_str()), ("p", "i-1"));
        assert_eq!(node.metadata["rack"], "7");
        assert!(node.extra_data.is_empty());
        machine.answered(1_000);
        machine.failed("down", 2_000, 30_000);
        let extra = machine.node(5_000).extra_data;
        let expected = [
            ("DisabledUntil", "1970-01-01T00:00:32Z"),
            ("Failures", "1"),
            ("LastError", "down"),
            ("LastSuccess", "1970-01-01T00:00:01Z"),
        ];
        assert_eq!(extra, metadata(&expected));
    }

    #[test]
    fn a_given_host_is_as_it_was_written_down_or_serves_pools_without_hosts() {
        let written = |address: &str, pool: &str| Machine {
            metadata: metadata(&[("pool", pool)]),
            ..Machine::unknown(address)
        };
        let given = ["tcp://a:1", "tcp://b:1"].map(str::to_owned).to_vec();
        let machines = Machines::of(given, vec![written("tcp://b:1", "p"), written("gone", "p")]);
        let [a, b] = machines.all() else { panic!("two") };
        assert_eq!(machines.of_pool("p"), [b], "it has one of its own");
        assert_eq!(machines.of_pool("q"), [a]);
        assert_eq!(machines.find("tcp://b:1").unwrap(), b);
        assert_eq!(machines.find("gone"), Err(Error::NodeNotFound));
    }

    #[test]
    fn a_record_without_its_engine_is_found_by_its_machine() {
        let given = ["tcp://a:1", "tcp://b:1"].map(str::to_owned).to_vec();
        let machines = Machines::of(given, Vec::new());
        let unit = |host: &str, node: &str| UnitRecord {
            host_addr: host.to_owned(),
            node: node.to_owned(),
            ..UnitRecord::default()
        };
        assert_eq!(machines.address_of(&unit("b", "")), "tcp://b:1");
        assert_eq!(machines.address_of(&unit("x", "")), "tcp://a:1");
        assert_eq!(machines.address_of(&unit("b", "tcp://a:1")), "tcp://a:1");
    }
}
