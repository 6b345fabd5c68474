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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::container::{ContainerConfig, Empty};

    fn image(entrypoint: &[&str], cmd: &[&str], ports: &[&str]) -> Image {
        let owned = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        let ports = ports.iter().map(|port| ((*port).to_owned(), Empty {})).collect();
        let config = ContainerConfig {
            entrypoint: owned(entrypoint),
            cmd: owned(cmd),
            exposed_ports: Some(ports),
            ..ContainerConfig::default()
        };
        Image { config, ..Image::default() }
    }

    fn of(image: &Image, procfile: Option<&str>, yaml: Option<&str>) -> ImageMetadata {
        ImageMetadata::of_plain_image(image, ImageFiles { procfile, yaml }).unwrap()
    }

    #[test]
    fn an_image_without_files_runs_its_command_as_web() {
        let metadata = of(&image(&["/run", "-x"], &["a b"], &["8080/tcp"]), None, None);
        assert_eq!(metadata.processes["web"], ["/run", "-x", "a b"]);
        assert_eq!(metadata.exposed_port, "8080/tcp");
        assert_eq!(metadata.web_process_name(), "web");
    }

    #[test]
    fn a_single_word_stays_a_word_of_the_shell() {
        for (word, line) in [
            ("/bin/server", "/bin/server"),
            ("/my app", "'/my app'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ] {
            assert_eq!(of(&image(&[word], &[], &[]), None, None).processes["web"], [line]);
        }
    }

    #[test]
    fn a_procfile_and_a_yaml_file_win_over_the_command() {
        let yaml = "healthcheck: {path: /hc}\n";
        let metadata = of(&image(&["x"], &[], &[]), Some("worker: w\n"), Some(yaml));
        assert_eq!(
            metadata.processes.into_iter().collect::<Vec<_>>(),
            [("worker".to_owned(), vec!["w".to_owned()])]
        );
        assert_eq!(metadata.healthcheck.path, "/hc");
    }

    #[test]
    fn an_image_without_a_command_declares_nothing() {
        assert_eq!(of(&Image::default(), None, None), ImageMetadata::default());
    }

    #[test]
    fn an_image_of_several_ports_is_refused() {
        let image = image(&["x"], &[], &["80/tcp", "443/tcp"]);
        let error = ImageMetadata::of_plain_image(&image, ImageFiles::default()).unwrap_err();
        assert!(error.to_string().contains("443/tcp, 80/tcp"), "{error}");
    }

    #[test]
    fn custom_data_of_a_wrong_type_is_refused() {
        for (data, message) in [
            (json!(null), "custom data is not an object"),
            (json!([]), "custom data is not an object"),
            (json!({"procfile": ""}), "invalid Procfile"),
            (json!({"procfile": "no process"}), "invalid Procfile"),
            (json!({"procfile": 1}), "invalid `procfile`: not a text"),
            (json!({"processes": []}), "invalid `processes`: not an object"),
            (
                json!({"processes": {"web": 1}}),
                "invalid command of process `web`: neither a text nor a list of texts",
            ),
            (
                json!({"processes": {"web": ["a", 1]}}),
                "invalid command of process `web`: neither a text nor a list of texts",
            ),
            (json!({"exposedPort": 8080}), "invalid `exposedPort`: not a text"),
        ] {
            assert_eq!(ImageMetadata::from_custom_data(&data).unwrap_err().to_string(), message);
        }
        assert!(ImageMetadata::from_custom_data(&json!({"hooks": 1})).is_err());
    }

    #[test]
    fn what_is_null_is_not_there() {
        let data =
            json!({"processes": null, "procfile": "web: x", "exposedPort": null, "hooks": null});
        assert_eq!(ImageMetadata::from_custom_data(&data).unwrap().processes["web"], ["x"]);
    }

    #[test]
    fn several_processes_have_the_web_process_web_even_if_none_is_called_so() {
        let data = json!({"processes": {"a": "x", "b": "y"}});
        assert_eq!(ImageMetadata::from_custom_data(&data).unwrap().web_process_name(), "web");
    }
}
