//! The bounds of a plugin: what each is called, what it is for, what it is when nobody says otherwise.
//!
//! The operator's configuration has the last word. A plugin may ask for less of everything; what it asks for beyond a bound is shown by `plugin inspect` and is
//! in force only when the operator writes it down.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use gantry_engine::OverLimit;
use gantry_engine::layer::quota::Limits;

/// A bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bound {
    /// `cpu`.
    Cpu,
    /// `question-time`.
    QuestionTime,
    /// `operation-time`.
    OperationTime,
    /// `idle-time`.
    IdleTime,
    /// `memory`.
    Memory,
    /// `host-calls`.
    HostCalls,
    /// `host-call-rate`.
    HostCallRate,
    /// `host-calls-in-flight`.
    HostCallsInFlight,
    /// `host-call-bytes`.
    HostCallBytes,
    /// `handles`.
    Handles,
    /// `log-rate`.
    LogRate,
    /// `plugin-size`.
    PluginSize,
}

/// What a bound is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Milliseconds.
    Time,
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// Things a second.
    Rate,
}

impl Bound {
    /// All of them, in the order people see them.
    pub const ALL: [Self; 12] = [
        Self::Cpu,
        Self::QuestionTime,
        Self::OperationTime,
        Self::IdleTime,
        Self::Memory,
        Self::HostCalls,
        Self::HostCallRate,
        Self::HostCallsInFlight,
        Self::HostCallBytes,
        Self::Handles,
        Self::LogRate,
        Self::PluginSize,
    ];

    /// The bound as the configuration spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::QuestionTime => "question-time",
            Self::OperationTime => "operation-time",
            Self::IdleTime => "idle-time",
            Self::Memory => "memory",
            Self::HostCalls => "host-calls",
            Self::HostCallRate => "host-call-rate",
            Self::HostCallsInFlight => "host-calls-in-flight",
            Self::HostCallBytes => "host-call-bytes",
            Self::Handles => "handles",
            Self::LogRate => "log-rate",
            Self::PluginSize => "plugin-size",
        }
    }

    /// The bound with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bound| bound.name() == name)
    }

    /// What it is counted in.
    #[must_use]
    pub fn measure(self) -> Measure {
        match self {
            Self::Cpu | Self::QuestionTime | Self::OperationTime | Self::IdleTime => Measure::Time,
            Self::Memory | Self::HostCallBytes | Self::PluginSize => Measure::Bytes,
            Self::HostCalls | Self::HostCallsInFlight | Self::Handles => Measure::Count,
            Self::HostCallRate | Self::LogRate => Measure::Rate,
        }
    }

    /// Its value when nobody says otherwise, in the base unit of its measure.
    #[must_use]
    pub fn default_value(self) -> u64 {
        match self {
            Self::Cpu => 2_000,
            Self::QuestionTime => 60_000,
            Self::OperationTime => 30 * 60_000,
            Self::IdleTime => 150_000,
            Self::Memory => 256 << 20,
            Self::HostCalls => 100_000,
            Self::HostCallRate => 10_000,
            Self::HostCallsInFlight => 256,
            Self::HostCallBytes => 8 << 20,
            Self::Handles => 1_024,
            Self::LogRate => 100,
            Self::PluginSize => 64 << 20,
        }
    }

    /// What no configuration goes beyond: a 32-bit memory, a year, what fits the counters.
    fn ceiling(self) -> u64 {
        match self.measure() {
            Measure::Time => 366 * 24 * 3_600_000,
            Measure::Bytes => 4 << 30,
            Measure::Count | Measure::Rate => 1 << 30,
        }
    }

    /// What it bounds, for people.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Cpu => {
                "time the plugin itself computes in one call; what the host does for it does not count"
            }
            Self::QuestionTime => "all the time of a call that changes nothing",
            Self::OperationTime => "all the time of a call that may change something",
            Self::IdleTime => {
                "time of a call without a host call, a line of progress or an engine at work"
            }
            Self::Memory => "memory of one call",
            Self::HostCalls => "host calls of one call in all",
            Self::HostCallRate => "host calls of one call in a second",
            Self::HostCallsInFlight => "host calls of one call at the same time",
            Self::HostCallBytes => "bytes that one host call carries in either direction",
            Self::Handles => "handles of one call that are open at the same time",
            Self::LogRate => {
                "log lines of one call in a second; lines beyond it are counted and dropped"
            }
            Self::PluginSize => "size of the plugin's file",
        }
    }

    /// A value of this bound as people read it.
    #[must_use]
    pub fn show(self, value: u64) -> String {
        match self.measure() {
            Measure::Time => show_time(value),
            Measure::Bytes => show_bytes(value),
            Measure::Count => value.to_string(),
            Measure::Rate => format!("{value} a second"),
        }
    }

    fn read(self, text: &str) -> Result<u64, BoundsError> {
        let wrong = || BoundsError::Unreadable {
            bound: self.name(),
            text: text.to_owned(),
            example: match self.measure() {
                Measure::Time => "30s",
                Measure::Bytes => "256MiB",
                Measure::Count | Measure::Rate => "1000",
            },
        };
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor = match (self.measure(), unit.trim()) {
            (Measure::Time, "ms")
            | (Measure::Bytes, "" | "B")
            | (Measure::Count, "")
            | (Measure::Rate, "" | "/s") => 1,
            (Measure::Time, "s") => 1_000,
            (Measure::Time, "m" | "min") => 60_000,
            (Measure::Time, "h") => 3_600_000,
            (Measure::Bytes, "kB" | "KB") => 1_000,
            (Measure::Bytes, "KiB") => 1 << 10,
            (Measure::Bytes, "MB") => 1_000_000,
            (Measure::Bytes, "MiB") => 1 << 20,
            (Measure::Bytes, "GB") => 1_000_000_000,
            (Measure::Bytes, "GiB") => 1 << 30,
            (Measure::Time | Measure::Bytes | Measure::Count | Measure::Rate, _) => {
                return Err(wrong());
            }
        };
        let value = number.checked_mul(factor).ok_or_else(wrong)?;
        if value == 0 || value > self.ceiling() {
            return Err(BoundsError::OutOfRange {
                bound: self.name(),
                text: text.to_owned(),
                ceiling: self.show(self.ceiling()),
            });
        }
        Ok(value)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The bounds in force for a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    set: BTreeMap<Bound, u64>,
}

/// A bound as `plugin inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its name.
    pub name: &'static str,
    /// Its value in force, in the base unit of its measure.
    pub value: u64,
    /// Its default, in the same unit.
    pub default: u64,
    /// The base unit: `ms`, `bytes`, `` or `a second`.
    pub unit: &'static str,
    /// Its value in force, for people.
    pub shown: String,
    /// What it bounds.
    pub meaning: &'static str,
}

/// Why a configuration of bounds was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundsError {
    /// There is no such bound.
    #[error("no bound `{0}`; the bounds are {all}", all = names())]
    Unknown(String),
    /// The value is no number with a unit of this bound.
    #[error("bound `{bound}`: cannot read `{text}`, write it like `{example}`")]
    Unreadable {
        /// The bound.
        bound: &'static str,
        /// What was written.
        text: String,
        /// How it may be written.
        example: &'static str,
    },
    /// The value is 0 or more than can be.
    #[error("bound `{bound}`: `{text}` is not between 1 and {ceiling}")]
    OutOfRange {
        /// The bound.
        bound: &'static str,
        /// What was written.
        text: String,
        /// The most it can be.
        ceiling: String,
    },
}

fn names() -> String {
    let names: Vec<_> = Bound::ALL.iter().map(|bound| format!("`{bound}`")).collect();
    names.join(", ")
}

impl Bounds {
    /// The bounds that an operator wrote down, as names and values (`memory` and `512MiB`, `idle-time` and `5min`); the others have their defaults.
    ///
    /// # Errors
    /// An unknown name, or a value that is unreadable or out of range.
    pub fn parse<N: AsRef<str>, V: AsRef<str>>(
        written: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, BoundsError> {
        let mut bounds = Self::default();
        for (name, value) in written {
            let bound = Bound::named(name.as_ref())
                .ok_or_else(|| BoundsError::Unknown(name.as_ref().to_owned()))?;
            bounds.set.insert(bound, bound.read(value.as_ref())?);
        }
        Ok(bounds)
    }

    /// The same with one bound at this value, in the base unit of its measure.
    #[must_use]
    pub fn with(mut self, bound: Bound, value: u64) -> Self {
        self.set.insert(bound, value.clamp(1, bound.ceiling()));
        self
    }

    /// The same with what a plugin asks for: a bound that the operator did not write down comes down to it, and none goes up.
    #[must_use]
    pub fn lowered(mut self, asked: impl IntoIterator<Item = (Bound, u64)>) -> Self {
        for (bound, value) in asked {
            self.set.entry(bound).or_insert_with(|| value.clamp(1, bound.default_value()));
        }
        self
    }

    /// The value of a bound, in the base unit of its measure.
    #[must_use]
    pub fn get(&self, bound: Bound) -> u64 {
        self.set.get(&bound).copied().unwrap_or_else(|| bound.default_value())
    }

    /// The value of a bound of time.
    #[must_use]
    pub fn time(&self, bound: Bound) -> Duration {
        Duration::from_millis(self.get(bound))
    }

    /// All bounds, as `plugin inspect` shows them.
    #[must_use]
    pub fn inspect(&self) -> Vec<Inspected> {
        Bound::ALL
            .into_iter()
            .map(|bound| Inspected {
                name: bound.name(),
                value: self.get(bound),
                default: bound.default_value(),
                unit: match bound.measure() {
                    Measure::Time => "ms",
                    Measure::Bytes => "bytes",
                    Measure::Count => "",
                    Measure::Rate => "a second",
                },
                shown: bound.show(self.get(bound)),
                meaning: bound.meaning(),
            })
            .collect()
    }

    /// The error of going over a bound: its name, its value, how to raise it.
    pub(crate) fn over(&self, bound: Bound) -> OverLimit {
        OverLimit { bound: bound.name().to_owned(), value: bound.show(self.get(bound)) }
    }

    /// What the layer chain holds a call to.
    pub(crate) fn limits(&self) -> Limits {
        let count = |bound| u32::try_from(self.get(bound)).unwrap_or(u32::MAX);
        Limits {
            host_calls: self.get(Bound::HostCalls),
            host_call_rate: count(Bound::HostCallRate),
            host_calls_in_flight: count(Bound::HostCallsInFlight),
            host_call_bytes: self.get(Bound::HostCallBytes),
        }
    }
}

fn show_time(milliseconds: u64) -> String {
    match milliseconds {
        ms if ms % 60_000 == 0 && ms >= 5 * 60_000 => format!("{} min", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

fn show_bytes(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{} {unit}", bytes / size);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_with_units_and_leaves_the_rest_at_its_default() {
        let bounds = Bounds::parse([
            ("cpu", "500ms"),
            ("operation-time", "2h"),
            ("idle-time", "5 min"),
            ("memory", "512MiB"),
            ("log-rate", "7/s"),
        ])
        .unwrap();
        assert_eq!(bounds.time(Bound::Cpu), Duration::from_millis(500));
        assert_eq!(bounds.time(Bound::OperationTime), Duration::from_secs(7200));
        assert_eq!(bounds.time(Bound::IdleTime), Duration::from_secs(300));
        assert_eq!(bounds.get(Bound::Memory), 512 << 20);
        assert_eq!(bounds.get(Bound::LogRate), 7);
        assert_eq!(bounds.get(Bound::Handles), 1024);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let error =
            |name: &str, value: &str| Bounds::parse([(name, value)]).unwrap_err().to_string();
        assert_eq!(
            error("idle-time", "150"),
            "bound `idle-time`: cannot read `150`, write it like `30s`"
        );
        assert_eq!(error("memory", "5GiB"), "bound `memory`: `5GiB` is not between 1 and 4 GiB");
        assert_eq!(error("handles", "0"), "bound `handles`: `0` is not between 1 and 1073741824");
        assert_eq!(
            error("memory", "lots"),
            "bound `memory`: cannot read `lots`, write it like `256MiB`"
        );
        assert!(error("fuel", "1").starts_with("no bound `fuel`; the bounds are `cpu`, "));
    }

    #[test]
    fn a_plugin_lowers_what_the_operator_left_open_and_raises_nothing() {
        let operator = Bounds::parse([("memory", "512MiB")]).unwrap();
        let bounds = operator.lowered([
            (Bound::Memory, 1 << 20),
            (Bound::Cpu, 60_000),
            (Bound::HostCalls, 10),
        ]);
        assert_eq!(bounds.get(Bound::Memory), 512 << 20);
        assert_eq!(bounds.get(Bound::Cpu), 2_000);
        assert_eq!(bounds.get(Bound::HostCalls), 10);
    }

    #[test]
    fn every_bound_is_shown_with_its_value_default_and_meaning() {
        let shown = Bounds::default().inspect();
        let lines: Vec<_> =
            shown.iter().map(|bound| format!("{} {}", bound.name, bound.shown)).collect();
        assert_eq!(
            lines,
            [
                "cpu 2 s",
                "question-time 60 s",
                "operation-time 30 min",
                "idle-time 150 s",
                "memory 256 MiB",
                "host-calls 100000",
                "host-call-rate 10000 a second",
                "host-calls-in-flight 256",
                "host-call-bytes 8 MiB",
                "handles 1024",
                "log-rate 100 a second",
                "plugin-size 64 MiB",
            ]
        );
        assert!(
            shown.iter().all(|bound| !bound.meaning.is_empty() && bound.value == bound.default)
        );
    }

    #[test]
    fn going_over_says_which_bound_its_value_and_how_to_raise_it() {
        assert_eq!(
            Bounds::default().over(Bound::Memory).to_string(),
            "over the limit `memory` of 256 MiB: raise `limits.memory` of the provisioner in the configuration"
        );
    }
}
