//! What the two ends of a shell say to each other, over a websocket.
//!
//! Binary messages are bytes, the first of which tells where they belong ([`STDIN`], [`STDOUT`], [`STDERR`]). Text messages are [`Control`].

use serde::{Deserialize, Serialize};

use super::Problem;

/// What the caller types.
pub const STDIN: u8 = 0;

/// What the shell says.
pub const STDOUT: u8 = 1;

/// What the shell complains about; a terminal has no such end of its own.
pub const STDERR: u8 = 2;

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Its columns.
    pub width: u16,
    /// Its rows.
    pub height: u16,
}

/// What is not bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// The caller's terminal has another size now.
    Resize(TerminalSize),
    /// The shell ended with this code; nothing comes after it.
    Exit(i32),
    /// The shell broke, or nobody knows how it ended; nothing comes after it.
    Problem(Box<Problem>),
}

impl Control {
    /// As it is sent.
    #[must_use]
    pub fn text(&self) -> String {
        // Plain records: they have no way to fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Bytes as they are sent.
#[must_use]
pub fn frame(channel: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(bytes.len().saturating_add(1));
    frame.push(channel);
    frame.extend_from_slice(bytes);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ProblemKind;

    #[test]
    fn control_is_one_object_with_one_key() {
        let size = TerminalSize { width: 80, height: 24 };
        let problem = Problem::new(ProblemKind::Unavailable, "lost");
        for (control, text) in [
            (Control::Resize(size), r#"{"resize":{"width":80,"height":24}}"#),
            (Control::Exit(-1), r#"{"exit":-1}"#),
            (
                Control::Problem(Box::new(problem)),
                r#"{"problem":{"type":"urn:gantry:problem:unavailable","title":"lost","status":502}}"#,
            ),
        ] {
            assert_eq!(control.text(), text);
            assert_eq!(serde_json::from_str::<Control>(text).unwrap(), control);
        }
        assert_eq!(frame(STDIN, b"ls"), b"\0ls");
    }
}
