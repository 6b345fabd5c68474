//! Several errors as one.

use std::error::Error as StdError;
use std::fmt;

use super::BoxError;

/// Several errors as one, in order. Displayed, each has a line of its own; [`MultiError::one_line`] is the form for a line of progress. One error displays as itself.
///
/// It has no source: an error inside does not decide what the whole is.
#[derive(Debug, Default)]
pub struct MultiError {
    errors: Vec<BoxError>,
}

impl MultiError {
    /// These errors as one.
    #[must_use]
    pub fn new(errors: Vec<BoxError>) -> Self {
        Self { errors }
    }

    /// Adds one more.
    pub fn push(&mut self, error: impl Into<BoxError>) {
        self.errors.push(error.into());
    }

    /// The errors.
    #[must_use]
    pub fn errors(&self) -> &[BoxError] {
        &self.errors
    }

    /// Fine when there is no error, the error itself when there is one, and else all of them.
    ///
    /// # Errors
    ///
    /// What was added.
    pub fn into_result(mut self) -> Result<(), BoxError> {
        match (self.errors.pop(), self.errors.is_empty()) {
            (None, _) => Ok(()),
            (Some(only), true) => Err(only),
            (Some(last), false) => {
                self.errors.push(last);
                Err(Box::new(self))
            }
        }
    }

    /// All errors in one line.
    #[must_use]
    pub fn one_line(&self) -> String {
        if self.errors.len() < 2 {
            return self.to_string();
        }
        let errors: Vec<String> = self
            .errors
            .iter()
            .enumerate()
            .map(|(index, error)| format!("error {index}: {error}"))
            .collect();
        format!("multiple errors reported ({}): {}", errors.len(), errors.join(" - "))
    }
}

impl fmt::Display for MultiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors.as_slice() {
            [] => formatter.write_str("multi error created but no errors added"),
            [only] => only.fmt(formatter),
            errors => {
                writeln!(formatter, "multiple errors reported ({}):", errors.len())?;
                errors
                    .iter()
                    .enumerate()
                    .try_for_each(|(index, error)| writeln!(formatter, "error #{index}: {error}"))
            }
        }
    }
}

impl StdError for MultiError {}
