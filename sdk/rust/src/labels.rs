//! The platform's labels. The host makes them, so that every backend reads the same from them; what it made is a `gantry_core` [`LabelSet`], read and changed without a call.

use gantry_core::labels::{
    NodeContainerOptions, NodeOptions, ProcessOptions, ServiceAccountOptions, ServiceExtension,
    ServiceOptions, VolumeOptions,
};
use gantry_core::{App, LabelSet, Labels};

use crate::Result;
use crate::bindings::gantry::provision::labels as imported;

/// The labels of one process of an app.
///
/// # Errors
///
/// The type of a router is not configured.
pub fn process(options: &ProcessOptions<'_>) -> Result<LabelSet> {
    Ok(made(&imported::LabelSet::process_labels(&imported::ProcessOptions {
        app: options.app.into(),
        routers: options.routers.to_vec(),
        process: options.process.to_owned(),
        provisioner: options.provisioner.to_owned(),
        builder: options.builder.to_owned(),
        prefix: options.prefix.to_owned(),
        is_deploy: options.is_deploy,
    })?))
}

/// The labels of a service.
///
/// # Errors
///
/// The type of a router is not configured.
pub fn service(options: &ServiceOptions<'_>) -> Result<LabelSet> {
    let replicas = i32::try_from(options.replicas)
        .map_err(|_| crate::Error::InvalidArgument("too many units".to_owned()))?;
    Ok(made(&imported::LabelSet::service_labels(&imported::ServiceOptions {
        app: options.app.into(),
        routers: options.routers.to_vec(),
        process: options.process.to_owned(),
        replicas,
        extension: (&options.extension).into(),
    })?))
}

/// Turns labels into those of a service.
#[must_use]
pub fn extend_service(set: &LabelSet, extension: &ServiceExtension<'_>) -> LabelSet {
    let set = remade(set);
    set.extend_service_labels(&extension.into());
    made(&set)
}

/// What belongs into labels and what into annotations.
#[must_use]
pub fn split_service(set: &LabelSet) -> (LabelSet, LabelSet) {
    let (labels, annotations) = remade(set).split_service_labels_annotations();
    (made(&labels), made(&annotations))
}

/// The labels of a service account. Of the app, the host needs its name only.
#[must_use]
pub fn service_account(options: &ServiceAccountOptions<'_>) -> LabelSet {
    let app = options.app_name.map(|name| App { name: name.to_owned(), ..App::default() });
    made(&imported::LabelSet::service_account_labels(&imported::ServiceAccountOptions {
        app: app.as_ref().map(Into::into),
        node_container_name: options.node_container_name.to_owned(),
        provisioner: options.provisioner.to_owned(),
        prefix: options.prefix.to_owned(),
    }))
}

/// The labels of a node container.
#[must_use]
pub fn node_container(options: &NodeContainerOptions<'_>) -> LabelSet {
    made(&imported::LabelSet::node_container_labels(&imported::NodeContainerOptions {
        name: options.name.to_owned(),
        custom_labels: pairs(options.custom_labels),
        pool: options.pool.to_owned(),
        provisioner: options.provisioner.to_owned(),
        prefix: options.prefix.to_owned(),
    }))
}

/// The labels of a node.
#[must_use]
pub fn node(options: &NodeOptions<'_>) -> LabelSet {
    made(&imported::LabelSet::node_labels(&imported::NodeOptions {
        iaas_id: options.iaas_id.to_owned(),
        address: options.address.to_owned(),
        pool: options.pool.to_owned(),
        prefix: options.prefix.to_owned(),
        custom_labels: pairs(options.custom_labels),
    }))
}

/// The labels of a volume.
#[must_use]
pub fn volume(options: &VolumeOptions<'_>) -> LabelSet {
    made(&imported::LabelSet::volume_labels(&imported::VolumeOptions {
        name: options.name.to_owned(),
        provisioner: options.provisioner.to_owned(),
        pool: options.pool.to_owned(),
        plan: options.plan.to_owned(),
        prefix: options.prefix.to_owned(),
    }))
}

impl From<&ServiceExtension<'_>> for imported::ServiceExtension {
    fn from(extension: &ServiceExtension<'_>) -> Self {
        Self {
            provisioner: extension.provisioner.to_owned(),
            prefix: extension.prefix.to_owned(),
            build_image: extension.build_image.to_owned(),
            is_deploy: extension.is_deploy,
            is_isolated_run: extension.is_isolated_run,
            is_build: extension.is_build,
            builder: extension.builder.to_owned(),
        }
    }
}

fn made(set: &imported::LabelSet) -> LabelSet {
    LabelSet::new(set.stored().into_iter().collect(), set.prefix())
}

fn remade(set: &LabelSet) -> imported::LabelSet {
    imported::LabelSet::new(&pairs(&set.labels), &set.prefix)
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
