//! What is known of an image, read from what a build sends or what the image itself holds.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::ImageMetadata;
use crate::container::Image;
use crate::yaml::{self, TsuruYaml};

/// Why what is known of an image cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustomDataError {
    /// The data is not a JSON object.
    #[error("custom data is not an object")]
    NotAnObject,
    /// No line of the Procfile declares a process.
    #[error("invalid Procfile")]
    InvalidProcfile,
    /// The command of a process is neither a text nor a list of texts.
    #[error("invalid command of process `{0}`: neither a text nor a list of texts")]
    InvalidCommand(String),
    /// A field has another type than it should.
    #[error("invalid `{field}`: {reason}")]
    InvalidField {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// `tsuru.yaml` cannot be read.
    #[error(transparent)]
    InvalidYaml(#[from] yaml::YamlError),
    /// A plain image listens on several ports and says nowhere which one counts.
    #[error("too many ports: the image exposes {}, and only one can be the app's", .0.join(", "))]
    TooManyPorts(Vec<String>),
}

/// What a plain image holds for us, beside what its inspect tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageFiles<'a> {
    /// Its `Procfile`.
    pub procfile: Option<&'a str>,
    /// Its `tsuru.yaml`, or whatever name it has.
    pub yaml: Option<&'a str>,
}

impl ImageMetadata {
    /// Reads what a build sends about its image: `processes` or else `procfile`, `exposedPort`, `hooks` and `healthcheck`. All may be missing.
    ///
    /// # Errors
    ///
    /// A part of another type than it should have, or a Procfile without a process.
    pub fn from_custom_data(data: &Value) -> Result<Self, CustomDataError> {
        let Value::Object(fields) = data else { return Err(CustomDataError::NotAnObject) };
        let exposed_port = text(fields, "exposedPort")?.unwrap_or_default();
        let processes = match present(fields, "processes") {
            Some(processes) => declared_processes(processes)?,
            None => match text(fields, "procfile")? {
                Some(procfile) => required_processes(&procfile)?,
                None => BTreeMap::new(),
            },
        };
        let TsuruYaml { hooks, healthcheck } = TsuruYaml::from_json(data)
            .map_err(|reason| CustomDataError::InvalidField { field: "tsuru.yaml", reason })?;
        Ok(Self { processes, exposed_port, hooks, healthcheck, ..Self::default() })
    }

    /// Reads what a plain image says about itself (design 10, "metadata of a plain image"): the processes of its Procfile, or else its entrypoint and command as the process
    /// `web`; its single exposed port; its `tsuru.yaml`.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, or several exposed ports.
    pub fn of_plain_image(image: &Image, files: ImageFiles<'_>) -> Result<Self, CustomDataError> {
        let processes = match files.procfile {
            Some(procfile) => required_processes(procfile)?,
            None => image_command(image)
                .map(|command| BTreeMap::from([(WEB_PROCESS.to_owned(), command)]))
                .unwrap_or_default(),
        };
        let TsuruYaml { hooks, healthcheck } = match files.yaml {
            Some(text) => TsuruYaml::from_yaml(text)?,
            None => TsuruYaml::default(),
        };
        let ports: Vec<&String> =
            image.config.exposed_ports.iter().flatten().map(|(p, _)| p).collect();
        let exposed_port = match ports.as_slice() {
            [] => String::new(),
            [port] => (*port).clone(),
            _ => return Err(CustomDataError::TooManyPorts(ports.into_iter().cloned().collect())),
        };
        Ok(Self { processes, exposed_port, hooks, healthcheck, ..Self::default() })
    }

    /// The process whose units are health-checked and routed: none without processes, the only one, or literally `web`.
    #[must_use]
    pub fn web_process_name(&self) -> &str {
        let mut names = self.processes.keys();
        match (names.next(), names.next()) {
            (None, _) => "",
            (Some(only), None) => only,
            (Some(_), Some(_)) => WEB_PROCESS,
        }
    }
}

const WEB_PROCESS: &str = "web";

fn present<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    fields.get(key).filter(|value| !value.is_null())
}

fn text(
    fields: &Map<String, Value>,
    field: &'static str,
) -> Result<Option<String>, CustomDataError> {
    match present(fields, field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(CustomDataError::InvalidField { field, reason: "not a text".to_owned() }),
    }
}

fn declared_processes(value: &Value) -> Result<BTreeMap<String, Vec<String>>, CustomDataError> {
    let Value::Object(processes) = value else {
        return Err(CustomDataError::InvalidField {
            field: "processes",
            reason: "not an object".to_owned(),
        });
    };
    processes
        .iter()
        .map(|(name, command)| {
            let command = match command {
                Value::String(line) => Some(vec![line.clone()]),
                Value::Array(items) => {
                    items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
            };
            let command = command.ok_or_else(|| CustomDataError::InvalidCommand(name.clone()))?;
            Ok((name.clone(), command))
        })
        .collect()
}

fn required_processes(procfile: &str) -> Result<BTreeMap<String, Vec<String>>, CustomDataError> {
    let processes = yaml::parse_procfile(procfile);
    if processes.is_empty() { Err(CustomDataError::InvalidProcfile) } else { Ok(processes) }
}

/// Entrypoint and command of an image as the command of a process. A single word stays one word, although a command of one item is a shell line.
fn image_command(image: &Image) -> Option<Vec<String>> {
    let command: Vec<String> =
        image.config.entrypoint.iter().chain(&image.config.cmd).flatten().cloned().collect();
    match command.as_slice() {
        [] => None,
        [word] => Some(vec![shell_word(word)]),
        _ => Some(command),
    }
}

fn shell_word(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
