//! Finding a node by what names it.

use std::collections::HashMap;
use std::error::Error as StdError;

use crate::error::{BoxError, MultiError};
use crate::url::url_to_host;

/// Why no node was found.
#[derive(Debug, thiserror::Error)]
pub enum NodeLookupError {
    /// Nothing has the address.
    #[error("node not found")]
    NotFound,
    /// The addresses belong to different nodes.
    #[error("addrs match multiple nodes: [{}]", .0.join(" "))]
    Ambiguous(Vec<String>),
    /// Provisioners that failed to answer, while no other knew the node.
    #[error(transparent)]
    Failed(MultiError),
}

/// Which of these nodes, given by their addresses, has one of `addrs`. Only hosts are compared; of two nodes on one host the last counts.
///
/// Differs from the reference on purpose (design 10.2): two addresses of the same node are that node, not an ambiguity.
///
/// # Errors
///
/// None, or different ones.
pub fn find_node_by_addrs<N: AsRef<str>, A: AsRef<str>>(
    nodes: &[N],
    addrs: &[A],
) -> Result<usize, NodeLookupError> {
    let hosts: HashMap<String, usize> =
        nodes.iter().enumerate().map(|(index, node)| (url_to_host(node.as_ref()), index)).collect();
    let mut matches = addrs.iter().filter_map(|addr| hosts.get(&url_to_host(addr.as_ref())));
    let found = *matches.next().ok_or(NodeLookupError::NotFound)?;
    if matches.all(|other| *other == found) {
        Ok(found)
    } else {
        let addrs = addrs.iter().map(|addr| addr.as_ref().to_owned()).collect();
        Err(NodeLookupError::Ambiguous(addrs))
    }
}

/// A search for a node over several provisioners, each asked in turn: one that does not know the node is passed, one that fails is remembered, the first that knows it
/// ends the search.
#[derive(Debug, Default)]
pub struct NodeSearch {
    skipped: String,
    failures: Vec<BoxError>,
}

impl NodeSearch {
    /// A search that leaves out the provisioner with this name; an empty name leaves out none.
    #[must_use]
    pub fn skipping(provisioner: &str) -> Self {
        Self { skipped: provisioner.to_owned(), failures: Vec::new() }
    }

    /// Whether to ask the provisioner with this name.
    #[must_use]
    pub fn asks(&self, provisioner: &str) -> bool {
        self.skipped.is_empty() || self.skipped != provisioner
    }

    /// Takes a provisioner's answer; gives the node when that ends the search.
    pub fn take<N, E: StdError + Send + Sync + 'static>(
        &mut self,
        answer: Result<Option<N>, E>,
    ) -> Option<N> {
        answer.unwrap_or_else(|failure| {
            self.failures.push(Box::new(failure));
            None
        })
    }

    /// Why nobody gave the node.
    #[must_use]
    pub fn into_error(self) -> NodeLookupError {
        if self.failures.is_empty() {
            NodeLookupError::NotFound
        } else {
            NodeLookupError::Failed(MultiError::new(self.failures))
        }
    }
}
