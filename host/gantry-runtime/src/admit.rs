//! The door: which bytes may go to the compiler at all.
//!
//! A component in its binary form, not too big, whose structure is sound and not meant to keep the compiler busy, and that imports nothing but what a plugin may have. Whatever is refused here has cost
//! no more than reading it.

use sha2::{Digest as _, Sha256};
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::bounds::Bound;
use crate::host::wasi;

/// The package whose interfaces a plugin speaks, and the version the host has.
pub(crate) const PACKAGE: &str = "gantry:provision";
/// The interfaces of the package that a plugin may import.
const OFFERED: &[&str] = &[
    "apps",
    "cluster",
    "config",
    "containers",
    "images",
    "labels",
    "limiter",
    "log",
    "operation",
    "routers",
    "state",
    "streams",
    "types",
];

/// The number of these rules, one more whenever one of them changes: what was compiled under others is looked at again.
pub(crate) const RULES: u32 = 3;

/// Functions in all modules of a component. CPython has 20 000.
const FUNCTIONS: u64 = 150_000;
/// Bytes of one function. The compiler's time is not linear in it; interpreters' main loops have 300 000.
const FUNCTION_SIZE: u64 = 512 << 10;
/// Modules and components in a component, and how deep they may stand in each other.
const PARTS: u64 = 64;
const DEPTH: usize = 8;
/// Items of one section: types, imports, exports, instances, segments.
const ITEMS: u64 = 200_000;

/// Why bytes are not a plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// The file is bigger than the bound.
    #[error(
        "the plugin has {size} bytes, over the limit `plugin-size` of {most}: raise `limits.plugin-size` of the provisioner in the configuration"
    )]
    TooBig {
        /// Its size.
        size: usize,
        /// The bound.
        most: String,
    },
    /// There are no bytes.
    #[error("the plugin is empty")]
    Empty,
    /// It is no WebAssembly.
    #[error("this is no WebAssembly: the first bytes are not `\\0asm`")]
    Garbage,
    /// It is WebAssembly in its text form.
    #[error(
        "this is WebAssembly in its text form: a plugin is a component in its binary form (`wasm-tools parse` makes it)"
    )]
    Text,
    /// It is a module, not a component.
    #[error(
        "this is a core module: a plugin is a component (target `wasm32-wasip2`, or `wasm-tools component new`)"
    )]
    CoreModule,
    /// It ends before it is over.
    #[error("the plugin is cut off after {0} bytes")]
    Truncated(usize),
    /// Its structure is not sound, or of a proposal that is switched off.
    #[error("the plugin is no valid component: {0}")]
    Invalid(String),
    /// It has more of something than a plugin has.
    #[error("the plugin has {count} {what}, more than {most}")]
    TooComplex {
        /// What it has.
        what: &'static str,
        /// How much.
        count: u64,
        /// How much it may have.
        most: u64,
    },
    /// It imports something that no plugin may have.
    #[error("the plugin imports `{0}`, which no plugin may have")]
    Import(String),
}

/// The SHA-256 of a plugin, in lower case hexadecimal digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks at what is told at a glance: the size and the first bytes.
pub(crate) fn glance(bytes: &[u8], most: u64) -> Result<(), AdmitError> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(AdmitError::TooBig { size: bytes.len(), most: Bound::PluginSize.show(most) });
    }
    look_at_the_head(bytes)
}

/// Looks at all of a plugin's bytes.
pub(crate) fn admit(bytes: &[u8]) -> Result<(), AdmitError> {
    whole(bytes)?;
    match structure(bytes)?.into_iter().find(|import| !is_offered(import)) {
        Some(import) => Err(AdmitError::Import(import)),
        None => Ok(()),
    }
}

fn look_at_the_head(bytes: &[u8]) -> Result<(), AdmitError> {
    if bytes.is_empty() {
        return Err(AdmitError::Empty);
    }
    if !b"\0asm".starts_with(bytes.get(..4).unwrap_or(bytes)) {
        let text = bytes.trim_ascii_start();
        return Err(if text.starts_with(b"(") || text.starts_with(b";;") {
            AdmitError::Text
        } else {
            AdmitError::Garbage
        });
    }
    match bytes.get(4..8) {
        None => Err(AdmitError::Truncated(bytes.len())),
        Some([1, 0, 0, 0]) => Err(AdmitError::CoreModule),
        Some(_) => Ok(()),
    }
}

/// Whether every section is there to its end.
fn whole(bytes: &[u8]) -> Result<(), AdmitError> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((_, after)) = rest.split_first() {
        let cut_off = || AdmitError::Truncated(bytes.len());
        let (size, after) = leb128(after).ok_or_else(cut_off)?;
        rest = after.get(size..).ok_or_else(cut_off)?;
    }
    Ok(())
}

/// The size of a section, as WebAssembly writes it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0usize;
    for (position, byte) in bytes.iter().enumerate().take(5) {
        let low = usize::from(byte & 0x7f);
        value |= low.checked_shl(u32::try_from(position.checked_mul(7)?).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(position.checked_add(1)?..)?));
        }
    }
    None
}

/// The proposals that plugins may use: what languages' compilers emit today, and nothing that brings its own heap, threads or stacks.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        .union(WasmFeatures::BULK_MEMORY_OPT)
        .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
        .union(WasmFeatures::COMPONENT_MODEL)
        .union(WasmFeatures::EXTENDED_CONST)
        .union(WasmFeatures::MULTI_MEMORY)
        .union(WasmFeatures::TAIL_CALL)
}

/// Checks the structure, function bodies aside: those are checked when they are compiled.
fn structure(bytes: &[u8]) -> Result<Vec<String>, AdmitError> {
    let invalid = |error: wasmparser::BinaryReaderError| AdmitError::Invalid(error.to_string());
    let mut validator = Validator::new_with_features(features());
    let mut counts = Counts::default();
    let mut imports = Vec::new();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "`Payload` is not exhaustive")]
        match &payload {
            Payload::Version { encoding, .. } => {
                depth = depth.saturating_add(1);
                if depth == 1 && *encoding != Encoding::Component {
                    return Err(AdmitError::CoreModule);
                }
                if depth > DEPTH {
                    return Err(over("components within components", depth, DEPTH));
                }
                counts.part()?;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section.clone() {
                    imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::CodeSectionEntry(body) => {
                counts.function(u64::try_from(body.range().len()).unwrap_or(u64::MAX))?;
            }
            Payload::TypeSection(section) => counts.items("types", section.count())?,
            Payload::ImportSection(section) => counts.items("imports", section.count())?,
            Payload::TableSection(section) => counts.items("tables", section.count())?,
            Payload::GlobalSection(section) => counts.items("globals", section.count())?,
            Payload::ExportSection(section) => counts.items("exports", section.count())?,
            Payload::ElementSection(section) => {
                counts.items("element segments", section.count())?
            }
            Payload::DataSection(section) => counts.items("data segments", section.count())?,
            Payload::InstanceSection(section) => counts.items("instances", section.count())?,
            Payload::ComponentTypeSection(section) => {
                counts.items("component types", section.count())?;
            }
            // The validator sees the others; they cost nothing.
            _ => {}
        }
        validator.payload(&payload).map_err(invalid)?;
    }
    Ok(imports)
}

#[derive(Default)]
struct Counts {
    parts: u64,
    functions: u64,
    items: u64,
}

impl Counts {
    fn part(&mut self) -> Result<(), AdmitError> {
        self.parts = self.parts.saturating_add(1);
        within("modules and components", self.parts, PARTS)
    }

    fn function(&mut self, size: u64) -> Result<(), AdmitError> {
        self.functions = self.functions.saturating_add(1);
        within("functions", self.functions, FUNCTIONS)?;
        within("bytes in one function", size, FUNCTION_SIZE)
    }

    fn items(&mut self, what: &'static str, count: u32) -> Result<(), AdmitError> {
        self.items = self.items.saturating_add(u64::from(count));
        within(what, u64::from(count).max(self.items), ITEMS)
    }
}

fn within(what: &'static str, count: u64, most: u64) -> Result<(), AdmitError> {
    if count > most {
        return Err(AdmitError::TooComplex { what, count, most });
    }
    Ok(())
}

fn over(what: &'static str, count: usize, most: usize) -> AdmitError {
    let number = |value| u64::try_from(value).unwrap_or(u64::MAX);
    AdmitError::TooComplex { what, count: number(count), most: number(most) }
}

/// Whether a plugin may have this import: an interface of ours at a version we speak, or one of WASI 0.2 that a language's standard library needs.
fn is_offered(import: &str) -> bool {
    let Some((name, version)) = import.split_once('@') else {
        return false;
    };
    if let Some(interface) = name.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')) {
        return is_compatible(version) && OFFERED.contains(&interface);
    }
    version.starts_with("0.2.") && wasi::LINKED.contains(&name)
}

/// Whether a version of our package is one the host speaks: below 1.0, a minor version is a major one.
pub(crate) fn is_compatible(version: &str) -> bool {
    version
        .strip_prefix("0.1.")
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn refused(bytes: &[u8]) -> AdmitError {
        glance(bytes, SIZE).and_then(|()| admit(bytes)).unwrap_err()
    }

    #[test]
    fn what_is_no_component_is_told_apart() {
        assert_eq!(refused(b""), AdmitError::Empty);
        assert_eq!(refused(b"#!/bin/sh\n"), AdmitError::Garbage);
        assert_eq!(refused(&[0xff; 100]), AdmitError::Garbage);
        assert_eq!(refused(b"(component)"), AdmitError::Text);
        assert_eq!(refused(b"\n  ;; a plugin\n(component)"), AdmitError::Text);
        assert_eq!(refused(b"\0asm\x01\0\0\0"), AdmitError::CoreModule);
        assert_eq!(refused(b"\0as"), AdmitError::Truncated(3));
        assert_eq!(refused(b"\0asm\x0d\0"), AdmitError::Truncated(6));
        // A custom section of ten bytes of which two are there.
        assert_eq!(refused(b"\0asm\x0d\0\x01\0\0\x0a\x01x"), AdmitError::Truncated(12));
    }

    #[test]
    fn a_plugin_over_its_size_is_refused_before_it_is_read() {
        assert_eq!(
            glance(&[0; 11], 10).unwrap_err().to_string(),
            "the plugin has 11 bytes, over the limit `plugin-size` of 10 bytes: raise `limits.plugin-size` of the provisioner in the configuration"
        );
    }

    #[test]
    fn a_version_of_wasm_that_nobody_has_is_invalid() {
        assert!(matches!(refused(b"\0asm\x63\0\x01\0"), AdmitError::Invalid(_)));
    }

    #[test]
    fn one_function_that_would_keep_the_compiler_busy_is_refused() {
        let size = FUNCTION_SIZE + 1;
        let mut counts = Counts::default();
        assert_eq!(
            counts.function(size).unwrap_err().to_string(),
            "the plugin has 524289 bytes in one function, more than 524288"
        );
        counts.function(size - 1).unwrap();
    }

    #[test]
    fn only_what_is_linked_is_offered() {
        for import in [
            "gantry:provision/cluster@0.1.0",
            "gantry:provision/containers@0.1.0",
            "gantry:provision/routers@0.1.0",
            "gantry:provision/types@0.1.7",
            "wasi:io/streams@0.2.3",
            "wasi:cli/stderr@0.2.6",
        ] {
            assert!(is_offered(import), "{import}");
        }
        for import in [
            "gantry:provision/containers",
            "gantry:provision/containers@0.2.0",
            "gantry:provision/containers@0.1.x",
            "wasi:http/outgoing-handler@0.2.0",
            "wasi:io/streams@0.3.0",
            "acme:secrets/read@0.1.0",
            "run",
        ] {
            assert!(!is_offered(import), "{import}");
        }
    }
}
