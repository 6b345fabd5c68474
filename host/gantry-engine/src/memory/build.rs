//! Builds in memory: the part of a Dockerfile that makes an image without running anything.

use std::collections::BTreeMap;

use gantry_core::container::Empty;

use super::files::Files;
use super::machine::{Machine, Picture};
use crate::EngineError;
use crate::call::BuildOptions;
use crate::containers::Result;

/// Follows a Dockerfile and gives the lines a build would write.
pub(super) fn build(
    machine: &mut Machine,
    options: &BuildOptions,
    context: &[u8],
) -> Result<String> {
    crate::names::image(&options.name)?;
    let mut files = Files::default();
    files.unpack("/", context)?;
    let path = if options.dockerfile.is_empty() { "Dockerfile" } else { &options.dockerfile };
    let dockerfile = files.read(path).map(String::from_utf8_lossy).ok_or_else(|| {
        EngineError::Failed(format!("the build of `{}` has no `{path}`", options.name))
    })?;
    let steps: Vec<&str> = dockerfile
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut image: Option<Picture> = None;
    let mut told = String::new();
    for (index, step) in steps.iter().enumerate() {
        let line = format!("Step {}/{} : {step}\n", index.saturating_add(1), steps.len());
        told.push_str(&line);
        let (word, rest) = step.split_once(char::is_whitespace).unwrap_or((step, ""));
        let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
        match (&mut image, word.as_str()) {
            (None, "FROM") if rest == "scratch" => image = Some(Picture::default()),
            (None, "FROM") => image = Some(machine.image(rest)?.clone()),
            (Some(image), word) => follow(image, &files, word, rest)?,
            (None, _) => return Err(refused(options, "it does not begin with FROM")),
        }
    }
    let image = image.ok_or_else(|| refused(options, "it is empty"))?;
    let created_by = steps.last().copied().unwrap_or_default();
    let id = machine.add_image(image, created_by, &options.name);
    let short: String = id.trim_start_matches("sha256:").chars().take(12).collect();
    told.push_str(&format!("Successfully built {short}\nSuccessfully tagged {}\n", options.name));
    Ok(told)
}

fn refused(options: &BuildOptions, why: &str) -> EngineError {
    EngineError::Invalid(format!("the Dockerfile of `{}` is no Dockerfile: {why}", options.name))
}

fn follow(image: &mut Picture, context: &Files, word: &str, rest: &str) -> Result<()> {
    let config = &mut image.config;
    match word {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "USER" => rest.clone_into(&mut config.user),
        "WORKDIR" => rest.clone_into(&mut config.working_dir),
        "ENV" => {
            let (name, value) = pair(rest);
            let env = config.env.get_or_insert_default();
            env.retain(|set| set.split('=').next() != Some(name.as_str()));
            env.push(format!("{name}={value}"));
        }
        "LABEL" => config.labels.get_or_insert_with(BTreeMap::new).extend([pair(rest)]),
        "EXPOSE" => {
            let port = if rest.contains('/') { rest.to_owned() } else { format!("{rest}/tcp") };
            config.exposed_ports.get_or_insert_with(BTreeMap::new).insert(port, Empty {});
        }
        "COPY" => {
            let (source, target) = rest.split_once(char::is_whitespace).unwrap_or((rest, "/"));
            if !image.files.copy(context, source, target.trim()) {
                return Err(EngineError::Failed(format!(
                    "COPY failed: no `{source}` in the context of the build"
                )));
            }
        }
        _ => {
            return Err(EngineError::Failed(format!(
                "the in-memory engine does not follow `{word}`: nothing runs in it"
            )));
        }
    }
    Ok(())
}

/// A list in JSON, or a line for the shell.
fn command(rest: &str) -> Vec<String> {
    serde_json::from_str(rest)
        .unwrap_or_else(|_| vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.to_owned()])
}

fn pair(rest: &str) -> (String, String) {
    let (name, value) = rest.split_once(['=', ' ']).unwrap_or((rest, ""));
    (name.to_owned(), value.trim_matches('"').to_owned())
}
