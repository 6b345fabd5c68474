//! The plugins of tests/guests, built once a run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of all guests.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        // <target>/debug/deps/<this test>.
        let target = own.ancestors().nth(3).unwrap();
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(top)
            .args(["build", "-p", "gantry-guests", "--examples"])
            .args(["--target", "wasm32-wasip2", "--profile", "plugin", "--target-dir"])
            .arg(target);
        // What cargo tells this test about itself is not for a build of something else.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_")) {
                cargo.env_remove(name);
            }
        }
        cargo.env_remove("CARGO_MANIFEST_DIR");
        let output = cargo.output().unwrap();
        assert!(
            output.status.success(),
            "the guests do not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        target.join("wasm32-wasip2/plugin/examples")
    })
}

/// The bytes of a guest.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let path = folder().join(name).with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("guest `{name}`: {error}"))
}
