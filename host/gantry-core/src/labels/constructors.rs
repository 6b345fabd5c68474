//! Label sets for each kind of thing (spec 4.3).

use super::{
    APP_NAME, APP_PLATFORM, APP_POOL, APP_PROCESS, APP_REPLICAS, BUILDER, IAAS_ID, IS_BUILD,
    IS_DEPLOY, IS_ISOLATED_RUN, IS_NODE_CONTAINER, IS_STOPPED, IS_TSURU, LabelSet, Labels,
    NODE_ADDR, NODE_CONTAINER_NAME, NODE_CONTAINER_POOL, NODE_POOL, PROVISIONER, ROUTER_NAME,
    ROUTER_TYPE, VOLUME_NAME, VOLUME_PLAN, VOLUME_POOL,
};
use crate::App;

/// The router whose type is known without configuration.
const HIPACHE: &str = "hipache";

/// Answers with the type of a router, from the configuration key `routers:<name>:type`; none when it is not set. A closure from name to type is one.
pub trait RouterTypes {
    /// The type of the router with this name.
    fn router_type(&self, router: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> RouterTypes for F {
    fn router_type(&self, router: &str) -> Option<String> {
        self(router)
    }
}

/// The type of a router of an app is not configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("config key 'routers:{router}:type' not found")]
pub struct UnknownRouterType {
    /// The router.
    pub router: String,
}

/// What [`LabelSet::process_labels`] needs.
#[derive(Clone, Copy, Debug)]
pub struct ProcessOptions<'a> {
    /// The app.
    pub app: &'a App,
    /// The names of its routers, in order.
    pub routers: &'a [String],
    /// The process; may be empty.
    pub process: &'a str,
    /// The provisioner's name.
    pub provisioner: &'a str,
    /// The builder's name.
    pub builder: &'a str,
    /// What comes before each key.
    pub prefix: &'a str,
    /// Whether this is the unit of a deploy.
    pub is_deploy: bool,
}

/// What a service's labels have beyond those of its process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceExtension<'a> {
    /// The provisioner's name.
    pub provisioner: &'a str,
    /// What comes before each key.
    pub prefix: &'a str,
    /// The image being built; left as it was when empty.
    pub build_image: &'a str,
    /// Whether this is the unit of a deploy.
    pub is_deploy: bool,
    /// Whether this runs one command for somebody.
    pub is_isolated_run: bool,
    /// Whether this builds an image.
    pub is_build: bool,
    /// The builder's name.
    pub builder: &'a str,
}

/// What [`LabelSet::service_labels`] needs.
#[derive(Clone, Copy, Debug)]
pub struct ServiceOptions<'a> {
    /// The app.
    pub app: &'a App,
    /// The names of its routers, in order.
    pub routers: &'a [String],
    /// The process; may be empty.
    pub process: &'a str,
    /// How many units.
    pub replicas: i64,
    /// The rest.
    pub extension: ServiceExtension<'a>,
}

/// What [`LabelSet::service_account_labels`] needs.
#[derive(Clone, Copy, Debug)]
pub struct ServiceAccountOptions<'a> {
    /// The name of the app; none for the account of a node container.
    pub app_name: Option<&'a str>,
    /// The node container, when there is no app.
    pub node_container_name: &'a str,
    /// The provisioner's name.
    pub provisioner: &'a str,
    /// What comes before each key.
    pub prefix: &'a str,
}

/// What [`LabelSet::node_container_labels`] needs.
#[derive(Clone, Copy, Debug)]
pub struct NodeContainerOptions<'a> {
    /// The node container.
    pub name: &'a str,
    /// Labels that win over all others.
    pub custom_labels: &'a Labels,
    /// The pool it is for; empty for all.
    pub pool: &'a str,
    /// The provisioner's name.
    pub provisioner: &'a str,
    /// What comes before each key.
    pub prefix: &'a str,
}

/// What [`LabelSet::node_labels`] needs.
#[derive(Clone, Copy, Debug)]
pub struct NodeOptions<'a> {
    /// The id at the machine's provider; left out when empty.
    pub iaas_id: &'a str,
    /// The node's address; left out when empty.
    pub address: &'a str,
    /// The node's pool.
    pub pool: &'a str,
    /// What comes before each key.
    pub prefix: &'a str,
    /// Labels to start from.
    pub custom_labels: &'a Labels,
}

/// What [`LabelSet::volume_labels`] needs.
#[derive(Clone, Copy, Debug)]
pub struct VolumeOptions<'a> {
    /// The volume.
    pub name: &'a str,
    /// The provisioner's name.
    pub provisioner: &'a str,
    /// Its pool.
    pub pool: &'a str,
    /// Its plan.
    pub plan: &'a str,
    /// What comes before each key.
    pub prefix: &'a str,
}

impl LabelSet {
    /// The labels of one process of an app.
    ///
    /// # Errors
    ///
    /// A router whose type is not configured; `hipache` is its own type.
    pub fn process_labels(
        options: &ProcessOptions<'_>,
        router_types: &(impl RouterTypes + ?Sized),
    ) -> Result<Self, UnknownRouterType> {
        let types: Vec<String> = options
            .routers
            .iter()
            .map(|router| router_type(router, router_types))
            .collect::<Result<_, _>>()?;
        let mut set = Self::new(Labels::new(), options.prefix);
        set.set_flag(IS_TSURU, true);
        set.set_flag(IS_STOPPED, false);
        set.set_flag(IS_DEPLOY, options.is_deploy);
        set.set(APP_NAME, &options.app.name);
        set.set(APP_PROCESS, options.process);
        set.set(APP_PLATFORM, &options.app.platform);
        set.set(APP_POOL, &options.app.pool);
        set.set(ROUTER_NAME, options.routers.join(","));
        set.set(ROUTER_TYPE, types.join(","));
        set.set(PROVISIONER, options.provisioner);
        set.set(BUILDER, options.builder);
        Ok(set)
    }

    /// The labels of a service: those of its process, the number of units and the extension.
    ///
    /// # Errors
    ///
    /// A router whose type is not configured.
    pub fn service_labels(
        options: &ServiceOptions<'_>,
        router_types: &(impl RouterTypes + ?Sized),
    ) -> Result<Self, UnknownRouterType> {
        let process = ProcessOptions {
            app: options.app,
            routers: options.routers,
            process: options.process,
            provisioner: "",
            builder: "",
            prefix: options.extension.prefix,
            is_deploy: options.extension.is_deploy,
        };
        let mut set = Self::process_labels(&process, router_types)?;
        set.set(APP_REPLICAS, options.replicas.to_string());
        set.extend_service_labels(&options.extension);
        Ok(set)
    }

    /// Turns these labels into those of a service. All that the extension has is written, its empty texts too, but for an empty image.
    pub fn extend_service_labels(&mut self, extension: &ServiceExtension<'_>) {
        extension.prefix.clone_into(&mut self.prefix);
        if !extension.build_image.is_empty() {
            self.set_build_image(extension.build_image);
        }
        self.set(PROVISIONER, extension.provisioner);
        self.set_is_service();
        self.set_flag(IS_DEPLOY, extension.is_deploy);
        self.set_flag(IS_ISOLATED_RUN, extension.is_isolated_run);
        self.set_flag(IS_BUILD, extension.is_build);
        self.set(BUILDER, extension.builder);
    }

    /// What belongs into labels and what into annotations: the routers, whose list may be longer than a label is allowed to be.
    #[must_use]
    pub fn split_service_labels_annotations(&self) -> (Self, Self) {
        let (annotations, labels) = self
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .partition(|(key, _)| key == ROUTER_NAME || key == ROUTER_TYPE);
        (Self::new(labels, &self.prefix), Self::new(annotations, &self.prefix))
    }

    /// The labels of a service account.
    #[must_use]
    pub fn service_account_labels(options: &ServiceAccountOptions<'_>) -> Self {
        let mut set = Self::new(Labels::new(), options.prefix);
        set.set_flag(IS_TSURU, true);
        set.set(PROVISIONER, options.provisioner);
        match options.app_name {
            Some(name) => set.set(APP_NAME, name),
            None => set.set(NODE_CONTAINER_NAME, options.node_container_name),
        }
        set
    }

    /// The labels of a node container.
    #[must_use]
    pub fn node_container_labels(options: &NodeContainerOptions<'_>) -> Self {
        let mut set = Self::new(Labels::new(), options.prefix);
        set.set_flag(IS_TSURU, true);
        set.set_flag(IS_NODE_CONTAINER, true);
        set.set(PROVISIONER, options.provisioner);
        set.set(NODE_CONTAINER_NAME, options.name);
        set.set(NODE_CONTAINER_POOL, options.pool);
        for (key, value) in options.custom_labels {
            set.set(key, value);
        }
        set
    }

    /// The labels of a node. What the custom labels say about pool, address and id, bare or prefixed, does not count.
    #[must_use]
    pub fn node_labels(options: &NodeOptions<'_>) -> Self {
        let mut set = Self::new(options.custom_labels.clone(), options.prefix);
        for key in [NODE_POOL, NODE_ADDR, IAAS_ID] {
            set.labels.remove(key);
            set.labels.remove(&format!("{}{key}", options.prefix));
        }
        set.set(NODE_POOL, options.pool);
        if !options.address.is_empty() {
            set.set(NODE_ADDR, options.address);
        }
        if !options.iaas_id.is_empty() {
            set.set(IAAS_ID, options.iaas_id);
        }
        set
    }

    /// The labels of a volume.
    #[must_use]
    pub fn volume_labels(options: &VolumeOptions<'_>) -> Self {
        let mut set = Self::new(Labels::new(), options.prefix);
        set.set_flag(IS_TSURU, true);
        set.set(PROVISIONER, options.provisioner);
        set.set(VOLUME_NAME, options.name);
        set.set(VOLUME_POOL, options.pool);
        set.set(VOLUME_PLAN, options.plan);
        set
    }
}

fn router_type(
    router: &str,
    types: &(impl RouterTypes + ?Sized),
) -> Result<String, UnknownRouterType> {
    match types.router_type(router) {
        Some(kind) => Ok(kind),
        None if router == HIPACHE => Ok(HIPACHE.to_owned()),
        None => Err(UnknownRouterType { router: router.to_owned() }),
    }
}
