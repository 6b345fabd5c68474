//! Every verb resolves a name and connects, so that its component imports `wasi:sockets`. Gives what the network said.

use std::net::TcpStream;

use gantry_guests::Guest;
use gantry_guests::types::Error;

struct WasiSockets;

impl Guest for WasiSockets {
    const NAME: &'static str = "wasi-sockets";

    fn every() -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::Other(error.to_string());
        TcpStream::connect("localhost:2375").map(drop).map_err(failed)
    }
}

gantry_guests::export!(WasiSockets: plugin, provisioner);
