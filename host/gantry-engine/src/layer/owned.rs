//! What is known to be whose: full ids of containers that carried an owner's marks when they were last seen, and the names they answer to.
//!
//! Only positive answers are kept. A mark cannot be taken off a container, so they stay true as long as the container is there; one that has gone is found out by the engine.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Scope;

/// So many containers of one owner on one node are remembered; then it starts over.
const CAPACITY: usize = 65_536;

/// What is known to be owned, per owner and node.
#[derive(Debug, Default)]
pub struct Owned {
    nodes: Mutex<HashMap<String, Node>>,
}

#[derive(Debug, Default)]
struct Node {
    ids: HashSet<String>,
    /// Names and prefixes that were asked for, and the ids they stand for.
    aliases: HashMap<String, String>,
}

impl Owned {
    /// Whether the container with this full id is known to be the scope's own.
    pub(crate) fn contains(&self, scope: &Scope, node: &str, id: &str) -> bool {
        self.lock().get(&key(scope, node)).is_some_and(|node| node.ids.contains(id))
    }

    /// The full id of an own container that is known by this id, name or prefix.
    pub(crate) fn resolve(&self, scope: &Scope, node: &str, text: &str) -> Option<String> {
        let nodes = self.lock();
        let node = nodes.get(&key(scope, node))?;
        // As the engine does it: an id before a name, a name before a prefix (which is never there beside its name).
        match node.ids.get(text) {
            Some(id) => Some(id.clone()),
            None => node.aliases.get(text).cloned(),
        }
    }

    pub(crate) fn insert(&self, scope: &Scope, node: &str, id: &str) {
        let mut nodes = self.lock();
        let node = nodes.entry(key(scope, node)).or_default();
        if node.ids.len() >= CAPACITY {
            *node = Node::default();
        }
        if !node.ids.contains(id) {
            node.ids.insert(id.to_owned());
        }
    }

    /// Remembers another word for a container; the last one told wins.
    pub(crate) fn name(&self, scope: &Scope, node: &str, text: &str, id: &str) {
        if text.is_empty() || text == id {
            return;
        }
        let mut nodes = self.lock();
        let node = nodes.entry(key(scope, node)).or_default();
        if node.aliases.len() >= CAPACITY {
            node.aliases.clear();
        }
        if node.ids.contains(id) && node.aliases.get(text).is_none_or(|known| known != id) {
            node.aliases.insert(text.to_owned(), id.to_owned());
        }
    }

    pub(crate) fn forget(&self, scope: &Scope, node: &str, id: &str) {
        if let Some(node) = self.lock().get_mut(&key(scope, node))
            && node.ids.remove(id)
        {
            node.aliases.retain(|_, known| known != id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(scope: &Scope, node: &str) -> String {
    // No name of a provisioner or an installation has a line feed.
    [&*scope.provisioner, &*scope.instance, node].join("\n")
}
