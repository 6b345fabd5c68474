//! What a label set says: setters, accessors and selectors (spec 4.1, 4.2).

use super::{
    APP_NAME, APP_PLATFORM, APP_PROCESS, APP_REPLICAS, BUILD_IMAGE, CLUSTER, IAAS_ID, IS_ASLEEP,
    IS_BUILD, IS_DEPLOY, IS_HEADLESS_SERVICE, IS_ISOLATED_RUN, IS_NODE_CONTAINER, IS_SERVICE,
    IS_STOPPED, LabelSet, Labels, NODE_ADDR, NODE_CONTAINER_NAME, NODE_CONTAINER_POOL,
    NODE_INTERNAL, NODE_POOL, RESTARTS, VOLUME_NAME,
};
use crate::go;

impl LabelSet {
    /// Counts restarts.
    pub fn set_restarts(&mut self, count: i64) {
        self.set(RESTARTS, count.to_string());
    }

    /// Says that the units are stopped.
    pub fn set_stopped(&mut self) {
        self.set_flag(IS_STOPPED, true);
    }

    /// Says that the units are asleep.
    pub fn set_asleep(&mut self) {
        self.set_flag(IS_ASLEEP, true);
    }

    /// Says that this is a service.
    pub fn set_is_service(&mut self) {
        self.set_flag(IS_SERVICE, true);
    }

    /// Says that this is a headless service.
    pub fn set_is_headless_service(&mut self) {
        self.set_flag(IS_HEADLESS_SERVICE, true);
    }

    /// Names the image being built.
    pub fn set_build_image(&mut self, image: &str) {
        self.set(BUILD_IMAGE, image);
    }

    /// The app's name.
    #[must_use]
    pub fn app_name(&self) -> &str {
        self.read(APP_NAME)
    }

    /// The process.
    #[must_use]
    pub fn app_process(&self) -> &str {
        self.read(APP_PROCESS)
    }

    /// The platform.
    #[must_use]
    pub fn app_platform(&self) -> &str {
        self.read(APP_PLATFORM)
    }

    /// How many units; 0 when unreadable, the nearest number when out of range.
    #[must_use]
    pub fn app_replicas(&self) -> i64 {
        go::atoi_or_zero(self.read(APP_REPLICAS))
    }

    /// How many restarts; 0 when unreadable, the nearest number when out of range.
    #[must_use]
    pub fn restarts(&self) -> i64 {
        go::atoi_or_zero(self.read(RESTARTS))
    }

    /// The image being built.
    #[must_use]
    pub fn build_image(&self) -> &str {
        self.read(BUILD_IMAGE)
    }

    /// Whether the units are stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        go::parse_bool(self.read(IS_STOPPED))
    }

    /// Whether the units are asleep.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        go::parse_bool(self.read(IS_ASLEEP))
    }

    /// Whether this is the unit of a deploy.
    #[must_use]
    pub fn is_deploy(&self) -> bool {
        go::parse_bool(self.read(IS_DEPLOY))
    }

    /// Whether this is what runs once on every node.
    #[must_use]
    pub fn is_node_container(&self) -> bool {
        go::parse_bool(self.read(IS_NODE_CONTAINER))
    }

    /// Whether this is a service.
    #[must_use]
    pub fn is_service(&self) -> bool {
        go::parse_bool(self.read(IS_SERVICE))
    }

    /// Whether this runs one command for somebody.
    #[must_use]
    pub fn is_isolated_run(&self) -> bool {
        go::parse_bool(self.read(IS_ISOLATED_RUN))
    }

    /// The node's address.
    #[must_use]
    pub fn node_addr(&self) -> &str {
        self.read(NODE_ADDR)
    }

    /// The node's pool.
    #[must_use]
    pub fn node_pool(&self) -> &str {
        self.read(NODE_POOL)
    }

    /// The node's id at the machine's provider.
    #[must_use]
    pub fn node_iaas_id(&self) -> &str {
        self.read(IAAS_ID)
    }

    /// The node's metadata: stored keys that carry the prefix and are not the platform's own. Keys keep their prefix.
    #[must_use]
    pub fn node_metadata(&self) -> Labels {
        self.labels
            .iter()
            .filter(|(key, _)| key.starts_with(&self.prefix) && !self.is_internal(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// The node's metadata, with the prefix cut off the keys.
    #[must_use]
    pub fn node_metadata_no_prefix(&self) -> Labels {
        self.labels
            .iter()
            .filter(|(key, _)| !self.is_internal(key))
            .filter_map(|(key, value)| Some((key.strip_prefix(&*self.prefix)?.to_owned(), value)))
            .map(|(key, value)| (key, value.clone()))
            .collect()
    }

    /// What the node carries besides its metadata; names the cluster unless that is empty.
    #[must_use]
    pub fn node_extra_data(&self, cluster: &str) -> Labels {
        let mut extra: Labels = self
            .labels
            .iter()
            .filter(|(key, _)| !key.starts_with(&self.prefix) || self.is_internal(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !cluster.is_empty() {
            extra.insert(CLUSTER.to_owned(), cluster.to_owned());
        }
        extra
    }

    /// All labels with their prefix. Where a key is stored bare and prefixed, the prefixed one counts, as for the accessors.
    #[must_use]
    pub fn to_labels(&self) -> Labels {
        let mut labels = Labels::new();
        for (key, value) in &self.labels {
            if key.starts_with(&self.prefix) {
                labels.insert(key.clone(), value.clone());
            } else {
                labels.entry(self.prefixed(key)).or_insert_with(|| value.clone());
            }
        }
        labels
    }

    /// What selects the units of a process.
    #[must_use]
    pub fn to_selector(&self) -> Labels {
        self.select(&[APP_NAME, APP_PROCESS, IS_BUILD, IS_ISOLATED_RUN])
    }

    /// What selects everything of an app.
    #[must_use]
    pub fn to_app_selector(&self) -> Labels {
        self.select(&[APP_NAME])
    }

    /// What selects a node container.
    #[must_use]
    pub fn to_node_container_selector(&self) -> Labels {
        self.select(&[NODE_CONTAINER_NAME, NODE_CONTAINER_POOL])
    }

    /// What selects a node.
    #[must_use]
    pub fn to_node_selector(&self) -> Labels {
        self.select(&[NODE_POOL, NODE_ADDR])
    }

    /// What selects the nodes of a pool.
    #[must_use]
    pub fn to_node_by_pool_selector(&self) -> Labels {
        self.select(&[NODE_POOL])
    }

    /// What selects services.
    #[must_use]
    pub fn to_is_service_selector(&self) -> Labels {
        self.select(&[IS_SERVICE])
    }

    /// What selects a volume.
    #[must_use]
    pub fn to_volume_selector(&self) -> Labels {
        self.select(&[VOLUME_NAME])
    }

    /// Those of the keys that are present, prefixed.
    ///
    /// Differs from the reference on purpose (design 10.3): a key that is stored with its prefix, as in a set read back from a cluster, is found too. It wins over a bare one
    /// of the same name, which on such a set is somebody else's label.
    fn select(&self, keys: &[&str]) -> Labels {
        keys.iter()
            .filter_map(|key| {
                let prefixed = self.prefixed(key);
                match self.labels.get(&prefixed) {
                    Some(value) => Some((prefixed, value.clone())),
                    None => self.labels.get(*key).map(|value| (self.outside(key), value.clone())),
                }
            })
            .collect()
    }

    /// The value of a key, prefixed or else bare; empty when there is none.
    fn read(&self, key: &str) -> &str {
        self.labels
            .get(&self.prefixed(key))
            .or_else(|| self.labels.get(key))
            .map_or("", String::as_str)
    }

    fn prefixed(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A stored key as it leaves the set: one that starts with the prefix has it already.
    fn outside(&self, key: &str) -> String {
        if key.starts_with(&self.prefix) { key.to_owned() } else { self.prefixed(key) }
    }

    fn is_internal(&self, key: &str) -> bool {
        key.strip_prefix(&*self.prefix).is_some_and(|bare| bare.starts_with(NODE_INTERNAL))
    }
}
