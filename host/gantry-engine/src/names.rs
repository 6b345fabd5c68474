//! Names: those that nobody else has, and what may stand in the path of a request. Everything else is refused before anything is sent: a name is never a way to another address of the API.

use crate::EngineError;
use crate::containers::Result;

/// 16 letters that nobody else has.
pub(crate) fn unique() -> Result<String> {
    let random = getrandom::u64().map_err(|error| {
        EngineError::Failed(format!("the machine gives no random numbers: {error}"))
    })?;
    Ok(format!("{random:016x}"))
}

/// An id, a prefix of one, or a name.
pub(crate) fn container(text: &str) -> Result<()> {
    if is_word(text) {
        return Ok(());
    }
    Err(EngineError::Invalid(format!("`{text}` is no name of a container")))
}

/// A name for a new container: Docker wants two characters or more.
pub(crate) fn new_container(text: &str) -> Result<()> {
    if is_word(text) && text.len() > 1 {
        return Ok(());
    }
    Err(EngineError::Invalid(format!(
        "`{text}` is no name for a container: it has two or more letters, digits, `_`, `.` or `-`, \
         the first a letter or digit"
    )))
}

/// The id of a prepared command.
pub(crate) fn exec(text: &str) -> Result<()> {
    if is_word(text) {
        return Ok(());
    }
    Err(EngineError::Invalid(format!("`{text}` is no id of an exec")))
}

/// The name or id of an image.
pub(crate) fn image(text: &str) -> Result<()> {
    let parts = || text.split('/');
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-:@".contains(letter);
    if parts().all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(allowed)
    }) {
        return Ok(());
    }
    Err(EngineError::Invalid(format!("`{text}` is no name of an image")))
}

/// A port of a container that can be asked over HTTP (`8888/tcp`).
pub(crate) fn tcp_port(text: &str) -> Result<()> {
    let number = text.strip_suffix("/tcp").and_then(|number| number.parse::<u16>().ok());
    if number.is_some_and(|number| number != 0) {
        return Ok(());
    }
    Err(EngineError::Invalid(format!(
        "`{text}` is no port to ask a container at: it is like `8888/tcp`"
    )))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_way_to_another_address() {
        for text in ["", "/", "..", ".", "a/b", "a?b", "a#b", "a%2fb", "é", "a b", "-a", "a\n"] {
            assert!(container(text).is_err(), "{text:?}");
            assert!(exec(text).is_err(), "{text:?}");
        }
        for text in
            ["", "/a", "a//b", "a/../b", "a/./b", "a?b", "a#b", "a b", "../images/a", "a%2fb"]
        {
            assert!(image(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_port_that_is_asked_speaks_tcp() {
        assert!(tcp_port("8888/tcp").is_ok());
        for text in ["1/udp", "1/sctp", "1", "", "/tcp", "0/tcp", "70000/tcp", "1/tcp/udp"] {
            assert!(tcp_port(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_docker_takes_is_taken() {
        for text in ["web-1", "a", "0f", "a_b.c", "A"] {
            assert!(container(text).is_ok(), "{text:?}");
        }
        assert!(new_container("a").is_err());
        for text in ["a", "a:b", "h:1/a/b:v1", "sha256:00ff", "h.example/a@sha256:00", "A/b"] {
            assert!(image(text).is_ok(), "{text:?}");
        }
    }
}
