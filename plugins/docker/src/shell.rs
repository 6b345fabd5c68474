//! The shell of an image: bash where the image has it, and else sh, remembered per image (design 10.15). Settings of a login shell are read in both.

use gantry_sdk::containers::{Client, EngineError, ExecOptions};
use gantry_sdk::{Result, state};

use crate::keys;

pub(crate) const BASH: &str = "/bin/bash";
const SH: &str = "/bin/sh";

/// Where the shells of images are remembered.
const ALL: &str = "shells/";

/// So many are remembered; an image that was forgotten is looked into again.
const KEPT: u32 = 500;
/// So many are forgotten at once when there are more.
const FORGOTTEN: usize = 50;

/// The shell of the image that a container was made of; the container need not run.
pub(crate) fn of_image(client: &Client, container: &str, image_id: &str) -> Result<String> {
    if let Some(shell) = remembered(image_id)? {
        return Ok(shell);
    }
    let shell = match client.stat_path(container, BASH) {
        Ok(_) => BASH,
        Err(EngineError::NotFound(_)) => SH,
        Err(error) => return Err(error.into()),
    };
    remember(image_id, shell)?;
    Ok(shell.to_owned())
}

/// The shell of an image, when somebody has looked before.
pub(crate) fn remembered(image_id: &str) -> Result<Option<String>> {
    if image_id.is_empty() {
        return Ok(None);
    }
    let entry = state::get(&key(image_id))?;
    Ok(entry.and_then(|entry| String::from_utf8(entry.value).ok()))
}

fn remember(image_id: &str, shell: &str) -> Result<()> {
    if image_id.is_empty() {
        return Ok(());
    }
    let there = state::list(ALL, None, KEPT)?;
    if there.next.is_some() {
        for entry in there.entries.iter().take(FORGOTTEN) {
            keys::unless_faster(state::delete_if(&entry.key, entry.version))?;
        }
    }
    // Another call may be faster; an image has one answer only.
    keys::unless_faster(state::put_if(&key(image_id), shell.as_bytes(), None))?;
    Ok(())
}

fn key(image_id: &str) -> String {
    format!("{ALL}{image_id}")
}

/// A command in that shell; the arguments are its positional parameters, from `$0` on.
pub(crate) fn exec(shell: &str, command: &str, args: &[String]) -> ExecOptions {
    let start = [shell, "-lc", command].map(str::to_owned);
    ExecOptions {
        command: start.into_iter().chain(args.iter().cloned()).collect(),
        env: Vec::new(),
        user: String::new(),
        working_dir: String::new(),
        tty: false,
        stdin: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_its_arguments() {
        let options = exec(BASH, "ls", &["-l".to_owned()]);
        assert_eq!(options.command, ["/bin/bash", "-lc", "ls", "-l"]);
    }
}
