//! What a chain of errors comes down to, in the words of our messages: fragments that begin small.

use std::error::Error as StdError;
use std::io;

/// The first error of a type in a chain.
pub(crate) fn find<'a, T: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// What the system says at the end of a chain of errors.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    if let Some(error) = last.downcast_ref::<io::Error>() {
        return io_reason(error);
    }
    lowered(&last.to_string())
}

/// The system's words without its number.
pub(crate) fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    lowered(text.split(" (os error").next().unwrap_or(&text))
}

/// A fragment: its first letter small unless it begins a word in capitals.
pub(crate) fn lowered(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}
