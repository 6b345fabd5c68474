//! A plugin in its own words.

/// What a plugin tells about itself when it is loaded.
///
/// ```
/// use gantry_sdk::Description;
///
/// let description = Description::new("acme", "1.0.0", "Runs units on Acme's machines.")
///     .grant("images:tag", "names the image of each deploy")
///     .limit("memory", 64 << 20, "keeps the list of machines");
/// assert_eq!(description.grants.len(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name. The operator may install it under another.
    pub name: String,
    /// Its version, as semantic versioning spells it.
    pub version: String,
    /// What it is, one line.
    pub summary: String,
    /// The rights it asks for, beyond its own containers and keys.
    pub grants: Vec<GrantRequest>,
    /// The bounds it needs otherwise than the host's defaults.
    pub limits: Vec<LimitRequest>,
}

/// A right that a plugin asks for. It is in force only when the operator grants it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRequest {
    /// The grant (`images:remove`).
    pub grant: String,
    /// What it is needed for, one sentence for the operator.
    pub reason: String,
}

/// A bound that a plugin needs otherwise. The operator's configuration has the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRequest {
    /// The bound, as the configuration spells it (`memory`).
    pub name: String,
    /// The value, in the bound's own unit.
    pub value: u64,
    /// Why, one sentence for the operator.
    pub reason: String,
}

impl Description {
    /// A plugin that asks for nothing.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        version: impl Into<String>,
        summary: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            summary: summary.into(),
            grants: Vec::new(),
            limits: Vec::new(),
        }
    }

    /// Asks for one more right.
    #[must_use]
    pub fn grant(mut self, grant: impl Into<String>, reason: impl Into<String>) -> Self {
        self.grants.push(GrantRequest { grant: grant.into(), reason: reason.into() });
        self
    }

    /// Asks for one more bound.
    #[must_use]
    pub fn limit(mut self, name: impl Into<String>, value: u64, reason: impl Into<String>) -> Self {
        self.limits.push(LimitRequest { name: name.into(), value, reason: reason.into() });
        self
    }
}
