//! What must hold for the tree itself: the direction of the crates, the form of the WIT package, no file that nobody runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wit_parser::{Docs, Resolve, Stability, TypeDefKind, TypeOwner, WorldItem};

/// The top of the tree.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every `.rs` file of a folder, by name.
fn modules_in(folder: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().context("a file has a name")?;
            found.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

#[test]
fn crates_depend_in_one_direction_only() -> Result<()> {
    let order = ["gantry-core", "gantry-engine", "gantry-runtime", "gantry"];
    // Knows none of them; of them only the top knows it.
    let apart = "gantry-registry";
    for (position, name) in order.iter().chain([&apart]).enumerate() {
        let is_apart = *name == apart;
        let manifest: toml::Table =
            std::fs::read_to_string(top().join("host").join(name).join("Cargo.toml"))?.parse()?;
        for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let Some(dependencies) = manifest.get(section).and_then(|value| value.as_table())
            else {
                continue;
            };
            for dependency in dependencies.keys().filter(|key| key.starts_with("gantry")) {
                let below = order.iter().position(|other| other == dependency);
                let may = if dependency == apart {
                    *name == "gantry"
                } else {
                    !is_apart && below.is_some_and(|below| below < position)
                };
                assert!(may, "{name} must not depend on {dependency} ([{section}])");
            }
        }
    }
    Ok(())
}

#[test]
fn the_core_has_no_tokio_no_engine_and_no_wasm() -> Result<()> {
    let manifest: toml::Table =
        std::fs::read_to_string(top().join("host/gantry-core/Cargo.toml"))?.parse()?;
    let dependencies = manifest.get("dependencies").and_then(|value| value.as_table());
    let dependencies = dependencies.context("gantry-core has dependencies")?;
    for forbidden in ["tokio", "bollard", "kube", "wasmtime", "hyper", "rusqlite"] {
        assert!(!dependencies.contains_key(forbidden), "gantry-core must not know {forbidden}");
    }
    Ok(())
}

#[test]
fn every_dependency_comes_from_the_registry() -> Result<()> {
    let lock: toml::Table = std::fs::read_to_string(top().join("Cargo.lock"))?.parse()?;
    let packages = lock.get("package").and_then(|value| value.as_array()).context("packages")?;
    let mut ours = 0;
    for package in packages {
        match package.get("source").and_then(|source| source.as_str()) {
            Some(source) => {
                let registry = "registry+https://github.com/rust-lang/crates.io-index";
                assert_eq!(source, registry, "{package}");
            }
            None => ours += 1,
        }
    }
    assert_eq!(ours, 11, "the crates of this workspace, and no other path");
    Ok(())
}

#[test]
fn generated_bindings_live_in_one_module() -> Result<()> {
    let mut places = Vec::new();
    let mut folders = vec![top().join("host")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && std::fs::read_to_string(&path)?.contains("bindgen!(")
            {
                places.push(path);
            }
        }
    }
    assert_eq!(
        places.len(),
        1,
        "one bindgen! in the host, in gantry-runtime/src/bindings.rs: {places:?}"
    );
    Ok(())
}

#[test]
fn every_item_of_the_wit_package_is_documented_and_since() -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(top().join("wit"))?;
    let mut faults = Vec::new();
    let mut items = 0;
    let mut check = |what: String, docs: Option<&Docs>, stability: Option<&Stability>| {
        items += 1;
        if docs.is_some_and(|docs| docs.contents.as_deref().unwrap_or_default().trim().is_empty()) {
            faults.push(format!("{what} has no documentation"));
        }
        if stability.is_some_and(|stability| !matches!(stability, Stability::Stable { .. })) {
            faults.push(format!("{what} has no @since"));
        }
    };

    check("the package".into(), Some(&resolve.packages[package].docs), None);
    for (name, world) in &resolve.packages[package].worlds {
        let world = &resolve.worlds[*world];
        check(format!("world {name}"), Some(&world.docs), Some(&world.stability));
        for (key, item) in world.imports.iter().chain(&world.exports) {
            // What an interface uses from another is imported along with it and has no line of its own; one that has a line is held to its docs below.
            if let WorldItem::Interface { stability, docs, .. } = item
                && docs.contents.is_some()
            {
                let key = resolve.name_world_key(key);
                check(format!("world {name}: {key}"), Some(docs), Some(stability));
            }
        }
    }
    for (name, interface) in &resolve.packages[package].interfaces {
        let interface = &resolve.interfaces[*interface];
        check(format!("interface {name}"), Some(&interface.docs), Some(&interface.stability));
        for (function_name, function) in &interface.functions {
            check(
                format!("{name}.{function_name}"),
                Some(&function.docs),
                Some(&function.stability),
            );
        }
        for (type_name, id) in &interface.types {
            let ty = &resolve.types[*id];
            // `use` of another interface's type: documented there.
            if matches!(ty.kind, TypeDefKind::Type(_))
                && matches!(ty.owner, TypeOwner::Interface(_))
            {
                continue;
            }
            let what = format!("{name}.{type_name}");
            check(what.clone(), Some(&ty.docs), Some(&ty.stability));
            match &ty.kind {
                TypeDefKind::Record(record) => {
                    for field in &record.fields {
                        check(format!("{what}.{}", field.name), Some(&field.docs), None);
                    }
                }
                TypeDefKind::Variant(variant) => {
                    for case in &variant.cases {
                        check(format!("{what}.{}", case.name), Some(&case.docs), None);
                    }
                }
                TypeDefKind::Enum(list) => {
                    for case in &list.cases {
                        check(format!("{what}.{}", case.name), Some(&case.docs), None);
                    }
                }
                TypeDefKind::Flags(flags) => {
                    for flag in &flags.flags {
                        check(format!("{what}.{}", flag.name), Some(&flag.docs), None);
                    }
                }
                _ => {}
            }
        }
    }
    assert!(items > 200, "the walk found only {items} items");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    println!("wit: {items} items, all documented");
    Ok(())
}

/// The lines of a world's text that import or export without a sentence about what and since when. The parser cannot tell them from what is imported along with another.
fn bare_lines(world: &str) -> Vec<&str> {
    let lines: Vec<&str> = world.lines().map(str::trim).collect();
    let written = |line: &str| line.starts_with("import ") || line.starts_with("export ");
    let bare = |at: &usize| {
        let before = |back: usize| at.checked_sub(back).map_or("", |before| lines[before]);
        written(lines[*at]) && !(before(1).starts_with("@since(") && before(2).starts_with("/// "))
    };
    (0..lines.len()).filter(bare).map(|at| lines[at]).collect()
}

#[test]
fn every_line_of_a_world_is_documented_and_since() -> Result<()> {
    let world = std::fs::read_to_string(top().join("wit/world.wit"))?;
    assert!(world.contains("    import containers;") && world.contains("    export plugin;"));
    assert_eq!(bare_lines(&world), [""; 0]);
    let odd = "/// Said.\n@since(version = 0.1.0)\nimport a;\n\n@since(version = 0.1.0)\nimport b;\n/// Said.\nexport c;\n";
    assert_eq!(bare_lines(odd), ["import b;", "export c;"]);
    Ok(())
}

/// The text of every test that may walk vectors.
fn walkers() -> Result<Vec<String>> {
    let mut texts = Vec::new();
    let mut folders = ["host", "plugins", "sdk", "tests"].map(|name| top().join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("it/tidy.rs")
            {
                let text = std::fs::read_to_string(&path)?;
                if text.contains("tests/vectors") || path.to_string_lossy().contains("/vectors/") {
                    texts.push(text);
                }
            }
        }
    }
    Ok(texts)
}

#[test]
fn every_vector_file_is_walked() -> Result<()> {
    let texts = walkers()?;
    let mut walked = 0;
    for entry in std::fs::read_dir(top().join("tests/vectors"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().context("a file has a name")?.to_string_lossy().into_owned();
        let spelled = [format!("\"{name}\""), format!("{name}.json")];
        let is_walked = |text: &String| spelled.iter().any(|spelled| text.contains(spelled));
        assert!(texts.iter().any(is_walked), "no test walks tests/vectors/{name}.json");
        walked += 1;
    }
    println!("vectors: {walked} files are walked");
    Ok(())
}

#[test]
fn every_interface_has_a_file_of_its_name() -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(top().join("wit"))?;
    for name in resolve.packages[package].interfaces.keys() {
        assert!(
            top().join("wit").join(format!("{name}.wit")).is_file(),
            "wit/{name}.wit is missing"
        );
    }
    Ok(())
}

#[test]
fn no_test_file_lies_unrun() -> Result<()> {
    let main = std::fs::read_to_string(top().join("tests/it/main.rs"))?;
    for name in modules_in(&top().join("tests/it"))? {
        if name != "main" {
            assert!(main.contains(&format!("mod {name};")), "tests/it/{name}.rs is not in main.rs");
        }
    }
    Ok(())
}

/// The keys of the configuration in a text of Rust.
fn keys(text: &str) -> impl Iterator<Item = &str> {
    let literals = text
        .split('"')
        .filter(|text| text.starts_with("docker:") || text.starts_with("kubernetes:"));
    literals.filter(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b"-:".contains(&b)))
}

#[test]
fn every_key_that_a_provisioner_reads_is_documented() -> Result<()> {
    let documented = std::fs::read_to_string(top().join("docs/configuration.md"))?;
    let mut folders: Vec<PathBuf> =
        ["plugins", "host/gantry-core/src", "host/gantry-runtime/src", "sdk/rust/src"]
            .map(|folder| top().join(folder))
            .into();
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)?;
                found.extend(keys(&text).map(str::to_owned));
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    let missing: Vec<_> =
        found.iter().filter(|key| !documented.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not tell of {missing:?}");
    Ok(())
}

#[test]
fn the_top_level_stays_small() -> Result<()> {
    let expected: BTreeSet<&str> = [
        ".ci",
        ".git",
        ".gitignore",
        "ARCHITECTURE.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "clippy.toml",
        "docs",
        "host",
        "plugins",
        "rust-toolchain.toml",
        "rustfmt.toml",
        "sdk",
        "target",
        "tests",
        "wit",
    ]
    .into();
    for entry in std::fs::read_dir(top())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        assert!(expected.contains(name.as_str()), "`{name}` does not belong on the top level");
    }
    Ok(())
}
