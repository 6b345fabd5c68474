//! What is known of an image. A cluster does not tell what is in an image, so a plain image is asked itself: a pod of it prints the platform's files, once for each name of an image.

use gantry_sdk::gantry_core::container::Image;
use gantry_sdk::gantry_core::image::{ImageFiles, ImageMetadata};
use gantry_sdk::gantry_core::yaml::{FOLDERS, PROCFILE_NAMES, YAML_NAMES};
use gantry_sdk::{Error, Result, images, operation};
use serde_json::json;

use crate::home::Home;
use crate::object::text;
use crate::service::{Purpose, Site};
use crate::{exec, name, wait};

/// The process of an image that declares none.
const WEB: &str = "web";

/// What comes before the text of each file.
const MARK: &str = "---- gantry file ";

/// What is known of an image, which is asked itself when nobody said.
///
/// # Errors
///
/// The image does not start, or its files cannot be read.
pub(crate) fn metadata(site: &Site<'_>, image: &str) -> Result<ImageMetadata> {
    if let Some(metadata) = images::metadata(image)? {
        return Ok(metadata);
    }
    operation::progress(&format!("---- Looking into the image {image} ----\n"));
    let files = read(site, image)?;
    let metadata = understood(&files)
        .map_err(|error| Error::InvalidArgument(format!("image `{image}`: {error}")))?;
    let data = json!({
        "processes": metadata.processes,
        "hooks": metadata.hooks,
        "healthcheck": metadata.healthcheck,
    });
    match images::save_metadata(image, &data) {
        // Another call was faster, with the same image.
        Err(Error::Conflict(_)) => Ok(images::metadata(image)?.unwrap_or(metadata)),
        result => result.map(|()| metadata),
    }
}

/// What an image told of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Files {
    procfile: Option<String>,
    yaml: Option<String>,
}

/// The rule of plain images, for as much as a pod can tell: without a Procfile the image's own command is the process `web`, which is written as no command at all.
fn understood(
    files: &Files,
) -> std::result::Result<ImageMetadata, gantry_sdk::gantry_core::image::CustomDataError> {
    let unseen = Image::default();
    let files = ImageFiles { procfile: files.procfile.as_deref(), yaml: files.yaml.as_deref() };
    let mut metadata = ImageMetadata::of_plain_image(&unseen, files)?;
    if metadata.processes.is_empty() {
        metadata.processes.insert(WEB.to_owned(), Vec::new());
    }
    Ok(metadata)
}

/// The files that a shell may find, the first of each kind that is there.
fn script() -> String {
    let mut script = String::new();
    for (kind, names) in [("procfile", PROCFILE_NAMES.as_slice()), ("yaml", YAML_NAMES.as_slice())]
    {
        script.push_str("for f in");
        for folder in FOLDERS {
            for name in names {
                script.push_str(&format!(" {}/{name}", folder.trim_end_matches('/')));
            }
        }
        script.push_str(&format!(
            "; do if [ -f \"$f\" ]; then echo '{MARK}{kind}'; while IFS= read -r l || [ -n \"$l\" ]; do printf '%s\\n' \"$l\"; done <\"$f\"; break; fi; done; "
        ));
    }
    script.push_str("exit 0");
    script
}

/// Reads what the script wrote.
fn parsed(output: &str) -> Files {
    let mut files = Files::default();
    let mut place: Option<&mut String> = None;
    for line in output.lines() {
        match line.strip_prefix(MARK) {
            Some("procfile") => place = Some(files.procfile.get_or_insert_default()),
            Some("yaml") => place = Some(files.yaml.get_or_insert_default()),
            Some(_) | None => {
                if let Some(text) = &mut place {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    files
}

fn read(site: &Site<'_>, image: &str) -> Result<Files> {
    let home = site.home;
    site.prepare(image)?;
    let pod = format!("{}-image-inspect", name::clean(&site.app.name));
    let set = site.labels("", 0, Purpose::Build)?;
    let object = site.one_shot(&pod, image, &set, &[]).script(&script());
    let read = exec::run_once(home, &object).and_then(|()| look(home, &pod));
    exec::with_pod_gone(home, &pod, read)
}

fn look(home: &Home, pod: &str) -> Result<Files> {
    let ended = wait::pod_ended(home, pod, home.timeouts.pod_running);
    let ended = match ended {
        // Nothing goes on: the pod goes with this call.
        Err(Error::TimedOut(text)) => return Err(Error::UnitStartup(text)),
        ended => ended?,
    };
    if text(&ended, "/status/phase") == "Failed" {
        // There is no shell in it: then there are no files that somebody wrote for a platform.
        return Ok(Files::default());
    }
    let output = exec::all_lines(home, pod, "")?;
    Ok(parsed(&String::from_utf8_lossy(&output)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_prints_the_first_file_of_each_kind() {
        let script = script();
        assert!(script.starts_with(
            "for f in /home/application/current/Procfile /app/user/Procfile /Procfile; do "
        ));
        // A real shell takes it, and finds none of the files here.
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success());
        assert_eq!(parsed(&String::from_utf8_lossy(&output.stdout)), Files::default());
    }

    #[test]
    fn an_image_that_declares_nothing_runs_its_own_command() {
        let metadata = understood(&Files::default()).unwrap();
        assert_eq!(metadata.processes.get("web").map(Vec::len), Some(0));
    }

    #[test]
    fn what_was_printed_is_read_back() {
        let output = format!(
            "noise\n{MARK}procfile\nweb: serve\nworker: work\n{MARK}yaml\nhealthcheck:\n  path: /\n"
        );
        let files = parsed(&output);
        assert_eq!(files.procfile.as_deref(), Some("web: serve\nworker: work\n"));
        assert_eq!(files.yaml.as_deref(), Some("healthcheck:\n  path: /\n"));
        assert_eq!(parsed(""), Files::default());
        let metadata = understood(&files).unwrap();
        assert_eq!(metadata.healthcheck.path, "/");
        assert_eq!(metadata.web_process_name(), "web");
    }
}
