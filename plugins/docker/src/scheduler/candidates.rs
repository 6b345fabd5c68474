//! The nodes of a pool, and why there is none.

use std::collections::BTreeMap;
use std::fmt;

use gantry_sdk::quote;

/// The metadata that names the pool of a node.
pub(super) const POOL: &str = "pool";

/// A node, as far as the scheduler looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its address.
    pub address: String,
    /// Its metadata, the pool among it.
    pub metadata: BTreeMap<String, String>,
    /// Whether it takes new units.
    pub enabled: bool,
}

/// Why there is no place for a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// There is no enabled node at all.
    NoNode,
    /// The pool has no enabled node.
    EmptyPool(String),
    /// None of the nodes that would do is among those allowed.
    NoneAllowed,
    /// No node has as much memory left as a unit of the app needs.
    Memory {
        /// The app.
        app: String,
        /// What one unit needs, in bytes.
        bytes: i64,
    },
}

impl fmt::Display for NoPlace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode => {
                out.write_str("There is no Docker node. Add one with `gantry node add`")
            }
            Self::EmptyPool(pool) => {
                write!(out, "No nodes found with one of the following metadata: pool={pool}")
            }
            Self::NoneAllowed => out.write_str("none of the allowed nodes can take the unit"),
            Self::Memory { app, bytes } => {
                let app = quote(app);
                let megabytes = in_megabytes(*bytes);
                write!(
                    out,
                    "no nodes found with enough memory for container of {app}: {megabytes:.4}MB"
                )
            }
        }
    }
}

impl std::error::Error for NoPlace {}

#[expect(clippy::cast_precision_loss, reason = "shown with four digits")]
fn in_megabytes(bytes: i64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// The enabled nodes of a pool (of all pools without one: what belongs to no app goes anywhere), in their order; only those at `allowed` addresses when there is such a list.
///
/// # Errors
///
/// There is none.
pub fn candidates<'a>(
    nodes: &'a [Node],
    pool: Option<&str>,
    allowed: Option<&[String]>,
) -> Result<Vec<&'a Node>, NoPlace> {
    let in_pool = |node: &Node| pool.is_none_or(|pool| is(node, POOL, pool));
    let mut found: Vec<&Node> = nodes.iter().filter(|node| node.enabled && in_pool(node)).collect();
    if found.is_empty() {
        let empty = |pool: &str| NoPlace::EmptyPool(pool.to_owned());
        return Err(pool.map_or(NoPlace::NoNode, empty));
    }
    if let Some(allowed) = allowed {
        found.retain(|node| allowed.contains(&node.address));
    }
    if found.is_empty() { Err(NoPlace::NoneAllowed) } else { Ok(found) }
}

/// Whether a node has a key with this value.
pub(super) fn is(node: &Node, key: &str, value: &str) -> bool {
    node.metadata.get(key).is_some_and(|found| found == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(address: &str, pool: &str, enabled: bool) -> Node {
        let metadata = BTreeMap::from([(POOL.to_owned(), pool.to_owned())]);
        Node { address: address.to_owned(), metadata, enabled }
    }

    fn addresses(nodes: &[&Node]) -> Vec<String> {
        nodes.iter().map(|node| node.address.clone()).collect()
    }

    #[test]
    fn candidates_are_the_enabled_nodes_of_the_pool_in_order() {
        let nodes = [
            node("d", "p", true),
            node("c", "q", true),
            node("b", "p", false),
            node("a", "p", true),
        ];
        let found = |pool, allowed: Option<&[String]>| candidates(&nodes, pool, allowed);
        assert_eq!(addresses(&found(Some("p"), None).unwrap()), ["d", "a"]);
        assert_eq!(addresses(&found(None, None).unwrap()), ["d", "c", "a"]);
        let allowed = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!(addresses(&found(Some("p"), Some(&allowed)).unwrap()), ["a"]);
        assert_eq!(found(Some("p"), Some(&[])).unwrap_err(), NoPlace::NoneAllowed);
    }

    #[test]
    fn no_candidate_is_explained() {
        let nodes = [node("a", "p", false), node("b", "q", true)];
        assert_eq!(
            candidates(&nodes, Some("p"), None).unwrap_err().to_string(),
            "No nodes found with one of the following metadata: pool=p"
        );
        assert_eq!(
            candidates(&nodes[..1], None, None).unwrap_err().to_string(),
            "There is no Docker node. Add one with `gantry node add`"
        );
        let short = NoPlace::Memory { app: "a".to_owned(), bytes: 50_000 };
        assert_eq!(
            short.to_string(),
            "no nodes found with enough memory for container of \"a\": 0.0477MB"
        );
    }
}
