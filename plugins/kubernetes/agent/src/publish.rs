//! The work beside the container of the platform's image: what comes from there becomes an image of the registry.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use gantry_core::yaml::TsuruYaml;
use gantry_registry::{Account, Digest, Measured, Reference, Repository, Rights};
use serde_json::{Value, json};

use crate::error::{Doing as _, Result, build};
use crate::link::{Files, Message};
use crate::manifest::{self, Found, Manifest, NewLayer};

/// What the history of an image says of a layer.
const MADE_BY: &str = "gantry build";

/// What an image is made of, and what it is to be called.
pub(crate) struct Job {
    /// The image that it is made of.
    pub(crate) source: Reference,
    /// Its names, all of one repository.
    pub(crate) names: Vec<Reference>,
    /// Who asks the registry.
    pub(crate) account: Account,
}

/// No layer is larger before it is compressed: what a build leaves must not fill the disk of its node.
const LARGEST_LAYER: u64 = 16 << 30;

/// An image of the registry, with its configuration.
struct Base {
    manifest: Manifest,
    /// The manifest as the registry has it: written anew it would be another, with another digest.
    bytes: Vec<u8>,
    config: Vec<u8>,
}

impl Job {
    /// Reads the names.
    ///
    /// # Errors
    ///
    /// One is none, or there is none to be given.
    pub(crate) fn new(source: &str, names: &str, account: Account) -> Result<Self> {
        let source = Reference::parse(source)?;
        let names = names.split(',').filter(|name| !name.is_empty());
        let names = names.map(Reference::parse).collect::<Result<Vec<_>, _>>()?;
        let place = |name: &Reference| (name.registry.clone(), name.repository.clone());
        let Some(first) = names.first() else {
            return Err(build("no destination images provided"));
        };
        if let Some(other) = names.iter().find(|name| place(name) != place(first)) {
            return Err(build(format!("`{other}` and `{first}` are of two repositories")));
        }
        Ok(Self { source, names, account })
    }

    fn target(&self) -> Result<(&Reference, Repository<'_>)> {
        let first = self.names.first().ok_or_else(|| build("no destination images provided"))?;
        let same = first.registry == self.source.registry;
        let sources = if same { vec![self.source.repository.as_str()] } else { Vec::new() };
        Ok((first, Repository::of(first, &self.account, Rights::Push, &sources)?))
    }

    fn origin(&self) -> Result<Repository<'_>> {
        Ok(Repository::of(&self.source, &self.account, Rights::Pull, &[])?)
    }

    fn base(&self) -> Result<Base> {
        let origin = self.origin()?;
        let missing = || build(format!("there is no image `{}` in its registry", self.source));
        let (kind, bytes) = origin.manifest(&self.source.version)?.ok_or_else(missing)?;
        let (manifest, bytes) = match manifest::parse(&kind, &bytes)? {
            Found::Image(manifest) => (manifest, bytes),
            Found::Listed(digest) => {
                let (kind, bytes) = origin.manifest(digest.as_str())?.ok_or_else(missing)?;
                match manifest::parse(&kind, &bytes)? {
                    Found::Image(manifest) => (manifest, bytes),
                    Found::Listed(_) => {
                        return Err(build(format!("`{}` is a list of lists", self.source)));
                    }
                }
            }
        };
        let config = origin.config(&manifest.config.digest()?)?;
        Ok(Base { manifest, bytes, config })
    }

    /// Brings the layers of the image that this one is made of to where this one goes.
    fn bring(&self, manifest: &Manifest, target: &Repository<'_>, scratch: &Path) -> Result<()> {
        let same = self.names.first().is_some_and(|first| first.registry == self.source.registry);
        let origin = self.origin()?;
        for layer in manifest.layers.iter().filter(|layer| layer.is_kept()) {
            let digest = layer.digest()?;
            if target.has(&digest)? || same && target.mount(&digest, &self.source.repository)? {
                continue;
            }
            let mut file = temporary(scratch)?;
            origin.download(&digest, layer.size, &mut file)?;
            target.upload(&digest, &file, layer.size)?;
        }
        Ok(())
    }

    fn publish(
        &self,
        manifest: &Manifest,
        bytes: &[u8],
        config: &[u8],
        target: &Repository<'_>,
        told: &mut impl Write,
    ) -> Result<()> {
        target.upload_bytes(&manifest.config.digest()?, config)?;
        for name in &self.names {
            tell(told, &format!(" ---> Pushing {name}\n"));
            target.name(&name.version, &manifest.media_type, bytes)?;
        }
        tell(told, &format!(" ---> {}\n", Digest::of(bytes)));
        Ok(())
    }

    /// Gives an image its names.
    ///
    /// # Errors
    ///
    /// The registry refuses, or does not answer.
    pub(crate) fn retag(&self, scratch: &Path, told: &mut impl Write) -> Result<()> {
        let base = self.base()?;
        let (_, target) = self.target()?;
        self.bring(&base.manifest, &target, scratch)?;
        self.publish(&base.manifest, &base.bytes, &base.config, &target, told)
    }

    /// Makes an image of what the container next door makes of the archive.
    ///
    /// # Errors
    ///
    /// It makes nothing, or the registry refuses or does not answer. Then nothing has a name.
    pub(crate) fn build(
        &self,
        mut archive: impl Read + Send + 'static,
        next_door: impl FnOnce() -> Result<UnixStream>,
        scratch: &Path,
        told: &mut impl Write,
        now: &str,
    ) -> Result<()> {
        let mut stream = next_door()?;
        // Whoever sends the archive sees what is told from here on, and nothing before.
        let mut first = [0; 1];
        if archive.read(&mut first).doing(|| "cannot read the archive".to_owned())? == 0 {
            return Err(build("nothing was sent to be built"));
        }
        // Before a build that may take its time: a registry that refuses, or that does not have the image, does so now.
        let base = self.base()?;
        let (_, target) = self.target()?;
        let mut sink = stream.try_clone().doing(|| "cannot pass the archive on".to_owned())?;
        let passing = std::thread::spawn(move || {
            let passed = io::copy(&mut first.chain(&mut archive), &mut sink);
            // Where nobody reads any more, that was told why.
            let _gone = passed.and_then(|_| sink.shutdown(Shutdown::Write));
        });
        let mut file = temporary(scratch)?;
        let (_, layer) = self.hear(&mut stream, &mut file, told)?;
        // Whoever has told that all is well has read all of it.
        drop(passing);
        let (made, config) = base.manifest.with_layer(&base.config, &layer, now, MADE_BY)?;
        self.bring(&base.manifest, &target, scratch)?;
        target.upload(&layer.digest, &file, layer.size)?;
        self.publish(&made, &made.to_bytes(), &config, &target, told)
    }

    /// Hears what comes from next door to its end, and keeps the layer.
    fn hear(
        &self,
        from: &mut UnixStream,
        file: &mut File,
        told: &mut impl Write,
    ) -> Result<(Files, NewLayer)> {
        let keeping = || "cannot keep the layer".to_owned();
        let compressed = GzEncoder::new(Measured::new(file), Compression::default());
        let mut plain = Measured::new(compressed);
        let mut left = LARGEST_LAYER;
        loop {
            match Message::read(from)? {
                Some(Message::Output(bytes)) => {
                    // A watcher who has gone stops nothing.
                    let _gone = told.write_all(&bytes).and_then(|()| told.flush());
                }
                Some(Message::Layer(bytes)) => {
                    let too_large =
                        || build(format!("the build leaves more than {LARGEST_LAYER} bytes"));
                    left = left.checked_sub(bytes.len() as u64).ok_or_else(too_large)?;
                    plain.write_all(&bytes).doing(keeping)?;
                }
                Some(Message::Failed(why)) => return Err(build(why)),
                Some(Message::Done(files)) => {
                    let (compressed, diff_id, _) = plain.finish();
                    let (file, digest, size) = compressed.finish().doing(keeping)?.finish();
                    file.flush().doing(keeping)?;
                    return Ok((files, NewLayer { diff_id, digest, size }));
                }
                None => {
                    let source = &self.source;
                    return Err(build(format!(
                        "the container of `{source}` ended before the build did"
                    )));
                }
            }
        }
    }

    /// Gives an image its names, and tells what is in it.
    ///
    /// # Errors
    ///
    /// The registry refuses or does not answer, or the image cannot be looked into.
    pub(crate) fn inspect(
        &self,
        next_door: impl FnOnce() -> Result<UnixStream>,
        scratch: &Path,
    ) -> Result<Value> {
        let mut stream = next_door()?;
        let base = self.base()?;
        let (files, _) = self.hear(&mut stream, &mut temporary(scratch)?, &mut io::sink())?;
        let (_, target) = self.target()?;
        self.bring(&base.manifest, &target, scratch)?;
        self.publish(&base.manifest, &base.bytes, &base.config, &target, &mut io::sink())?;
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        let yaml = TsuruYaml::from_yaml(&files.yaml).map_err(|error| build(error.to_string()))?;
        Ok(json!({
            "Image": manifest::inspected(&base.manifest, &base.config, &names)?,
            "Procfile": files.procfile,
            "TsuruYaml": yaml,
        }))
    }
}

fn tell(told: &mut impl Write, text: &str) {
    // A watcher who has gone stops nothing.
    let _gone = told.write_all(text.as_bytes()).and_then(|()| told.flush());
}

/// A file without a name, which is gone when it is closed.
fn temporary(scratch: &Path) -> Result<File> {
    let place = scratch.join("layer");
    let making = || format!("cannot write into `{}`", scratch.display());
    let file =
        File::options().read(true).write(true).create_new(true).open(&place).doing(making)?;
    std::fs::remove_file(&place).doing(making)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
