//! The image that units run: on the host, and known.
//!
//! What is known of an image is under its name when a build told it. A plain image tells about itself (its `Procfile`, its `tsuru.yaml`, its command); that is read once, and kept under the
//! engine's id of it, for a name may mean another image tomorrow.

use std::io::Read;
use std::path::Path;

use gantry_sdk::container::Image;
use gantry_sdk::containers::{Batch, EngineError, Sequence, Step, StepReply};
use gantry_sdk::gantry_core::image::{ImageFiles, ImageMetadata};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::gantry_core::yaml::{FOLDERS, PROCFILE_NAMES, YAML_NAMES};
use gantry_sdk::{App, Error, images, operation};
use serde_json::{Value, json};

use crate::host::Host;
use crate::placing::NotDone;
use crate::{messages, placing};

type Result<T, E = Error> = std::result::Result<T, E>;

/// The most that is read of a file of an image.
const LARGEST_FILE: u64 = 1 << 20;

/// An image on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// The name it was deployed under.
    pub(crate) name: String,
    /// The engine's id of it.
    pub(crate) id: String,
    /// What to make containers of: the name, or the id where the name means another image by now.
    pub(crate) reference: String,
    /// What is known of it.
    pub(crate) metadata: ImageMetadata,
    /// The node that was asked about it.
    pub(crate) node: String,
}

impl Prepared {
    /// An image that nobody looks at.
    pub(crate) fn unseen(name: String) -> Self {
        let reference = name.clone();
        let (id, node) = (String::new(), String::new());
        Self { name, id, reference, metadata: ImageMetadata::default(), node }
    }
}

/// Gets an image onto a host of an app, unless it is there, and tells what is known of it: onto this one, and where that fails onto another. `units` are those that may run it already.
pub(crate) fn prepare(
    app: &App,
    first: Host,
    name: &str,
    units: &[UnitRecord],
) -> Result<Prepared> {
    let prepared = placing::on_one(app, first, |host| match on_host(host, name, units) {
        // Whoever is known to have it was asked first: the others would ask the registry in vain too.
        Err(error @ EngineError::NotFound(_)) => Err(Error::from(error).into()),
        found => {
            let (image, reference) = found?;
            let mut metadata = match known(name, &image.id)? {
                Some(metadata) => metadata,
                None => read(host, &image, &reference)?,
            };
            metadata.exposed_port = with_protocol(metadata.exposed_port);
            Ok((image.id, reference, metadata))
        }
    });
    let (host, (id, reference, metadata)) = prepared.map_err(|failure| failure.error)?;
    Ok(Prepared { name: name.to_owned(), id, reference, metadata, node: host.address })
}

/// A port as the engine tells it back: `8080` is `8080/tcp`.
fn with_protocol(port: String) -> String {
    if port.is_empty() || port.contains('/') { port } else { port + "/tcp" }
}

/// What is known of an image without asking the engine; an image that nobody knows declares nothing.
pub(crate) fn metadata(name: &str, units: &[UnitRecord]) -> Result<ImageMetadata> {
    Ok(known(name, known_id(name, units).unwrap_or_default())?.unwrap_or_default())
}

/// The engine's id of an image that units run.
fn known_id<'a>(name: &str, units: &'a [UnitRecord]) -> Option<&'a str> {
    let mut of_image = units.iter().filter(|unit| unit.image == name);
    of_image.find(|unit| !unit.image_id.is_empty()).map(|unit| unit.image_id.as_str())
}

fn known(name: &str, id: &str) -> Result<Option<ImageMetadata>> {
    match images::metadata(name)? {
        Some(metadata) => Ok(Some(metadata)),
        None if id.is_empty() => Ok(None),
        None => images::metadata(id),
    }
}

/// The image, pulled when it is not there, and what to make containers of. Units of an image that the name no longer means get more of their own kind.
pub(crate) fn on_host(
    host: &Host,
    name: &str,
    units: &[UnitRecord],
) -> Result<(Image, String), EngineError> {
    let named = match host.image(name) {
        Err(EngineError::NotFound(_)) => None,
        result => Some(result?),
    };
    if let Some(running) = known_id(name, units)
        && named.as_ref().is_none_or(|image| image.id != running)
        && let Ok(image) = host.image(running)
    {
        return Ok((image, running.to_owned()));
    }
    let image = match named {
        Some(image) => image,
        None => pulled(host, name)?,
    };
    Ok((image, name.to_owned()))
}

/// An image on the host, pulled when it is not there.
pub(crate) fn ensure(host: &Host, name: &str) -> Result<Image, EngineError> {
    match host.image(name) {
        Err(EngineError::NotFound(_)) => pulled(host, name),
        image => image,
    }
}

fn pulled(host: &Host, name: &str) -> Result<Image, EngineError> {
    operation::progress(&messages::pulling(name));
    host.client.pull_image(name)?;
    host.image(name)
}

/// Reads what a plain image says about itself and keeps it.
fn read(host: &Host, image: &Image, reference: &str) -> Result<ImageMetadata, NotDone> {
    let files = host.look_into(reference, "image", |id| download(host, id))?;
    let metadata = ImageMetadata::of_plain_image(
        image,
        ImageFiles { procfile: files.procfile.as_deref(), yaml: files.yaml.as_deref() },
    )
    .map_err(|error| Error::InvalidArgument(format!("image `{reference}`: {error}")))?;
    if metadata.processes.is_empty() {
        let text = format!("image `{reference}` has no Procfile, no entrypoint and no command");
        return Err(Error::InvalidArgument(text).into());
    }
    let key = if image.id.is_empty() { reference } else { &image.id };
    match images::save_metadata(key, &custom_data(&metadata)) {
        // Another call was faster, with the same image.
        Err(Error::Conflict(_)) => Ok(images::metadata(key)?.unwrap_or(metadata)),
        result => Ok(result.map(|()| metadata)?),
    }
}

/// What a build would send about such an image.
pub(crate) fn custom_data(metadata: &ImageMetadata) -> Value {
    json!({
        "processes": metadata.processes,
        "exposedPort": metadata.exposed_port,
        "hooks": metadata.hooks,
        "healthcheck": metadata.healthcheck,
    })
}

/// The files that a container has for the platform.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Files {
    /// Its Procfile.
    pub(crate) procfile: Option<String>,
    /// Its tsuru.yaml.
    pub(crate) yaml: Option<String>,
}

/// Looks for every file at every place, all at once.
pub(crate) fn download(host: &Host, id: &str) -> Result<Files, EngineError> {
    let places = places();
    let sequences = places
        .iter()
        .map(|(_, path)| {
            let step = Step::Download { id: id.to_owned(), path: path.clone() };
            Sequence::new(&host.address, vec![step])
        })
        .collect();
    let mut files = Files::default();
    for (completion, (kind, path)) in Batch::submit(sequences)?.all().into_iter().zip(&places) {
        let archive = match completion.into_result() {
            Err(EngineError::NotFound(_)) => continue,
            result => result?,
        };
        let place = match kind {
            Kind::Procfile => &mut files.procfile,
            Kind::Yaml => &mut files.yaml,
        };
        if let (None, Some(StepReply::Bytes(archive))) = (&place, archive.first()) {
            *place = text(archive, path)?;
        }
    }
    Ok(files)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Procfile,
    Yaml,
}

/// Where the files may be, the first that is there counts.
fn places() -> Vec<(Kind, String)> {
    let kinds = [(Kind::Procfile, PROCFILE_NAMES.as_slice()), (Kind::Yaml, YAML_NAMES.as_slice())];
    let mut places = Vec::new();
    for folder in FOLDERS {
        for (kind, names) in kinds {
            for name in names {
                let path = Path::new(folder).join(name).to_string_lossy().into_owned();
                places.push((kind, path));
            }
        }
    }
    places
}

/// The text of the file in an archive of one file; none when it is a folder or a link.
fn text(archive: &[u8], path: &str) -> Result<Option<String>, EngineError> {
    let unreadable =
        |error: std::io::Error| EngineError::Invalid(format!("`{path}` of the image: {error}"));
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.header().entry_type().is_file() {
            let mut text = String::new();
            entry.take(LARGEST_FILE).read_to_string(&mut text).map_err(unreadable)?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header, name, content).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_file_is_read_out_of_its_archive() {
        let procfile = archive("Procfile", b"web: run\n");
        assert_eq!(text(&procfile, "/Procfile").unwrap().as_deref(), Some("web: run\n"));
        assert_eq!(text(&[0; 1024], "/Procfile").unwrap(), None);
        let error = text(&archive("Procfile", b"\xff\xfe"), "/Procfile").unwrap_err().to_string();
        assert!(error.starts_with("`/Procfile` of the image: "), "{error}");
    }

    #[test]
    fn the_apps_folder_comes_before_the_root() {
        let places = places();
        let of = |kind| -> Vec<&str> {
            let of_kind = places.iter().filter(|(other, _)| *other == kind);
            of_kind.map(|(_, path)| path.as_str()).collect()
        };
        assert_eq!(
            of(Kind::Procfile),
            ["/home/application/current/Procfile", "/app/user/Procfile", "/Procfile"]
        );
        let yaml = of(Kind::Yaml);
        assert_eq!(yaml.len(), 12);
        assert_eq!(yaml[0], "/home/application/current/tsuru.yaml");
        assert_eq!(yaml[3], "/home/application/current/app.yml");
        assert_eq!(yaml[8], "/tsuru.yaml");
    }

    #[test]
    fn a_port_without_a_protocol_is_one_of_tcp() {
        let ports = ["", "8080", "8080/tcp", "53/udp"].map(str::to_owned).map(with_protocol);
        assert_eq!(ports, ["", "8080/tcp", "8080/tcp", "53/udp"]);
    }

    #[test]
    fn units_tell_the_id_of_the_image_they_run() {
        let unit = |image: &str, image_id: &str| UnitRecord {
            image: image.to_owned(),
            image_id: image_id.to_owned(),
            ..UnitRecord::default()
        };
        let units = [unit("a:1", "sha256:1"), unit("a:2", ""), unit("a:2", "sha256:2")];
        assert_eq!(known_id("a:2", &units), Some("sha256:2"));
        assert_eq!(known_id("a:3", &units), None);
    }

    #[test]
    fn what_a_plain_image_says_is_kept_as_a_build_would_send_it() {
        let image: Image = serde_json::from_value(json!({
            "Id": "sha256:1",
            "Config": { "Cmd": ["serve", "--all"], "ExposedPorts": { "80/tcp": {} } },
        }))
        .unwrap();
        let yaml =
            "hooks:\n  restart:\n    after: [warm]\nhealthcheck:\n  path: /up\n  match: ok\n";
        let files = ImageFiles { procfile: None, yaml: Some(yaml) };
        let metadata = ImageMetadata::of_plain_image(&image, files).unwrap();
        let kept = ImageMetadata::from_custom_data(&custom_data(&metadata)).unwrap();
        assert_eq!(kept, metadata);
        assert_eq!(kept.healthcheck.pattern, "ok");
        assert_eq!(kept.hooks.restart.after, ["warm"]);
    }
}
