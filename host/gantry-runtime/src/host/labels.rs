//! `labels`: the rules of `gantry-core`, called from a guest. Nothing leaves the sandbox and nothing waits; each call is counted like any other.

use gantry_core::labels::{
    self, LabelSet, NodeContainerOptions, NodeOptions, ProcessOptions, ServiceAccountOptions,
    ServiceExtension, ServiceOptions, VolumeOptions,
};
use gantry_engine::Config;
use wasmtime::component::Resource;

use crate::bindings::gantry::provision::labels as wit;
use crate::bindings::gantry::provision::types::Error;
use crate::call::CallState;
use crate::convert::{app_from, pairs, table};
use crate::host::streams::Holding;

/// A label set in the hands of a guest, and the room it takes in the host.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Set {
    labels: LabelSet,
    // Given back when the set is dropped or changed.
    holding: Holding,
}

type Pairs = Vec<(String, String)>;

impl wit::Host for CallState {}

impl CallState {
    fn set(&mut self, set: &Resource<Set>) -> wasmtime::Result<&LabelSet> {
        self.charge(0)?;
        Ok(&self.table.get(set)?.labels)
    }

    /// Changes a set, and holds what it is then.
    fn change(
        &mut self,
        set: &Resource<Set>,
        change: impl FnOnce(&mut LabelSet),
    ) -> wasmtime::Result<()> {
        self.charge(0)?;
        let set = self.table.get_mut(set)?;
        change(&mut set.labels);
        set.holding = self.held.hold(weight(&set.labels)).map_err(wasmtime::Error::new)?;
        Ok(())
    }

    fn make(&mut self, set: LabelSet) -> wasmtime::Result<Resource<Set>> {
        self.charge(0)?;
        let holding = self.held.hold(weight(&set)).map_err(wasmtime::Error::new)?;
        self.push(Set { labels: set, holding })
    }

    fn make_or_tell<E: ToString>(
        &mut self,
        set: Result<LabelSet, E>,
    ) -> wasmtime::Result<Result<Resource<Set>, Error>> {
        match set {
            Ok(set) => Ok(Ok(self.make(set)?)),
            Err(error) => {
                self.charge(0)?;
                Ok(Err(Error::Other(error.to_string())))
            }
        }
    }

    fn router_types(&self) -> wasmtime::Result<impl Fn(&str) -> Option<String> + use<>> {
        let config = std::sync::Arc::clone(&self.outside()?.scope.config);
        Ok(move |router: &str| router_type(&config, router))
    }
}

fn router_type(config: &Config, router: &str) -> Option<String> {
    let value = config.get(&format!("routers:{router}:type"))?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// What a label takes beside its texts: two strings, their allocations and its place in the table.
const LABEL: usize = 100;

/// The bytes that a set takes.
fn weight(set: &LabelSet) -> u64 {
    let bytes = set.labels.iter().fold(set.prefix.len(), |sum, (key, value)| {
        sum.saturating_add(key.len()).saturating_add(value.len()).saturating_add(LABEL)
    });
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn extension(extension: &wit::ServiceExtension) -> ServiceExtension<'_> {
    ServiceExtension {
        provisioner: &extension.provisioner,
        prefix: &extension.prefix,
        build_image: &extension.build_image,
        is_deploy: extension.is_deploy,
        is_isolated_run: extension.is_isolated_run,
        is_build: extension.is_build,
        builder: &extension.builder,
    }
}

/// A count as the WIT package has it; what does not fit is at its end.
fn count(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

macro_rules! setters {
    ($($name:ident),*) => {
        $(fn $name(&mut self, set: Resource<Set>) -> wasmtime::Result<()> {
            self.change(&set, LabelSet::$name)
        })*
    };
}

macro_rules! texts {
    ($($name:ident),*) => {
        $(fn $name(&mut self, set: Resource<Set>) -> wasmtime::Result<String> {
            Ok(self.set(&set)?.$name().to_owned())
        })*
    };
}

macro_rules! flags {
    ($($name:ident),*) => {
        $(fn $name(&mut self, set: Resource<Set>) -> wasmtime::Result<bool> {
            Ok(self.set(&set)?.$name())
        })*
    };
}

macro_rules! tables {
    ($($name:ident),*) => {
        $(fn $name(&mut self, set: Resource<Set>) -> wasmtime::Result<Pairs> {
            Ok(pairs(self.set(&set)?.$name()))
        })*
    };
}

impl wit::HostLabelSet for CallState {
    fn new(&mut self, labels: Pairs, prefix: String) -> wasmtime::Result<Resource<Set>> {
        self.make(LabelSet::new(table(labels), prefix))
    }

    fn process_labels(
        &mut self,
        options: wit::ProcessOptions,
    ) -> wasmtime::Result<Result<Resource<Set>, Error>> {
        let set = LabelSet::process_labels(
            &ProcessOptions {
                app: &app_from(options.app),
                routers: &options.routers,
                process: &options.process,
                provisioner: &options.provisioner,
                builder: &options.builder,
                prefix: &options.prefix,
                is_deploy: options.is_deploy,
            },
            &self.router_types()?,
        );
        self.make_or_tell(set)
    }

    fn service_labels(
        &mut self,
        options: wit::ServiceOptions,
    ) -> wasmtime::Result<Result<Resource<Set>, Error>> {
        let set = LabelSet::service_labels(
            &ServiceOptions {
                app: &app_from(options.app),
                routers: &options.routers,
                process: &options.process,
                replicas: i64::from(options.replicas),
                extension: extension(&options.extension),
            },
            &self.router_types()?,
        );
        self.make_or_tell(set)
    }

    fn service_account_labels(
        &mut self,
        options: wit::ServiceAccountOptions,
    ) -> wasmtime::Result<Resource<Set>> {
        self.make(LabelSet::service_account_labels(&ServiceAccountOptions {
            app_name: options.app.as_ref().map(|app| app.name.as_str()),
            node_container_name: &options.node_container_name,
            provisioner: &options.provisioner,
            prefix: &options.prefix,
        }))
    }

    fn node_container_labels(
        &mut self,
        options: wit::NodeContainerOptions,
    ) -> wasmtime::Result<Resource<Set>> {
        let custom_labels: labels::Labels = table(options.custom_labels);
        self.make(LabelSet::node_container_labels(&NodeContainerOptions {
            name: &options.name,
            custom_labels: &custom_labels,
            pool: &options.pool,
            provisioner: &options.provisioner,
            prefix: &options.prefix,
        }))
    }

    fn node_labels(&mut self, options: wit::NodeOptions) -> wasmtime::Result<Resource<Set>> {
        let custom_labels: labels::Labels = table(options.custom_labels);
        self.make(LabelSet::node_labels(&NodeOptions {
            iaas_id: &options.iaas_id,
            address: &options.address,
            pool: &options.pool,
            prefix: &options.prefix,
            custom_labels: &custom_labels,
        }))
    }

    fn volume_labels(&mut self, options: wit::VolumeOptions) -> wasmtime::Result<Resource<Set>> {
        self.make(LabelSet::volume_labels(&VolumeOptions {
            name: &options.name,
            provisioner: &options.provisioner,
            pool: &options.pool,
            plan: &options.plan,
            prefix: &options.prefix,
        }))
    }

    fn extend_service_labels(
        &mut self,
        set: Resource<Set>,
        options: wit::ServiceExtension,
    ) -> wasmtime::Result<()> {
        self.change(&set, |set| set.extend_service_labels(&extension(&options)))
    }

    fn split_service_labels_annotations(
        &mut self,
        set: Resource<Set>,
    ) -> wasmtime::Result<(Resource<Set>, Resource<Set>)> {
        let (labels, annotations) = self.set(&set)?.split_service_labels_annotations();
        Ok((self.make(labels)?, self.make(annotations)?))
    }

    fn stored(&mut self, set: Resource<Set>) -> wasmtime::Result<Pairs> {
        Ok(pairs(self.set(&set)?.labels.clone()))
    }

    fn prefix(&mut self, set: Resource<Set>) -> wasmtime::Result<String> {
        Ok(self.set(&set)?.prefix.clone())
    }

    fn set_restarts(&mut self, set: Resource<Set>, count: i32) -> wasmtime::Result<()> {
        self.change(&set, |set| set.set_restarts(i64::from(count)))
    }

    fn set_build_image(&mut self, set: Resource<Set>, image: String) -> wasmtime::Result<()> {
        self.change(&set, |set| set.set_build_image(&image))
    }

    setters!(set_stopped, set_asleep, set_is_service, set_is_headless_service);

    texts!(app_name, app_process, app_platform, build_image, node_addr, node_pool, node_iaas_id);

    flags!(is_stopped, is_asleep, is_deploy, is_service, is_isolated_run);

    fn app_replicas(&mut self, set: Resource<Set>) -> wasmtime::Result<i32> {
        Ok(count(self.set(&set)?.app_replicas()))
    }

    fn restarts(&mut self, set: Resource<Set>) -> wasmtime::Result<i32> {
        Ok(count(self.set(&set)?.restarts()))
    }

    fn node_extra_data(&mut self, set: Resource<Set>, cluster: String) -> wasmtime::Result<Pairs> {
        Ok(pairs(self.set(&set)?.node_extra_data(&cluster)))
    }

    tables!(
        node_metadata,
        node_metadata_no_prefix,
        to_labels,
        to_selector,
        to_app_selector,
        to_node_container_selector,
        to_node_selector,
        to_node_by_pool_selector,
        to_is_service_selector,
        to_volume_selector
    );

    fn drop(&mut self, set: Resource<Set>) -> wasmtime::Result<()> {
        self.table.delete(set)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_label_weighs_what_the_host_keeps_of_it() {
        let labels = (0..1_000).map(|number| (format!("{number:03}"), String::new()));
        let bytes = weight(&LabelSet::new(labels.collect(), ""));
        let kept = 1_000 * (2 * size_of::<String>() + 3);
        assert!(bytes >= u64::try_from(kept).unwrap(), "{bytes} of {kept}");
    }
}
