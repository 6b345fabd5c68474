//! Lines for the operator's log. What the people who wait should read goes to [`crate::operation::progress`].

pub use crate::bindings::gantry::provision::log::Level;

use crate::bindings::gantry::provision::log as imported;

/// Writes a line with its fields. Lines beyond the rate that the host allows are counted and dropped.
pub fn write(level: Level, message: &str, fields: &[(&str, &str)]) {
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    imported::write(level, message, &fields);
}

/// What was decided and why.
pub fn debug(message: &str, fields: &[(&str, &str)]) {
    write(Level::Debug, message, fields);
}

/// What happened.
pub fn info(message: &str, fields: &[(&str, &str)]) {
    write(Level::Info, message, fields);
}

/// What went wrong and was dealt with.
pub fn warn(message: &str, fields: &[(&str, &str)]) {
    write(Level::Warn, message, fields);
}

/// What went wrong.
pub fn error(message: &str, fields: &[(&str, &str)]) {
    write(Level::Error, message, fields);
}
