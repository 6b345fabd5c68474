//! Every verb reads and writes files, so that its component imports `wasi:filesystem`. Gives what the file system said.

use gantry_guests::Guest;
use gantry_guests::types::Error;

struct WasiFiles;

impl Guest for WasiFiles {
    const NAME: &'static str = "wasi-files";

    fn every() -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::Other(error.to_string());
        let users = std::fs::read("/etc/passwd").map_err(failed)?;
        std::fs::write("/tmp/users", users).map_err(failed)
    }
}

gantry_guests::export!(WasiFiles: plugin, provisioner);
