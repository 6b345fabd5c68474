//! A Docker host to call, and what its answers say about a unit.

use std::time::Duration;

use gantry_sdk::container::{Container, ContainerSpec, Image};
use gantry_sdk::containers::{Client, EngineError, Sequence, Step, StepReply};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::gantry_core::url::url_to_host;
use gantry_sdk::{Error, log, operation};

use crate::observe::PATIENCE;
use crate::{limits, machine, name, orphans};

/// A Docker host.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its address, by which the platform knows it.
    pub(crate) address: String,
    /// The machine, as others reach it.
    pub(crate) name: String,
    /// Calls to it. What is to have a place of the limiter (create, start, stop, remove) is none of them.
    pub(crate) client: Client,
}

impl Host {
    /// The host with this address. Nothing is sent yet.
    pub(crate) fn open(address: &str) -> Result<Self, Error> {
        let client = Client::open(address)?;
        Ok(Self { address: address.to_owned(), name: host_of(address), client })
    }

    /// An image. A machine that answers tells at once.
    pub(crate) fn image(&self, name: &str) -> Result<Image, EngineError> {
        let look = Sequence::new(&self.address, vec![Step::InspectImage(name.to_owned())]);
        match limits::run(look.within(PATIENCE))?.into_result()?.pop() {
            Some(StepReply::Image(image)) => Ok(*image),
            other => Err(strange(other.as_ref())),
        }
    }

    /// Makes a container and gives its id. What a call that fails may have made is removed, and a machine that makes none has failed.
    pub(crate) fn create(&self, name: &str, spec: &ContainerSpec) -> Result<String, EngineError> {
        let step = Step::Create { name: name.to_owned(), spec: Box::new(spec.clone()) };
        let made = match self.act(step, Duration::ZERO) {
            Ok(Some(StepReply::Id(id))) => Ok(id),
            Ok(other) => Err(strange(other.as_ref())),
            Err(error) => Err(error),
        };
        made.inspect_err(|error| {
            machine::note_create(&self.address, 0, error);
            self.discard(name);
        })
    }

    /// Starts a container.
    pub(crate) fn start(&self, container: &str) -> Result<(), EngineError> {
        self.act(Step::Start(container.to_owned()), Duration::ZERO).map(drop)
    }

    /// Removes a container that is no unit, by its name and by force, if it is there. One that cannot be removed now goes when the machine is looked after.
    pub(crate) fn discard(&self, container: &str) {
        let gone = || {
            // Whoever cancels wants nothing to be left.
            if operation::cancelled() {
                operation::undoing();
            }
            match self.act(Step::Remove(container.to_owned()), PATIENCE) {
                Ok(_) | Err(EngineError::NotFound(_)) => Ok(()),
                Err(error) => Err(error),
            }
        };
        let Err(error) = gone().or_else(|_| gone()) else { return };
        let fields = [("container", container), ("error", &error.to_string())];
        log::warn("a container that is no unit stays for a while", &fields);
        let left = UnitRecord {
            name: container.to_owned(),
            node: self.address.clone(),
            last_status_update: name::now(),
            ..UnitRecord::default()
        };
        if let Err(error) = orphans::leave(&left) {
            let fields = [("container", container), ("error", &error.to_string())];
            log::error("a container that is no unit stays", &fields);
        }
    }

    /// Looks into a container of an image, which is never started and is removed whatever happens.
    pub(crate) fn look_into<T, E: From<EngineError>>(
        &self,
        image: &str,
        whose: &str,
        look: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, E> {
        let name = name::of_isolated_run(whose);
        let spec = ContainerSpec {
            image: image.to_owned(),
            // An image without a command makes no container; this one is never run.
            cmd: Some(vec!["-".to_owned()]),
            ..ContainerSpec::default()
        };
        let id = self.create(&name, &spec)?;
        let result = look(&id);
        self.discard(&name);
        result
    }

    /// Does one thing in a place of the machine's own.
    fn act(&self, step: Step, time: Duration) -> Result<Option<StepReply>, EngineError> {
        let sequence = limits::sequence(&self.address, vec![step]).within(time);
        Ok(limits::run(sequence)?.into_result()?.pop())
    }
}

/// What is made of an answer that fits no question.
pub(crate) fn strange(reply: Option<&StepReply>) -> EngineError {
    EngineError::Failed(format!("not the answer to what was asked: {reply:?}"))
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
