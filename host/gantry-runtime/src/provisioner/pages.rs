//! A list that a plugin gives in pages, put together.

use std::sync::Arc;

use crate::host::streams::{Held, Holding};

/// The most pages that are asked for, and the most entries in them: a plugin that never says which page is the last ends here.
const PAGES: usize = 1_000;
const ENTRIES: usize = 100_000;

/// What the pages gave so far. All of them together are held like anything else that the host keeps for a call.
pub(super) struct Pages<T> {
    function: &'static str,
    entries: &'static str,
    all: Vec<T>,
    holding: Vec<Holding>,
    after: Option<String>,
}

impl<T> Pages<T> {
    /// No page yet of what this function of the plugin lists.
    pub(super) fn new(function: &'static str, entries: &'static str) -> Self {
        Self { function, entries, all: Vec::new(), holding: Vec::new(), after: None }
    }

    /// Where the next page starts.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Everything.
    pub(super) fn all(self) -> Vec<T> {
        self.all
    }

    /// Takes a page that weighs this much, and says whether it was the last.
    pub(super) fn add(
        &mut self,
        held: &Arc<Held>,
        bytes: usize,
        page: impl IntoIterator<Item = T>,
        next: Option<String>,
    ) -> wasmtime::Result<bool> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.holding.push(held.hold(bytes).map_err(wasmtime::Error::new)?);
        self.all.extend(page);
        match next {
            None => return Ok(true),
            Some(next) if self.after.as_deref() == Some(&next) => {
                return Err(self.endless(format!("that `{next}` comes after `{next}`")));
            }
            Some(next) => self.after = Some(next),
        }
        if self.all.len() >= ENTRIES {
            let entries = self.entries;
            return Err(self.endless(format!("that more come after {ENTRIES} {entries}")));
        }
        if self.holding.len() >= PAGES {
            return Err(self.endless(format!("that more come after {PAGES} pages")));
        }
        Ok(false)
    }

    /// A plugin whose pages have no end.
    fn endless(&self, what: String) -> wasmtime::Error {
        wasmtime::Error::msg(format!("`{}` says {what}", self.function))
    }
}
