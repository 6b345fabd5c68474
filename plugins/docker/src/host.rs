//! A Docker host to call, and what its answers say about a unit.

use gantry_sdk::Result;
use gantry_sdk::container::Container;
use gantry_sdk::containers::Client;
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::gantry_core::url::url_to_host;

/// A Docker host.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its address, by which the platform knows it.
    pub(crate) address: String,
    /// The machine, as others reach it.
    pub(crate) name: String,
    /// Calls to it.
    pub(crate) client: Client,
}

impl Host {
    /// The host with this address. Nothing is sent yet.
    pub(crate) fn open(address: &str) -> Result<Self> {
        let client = Client::open(address)?;
        Ok(Self { address: address.to_owned(), name: host_of(address), client })
    }
}

/// The machine behind an engine's address. A socket is on this one.
pub(crate) fn host_of(address: &str) -> String {
    let is_socket = ["unix:", "npipe:", "/"].iter().any(|start| address.starts_with(start));
    if is_socket { "127.0.0.1".to_owned() } else { url_to_host(address) }
}

/// Writes down what a container's inspect tells about the network (spec 5.3, set-network-info).
pub(crate) fn set_network(record: &mut UnitRecord, container: &Container) {
    record.ip.clone_from(&container.network_settings.ip_address);
    record.host_port = host_port(container, &record.exposed_port);
}

/// The machine's port for a port of the container: the first binding that names both a machine's address and a port. Empty without one.
fn host_port(container: &Container, port: &str) -> String {
    let bindings = container.network_settings.ports.get(port).and_then(Option::as_ref);
    bindings
        .into_iter()
        .flatten()
        .find(|binding| !binding.host_ip.is_empty() && !binding.host_port.is_empty())
        .map(|binding| binding.host_port.clone())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use gantry_sdk::container::PortBinding;

    use super::*;

    #[test]
    fn a_socket_is_on_this_machine() {
        for (address, host) in [
            ("unix:///var/run/docker.sock", "127.0.0.1"),
            ("/var/run/docker.sock", "127.0.0.1"),
            ("tcp://10.0.0.5:2376", "10.0.0.5"),
            ("http://127.0.0.1:4243", "127.0.0.1"),
            ("https://docker.example:2376/", "docker.example"),
            ("10.0.0.6:2375", "10.0.0.6"),
        ] {
            assert_eq!(host_of(address), host, "{address}");
        }
    }

    #[test]
    fn a_port_needs_a_machines_address_and_a_number() {
        let binding = |host_ip: &str, host_port: &str| PortBinding {
            host_ip: host_ip.to_owned(),
            host_port: host_port.to_owned(),
        };
        let mut container = Container::default();
        container.network_settings.ip_address = "172.17.0.2".to_owned();
        let ports = &mut container.network_settings.ports;
        ports.insert("8888/tcp".to_owned(), Some(vec![binding("", "1"), binding("0.0.0.0", "2")]));
        ports.insert("9999/tcp".to_owned(), None);

        let mut record =
            UnitRecord { exposed_port: "8888/tcp".to_owned(), ..UnitRecord::default() };
        set_network(&mut record, &container);
        assert_eq!((record.ip.as_str(), record.host_port.as_str()), ("172.17.0.2", "2"));

        record.exposed_port = "9999/tcp".to_owned();
        set_network(&mut record, &container);
        assert_eq!(record.host_port, "");
    }
}
