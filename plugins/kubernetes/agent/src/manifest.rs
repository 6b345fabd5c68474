//! The documents of an image, of the OCI's kind and of Docker's (image manifest version 2, schema 2): read, and written with one more layer.

use gantry_registry::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Result, build};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// The mark of layers that may not be copied: engines fetch them from where their makers have them.
const FOREIGN: [&str; 2] = ["nondistributable", "foreign"];

/// What a manifest says of one of its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part {
    /// Its kind.
    pub(crate) media_type: String,
    /// Its digest.
    pub(crate) digest: String,
    /// How long it is.
    pub(crate) size: u64,
    /// All else that is said of it.
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl Part {
    /// Its digest, when it is one.
    pub(crate) fn digest(&self) -> Result<Digest> {
        Digest::parse(&self.digest)
            .ok_or_else(|| build(format!("`{}` is not a digest", self.digest)))
    }

    /// Whether it is in the registry at all.
    pub(crate) fn is_kept(&self) -> bool {
        !FOREIGN.iter().any(|mark| self.media_type.contains(mark))
    }
}

/// What a name of an image leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// The image.
    Image(Manifest),
    /// A list of images, of which this one is for this kind of machine.
    Listed(Digest),
}

/// The manifest of an image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// Its kind.
    pub(crate) media_type: String,
    /// Its configuration.
    pub(crate) config: Part,
    /// Its layers, the lowest first.
    pub(crate) layers: Vec<Part>,
}

/// A layer that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewLayer {
    /// The digest of its archive.
    pub(crate) diff_id: Digest,
    /// That of the compressed archive.
    pub(crate) digest: Digest,
    /// How long the compressed archive is.
    pub(crate) size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Option<Part>,
    layers: Option<Vec<Part>>,
    manifests: Option<Vec<Listed>>,
}

#[derive(Deserialize)]
struct Listed {
    digest: String,
    #[serde(default)]
    platform: Platform,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
}

/// Go's name for this kind of machine, which images have.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Reads what a registry has under the name of an image.
///
/// # Errors
///
/// It is no manifest, one of an old kind, or a list without this kind of machine.
pub(crate) fn parse(media_type: &str, bytes: &[u8]) -> Result<Found> {
    let invalid = |why: &str| build(format!("the manifest of the image cannot be used: {why}"));
    let written: Written =
        serde_json::from_slice(bytes).map_err(|error| invalid(&error.to_string()))?;
    if written.schema_version != 2 {
        return Err(invalid("it is of the first version, which nobody makes any more"));
    }
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let media_type =
        if [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST].contains(&media_type) {
            media_type
        } else {
            &written.media_type
        };
    if [OCI_INDEX, DOCKER_LIST].contains(&media_type) {
        let all = written.manifests.unwrap_or_default();
        let fits = |listed: &&Listed| {
            listed.platform.os == "linux" && listed.platform.architecture == architecture()
        };
        let fitting = all.iter().find(fits).and_then(|listed| Digest::parse(&listed.digest));
        let none = || invalid(&format!("it has no image for linux on {}", architecture()));
        return fitting.map(Found::Listed).ok_or_else(none);
    }
    if ![OCI_MANIFEST, DOCKER_MANIFEST].contains(&media_type) {
        return Err(invalid(&format!("it is of the kind `{media_type}`")));
    }
    let (Some(config), Some(layers)) = (written.config, written.layers) else {
        return Err(invalid("it has no configuration or no layers"));
    };
    for part in layers.iter().chain([&config]) {
        part.digest()?;
    }
    Ok(Found::Image(Manifest { media_type: media_type.to_owned(), config, layers }))
}

impl Manifest {
    /// As a registry takes it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let document = json!({
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config,
            "layers": self.layers,
        });
        document.to_string().into_bytes()
    }

    /// The same image with one more layer, and its configuration; `config` is the configuration of this one.
    ///
    /// # Errors
    ///
    /// The configuration is none, or of another image.
    pub(crate) fn with_layer(
        &self,
        config: &[u8],
        layer: &NewLayer,
        now: &str,
        made_by: &str,
    ) -> Result<(Self, Vec<u8>)> {
        let config = extended(config, self.layers.len(), layer, now, made_by)?;
        let is_oci = self.media_type == OCI_MANIFEST;
        let mut made = self.clone();
        made.config = Part {
            media_type: self.config.media_type.clone(),
            digest: Digest::of(&config).to_string(),
            size: config.len() as u64,
            more: Map::new(),
        };
        made.layers.push(Part {
            media_type: if is_oci { OCI_LAYER } else { DOCKER_LAYER }.to_owned(),
            digest: layer.digest.to_string(),
            size: layer.size,
            more: Map::new(),
        });
        Ok((made, config))
    }
}

/// A configuration with one more layer.
fn extended(
    config: &[u8],
    layers: usize,
    layer: &NewLayer,
    now: &str,
    made_by: &str,
) -> Result<Vec<u8>> {
    let invalid =
        |why: &str| build(format!("the configuration of the image cannot be used: {why}"));
    let mut config: Map<String, Value> =
        serde_json::from_slice(config).map_err(|error| invalid(&error.to_string()))?;
    // What is said of the container that the image was made of is not true of this one.
    for stale in ["container", "container_config", "id", "parent"] {
        config.remove(stale);
    }
    let diffs = config.get_mut("rootfs").and_then(|rootfs| rootfs.get_mut("diff_ids"));
    let Some(diffs) = diffs.and_then(Value::as_array_mut) else {
        return Err(invalid("it does not tell of its layers"));
    };
    if diffs.len() != layers {
        let counts = format!("it tells of {} layers, and the manifest of {layers}", diffs.len());
        return Err(invalid(&counts));
    }
    diffs.push(layer.diff_id.as_str().into());
    let history = config.entry("history").or_insert_with(|| json!([]));
    if let Some(history) = history.as_array_mut() {
        history.push(json!({"created": now, "created_by": made_by}));
    }
    config.insert("created".to_owned(), now.into());
    Ok(Value::Object(config).to_string().into_bytes())
}

/// What Docker tells of an image, from its configuration.
///
/// # Errors
///
/// The configuration is none.
pub(crate) fn inspected(manifest: &Manifest, config: &[u8], names: &[String]) -> Result<Value> {
    let config: Value = serde_json::from_slice(config).map_err(|error| {
        build(format!("the configuration of the image cannot be used: {error}"))
    })?;
    let size: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
    Ok(json!({
        "Id": manifest.config.digest,
        "RepoTags": names,
        "Size": size,
        "Created": config.get("created"),
        "Architecture": config.get("architecture"),
        "Os": config.get("os"),
        "Config": config.get("config").filter(|config| config.is_object()).unwrap_or(&json!({})),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> String {
        Digest::of(text.as_bytes()).to_string()
    }

    fn written(kind: &str) -> Value {
        json!({
            "schemaVersion": 2, "mediaType": kind,
            "config": {"mediaType": "c", "digest": digest("config"), "size": 6},
            "layers": [{"mediaType": "l", "digest": digest("one"), "size": 3, "urls": ["u"]}],
            "annotations": {"of": "the base"},
        })
    }

    fn image(media_type: &str, document: &Value) -> Manifest {
        match parse(media_type, document.to_string().as_bytes()).unwrap() {
            Found::Image(image) => image,
            Found::Listed(digest) => panic!("a list with {digest}"),
        }
    }

    fn layer() -> NewLayer {
        NewLayer { diff_id: Digest::of(b"tar"), digest: Digest::of(b"gz"), size: 2 }
    }

    const CONFIG: &str = r#"{"architecture": "amd64", "container": "x", "parent": "y", "config": {"Cmd": ["a"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]}, "history": [{"created_by": "z"}]}"#;

    #[test]
    fn an_image_gets_one_more_layer_of_its_own_kind() {
        for (kind, of_layer) in [(OCI_MANIFEST, OCI_LAYER), (DOCKER_MANIFEST, DOCKER_LAYER)] {
            let base = image(kind, &written(kind));
            let (made, config) =
                base.with_layer(CONFIG.as_bytes(), &layer(), "2026-01-01T00:00:00Z", "me").unwrap();
            let config: Value = serde_json::from_slice(&config).unwrap();
            assert_eq!(
                config,
                json!({
                    "architecture": "amd64", "config": {"Cmd": ["a"]},
                    "created": "2026-01-01T00:00:00Z",
                    "rootfs": {"type": "layers", "diff_ids": ["sha256:1", digest("tar")]},
                    "history": [{"created_by": "z"}, {"created": "2026-01-01T00:00:00Z", "created_by": "me"}],
                })
            );
            let manifest: Value = serde_json::from_slice(&made.to_bytes()).unwrap();
            let config = config.to_string();
            assert_eq!(
                manifest,
                json!({
                    "schemaVersion": 2, "mediaType": kind,
                    "config": {"mediaType": "c", "digest": digest(&config), "size": config.len()},
                    "layers": [
                        {"mediaType": "l", "digest": digest("one"), "size": 3, "urls": ["u"]},
                        {"mediaType": of_layer, "digest": digest("gz"), "size": 2},
                    ],
                })
            );
            // What was written is read back as it was made.
            assert_eq!(image(kind, &manifest), made);
        }
    }

    #[test]
    fn a_configuration_without_a_history_gets_one() {
        let base = image(OCI_MANIFEST, &written(OCI_MANIFEST));
        let config = r#"{"rootfs": {"diff_ids": ["sha256:1"]}}"#;
        let (_, config) = base.with_layer(config.as_bytes(), &layer(), "now", "me").unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["history"], json!([{"created": "now", "created_by": "me"}]));
    }

    #[test]
    fn documents_that_do_not_fit_are_refused() {
        let base = image(OCI_MANIFEST, &written(OCI_MANIFEST));
        for (config, why) in [
            ("", "EOF"),
            ("[]", "invalid type"),
            ("{}", "does not tell of its layers"),
            (r#"{"rootfs": {"diff_ids": []}}"#, "it tells of 0 layers, and the manifest of 1"),
        ] {
            let error =
                base.with_layer(config.as_bytes(), &layer(), "", "").unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let mut old = written(OCI_MANIFEST);
        old["schemaVersion"] = json!(1);
        let mut odd = written(OCI_MANIFEST);
        odd["layers"][0]["digest"] = json!("../../etc/passwd");
        let mut bare = written(OCI_MANIFEST);
        bare.as_object_mut().unwrap().remove("layers");
        for (document, why) in [
            (json!([]), "invalid"),
            (old, "first version"),
            (odd, "is not a digest"),
            (bare, "no layers"),
            (written("text/html"), "`text/html`"),
        ] {
            let error = parse("", document.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn of_a_list_the_image_for_this_machine_is_taken() {
        let list = |architecture: &str| {
            json!({"schemaVersion": 2, "manifests": [
                {"digest": digest("windows"), "platform": {"os": "windows", "architecture": architecture}},
                {"digest": digest("linux"), "platform": {"os": "linux", "architecture": architecture}},
                {"digest": digest("proof"), "platform": {"os": "unknown", "architecture": "unknown"}},
            ]})
        };
        for kind in [OCI_INDEX, DOCKER_LIST] {
            let found = parse(kind, list(architecture()).to_string().as_bytes()).unwrap();
            assert_eq!(found, Found::Listed(Digest::of(b"linux")));
            let error = parse(kind, list("pdp11").to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains("no image for linux on"), "{error}");
        }
    }

    #[test]
    fn a_type_in_the_header_may_have_parameters_or_be_missing() {
        let document = written(OCI_MANIFEST);
        for header in [&format!("{OCI_MANIFEST}; charset=utf-8"), "application/json", ""] {
            assert_eq!(image(header, &document).media_type, OCI_MANIFEST);
        }
    }

    #[test]
    fn an_image_is_told_as_docker_tells_it() {
        let manifest = image(OCI_MANIFEST, &written(OCI_MANIFEST));
        let told = inspected(&manifest, CONFIG.as_bytes(), &["a:v1".to_owned()]).unwrap();
        let read: gantry_core::container::Image = serde_json::from_value(told).unwrap();
        assert_eq!(read.id, digest("config"));
        assert_eq!((read.repo_tags, read.size), (vec!["a:v1".to_owned()], 3));
        assert_eq!(read.config.cmd, Some(vec!["a".to_owned()]));
        let bare = inspected(&manifest, b"{}", &[]).unwrap();
        let read: gantry_core::container::Image = serde_json::from_value(bare).unwrap();
        assert_eq!(read.config.cmd, None);
    }
}
