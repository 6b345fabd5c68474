//! The optional abilities that are about more than one app's units: terminals, sleep, machines, storage, builds.

use gantry_core::image::InspectedImage;
use gantry_core::node::{
    AddNodeOptions, Node, NodeStatusData, RemoveNodeOptions, UpdateNodeOptions,
};
use gantry_core::{App, ShellOptions, Unit};
use gantry_engine::Operation;
use gantry_engine::stream::{Reader, Session};

use super::Provisioner;
use super::pages::Pages;
use crate::bindings::exports::gantry::provision::{nodes as wit_nodes, shell as wit_shell};
use crate::bounds::Bound;
use crate::call::{CallError, perform};
use crate::convert::{app_to, node_from, node_weight, pairs, status_to, unit_from};
use crate::generation::Interface;
use crate::host::streams::{Reader as HeldReader, Session as HeldSession};

impl Provisioner {
    /// Puts the units of a process to sleep. An empty process is every one.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn sleep(
        &self,
        operation: &Operation,
        app: &App,
        process: &str,
    ) -> Result<(), CallError> {
        let (app, process) = (app_to(app), process.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Sleep,
            "sleeping",
            |live, guest: sleep| guest.call_sleep(&mut live.store, &app, &process).await
        )
    }

    /// Opens a shell in a unit. The session outlives the call and the plugin.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn shell(
        &self,
        operation: &Operation,
        app: &App,
        options: &ShellOptions,
    ) -> Result<Session, CallError> {
        let app = app_to(app);
        let options = wit_shell::ShellOptions {
            unit: options.unit.clone(),
            term: options.term.clone(),
            width: options.width,
            height: options.height,
        };
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::Shell,
            "running shell",
            |live, guest: shell| {
                match guest.call_open(&mut live.store, &app, &options).await? {
                    Ok(session) => {
                        let HeldSession(session) = live.store.data_mut().table.delete(session)?;
                        Ok(Ok(session))
                    }
                    Err(error) => Ok(Err(error)),
                }
            }
        )
    }

    /// The name of the app that has a unit.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn app_from_unit_id(
        &self,
        operation: &Operation,
        unit_id: &str,
    ) -> Result<String, CallError> {
        let unit_id = unit_id.to_owned();
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::UnitFinder,
            "finding units",
            |live, guest: unit_finder| {
                guest.call_app_from_unit_id(&mut live.store, &unit_id).await
            }
        )
    }

    /// The nodes, all pages of them; only those with one of these addresses when there is a list. And why some may be missing, for people.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn nodes(
        &self,
        operation: &Operation,
        addresses: Option<&[String]>,
    ) -> Result<(Vec<Node>, Vec<String>), CallError> {
        let addresses = addresses.map(<[String]>::to_vec);
        let name = self.name().to_owned();
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::Nodes,
            NODE_OPERATIONS,
            |live, guest: nodes| {
                let mut nodes = Pages::new("nodes.list", "nodes");
                let mut problems = Vec::new();
                loop {
                    let asked = addresses.as_deref();
                    let page = match guest.call_list(&mut live.store, asked, nodes.after()).await? {
                        Ok(page) => page,
                        Err(error) => return Ok(Err(error)),
                    };
                    let told = page.problems.iter().map(String::len);
                    let bytes = page.nodes.iter().map(node_weight).chain(told);
                    let bytes = bytes.fold(0, usize::saturating_add);
                    problems.extend(page.problems);
                    let entries = page.nodes.into_iter().map(|node| node_from(&name, node));
                    if nodes.add(&live.store.data().held, bytes, entries, page.next)? {
                        return Ok(Ok((nodes.all(), problems)));
                    }
                }
            }
        )
    }

    /// The node with this address.
    ///
    /// # Errors
    /// There is none, what else the plugin said, why it died, or that it has no such ability.
    pub async fn node(&self, operation: &Operation, address: &str) -> Result<Node, CallError> {
        let (address, name) = (address.to_owned(), self.name().to_owned());
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::Nodes,
            NODE_OPERATIONS,
            |live, guest: nodes| {
                let node = guest.call_get(&mut live.store, &address).await?;
                Ok(node.map(|node| node_from(&name, node)))
            }
        )
    }

    /// The units on a node.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn node_units(
        &self,
        operation: &Operation,
        address: &str,
    ) -> Result<Vec<Unit>, CallError> {
        let address = address.to_owned();
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::Nodes,
            NODE_OPERATIONS,
            |live, guest: nodes| {
                let units = guest.call_units(&mut live.store, &address).await?;
                Ok(units.map(|units| units.into_iter().map(unit_from).collect()))
            }
        )
    }

    /// Adds a machine, or updates the one that is there.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn add_node(
        &self,
        operation: &Operation,
        options: &AddNodeOptions,
    ) -> Result<(), CallError> {
        let options = options.clone();
        let options = wit_nodes::AddOptions {
            address: options.address,
            pool: options.pool,
            iaas_id: options.iaas_id,
            metadata: pairs(options.metadata),
            register: options.register,
            ca_cert: options.ca_cert,
            client_cert: options.client_cert,
            client_key: options.client_key,
            wait: options.wait,
        };
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Nodes,
            NODE_OPERATIONS,
            |live, guest: nodes| guest.call_add(&mut live.store, &options).await
        )
    }

    /// Changes a machine.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn update_node(
        &self,
        operation: &Operation,
        options: &UpdateNodeOptions,
    ) -> Result<(), CallError> {
        let options = options.clone();
        let options = wit_nodes::UpdateOptions {
            address: options.address,
            pool: options.pool,
            metadata: pairs(options.metadata),
            enable: options.enable,
            disable: options.disable,
        };
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Nodes,
            NODE_OPERATIONS,
            |live, guest: nodes| guest.call_update(&mut live.store, &options).await
        )
    }

    /// Removes a machine.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn remove_node(
        &self,
        operation: &Operation,
        options: &RemoveNodeOptions,
    ) -> Result<(), CallError> {
        let options = wit_nodes::RemoveOptions {
            address: options.address.clone(),
            rebalance: options.rebalance,
        };
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Nodes,
            NODE_OPERATIONS,
            |live, guest: nodes| guest.call_remove(&mut live.store, &options).await
        )
    }

    /// The node that an agent's words are about.
    ///
    /// # Errors
    /// There is none, what else the plugin said, why it died, or that it has no such ability.
    pub async fn node_for_node_data(
        &self,
        operation: &Operation,
        data: &NodeStatusData,
    ) -> Result<Node, CallError> {
        let (data, name) = (data.clone(), self.name().to_owned());
        let data = wit_nodes::NodeStatusData {
            addresses: data.addresses,
            units: data
                .units
                .into_iter()
                .map(|unit| wit_nodes::UnitStatusData {
                    id: unit.id,
                    name: unit.name,
                    status: unit.status.map(status_to),
                })
                .collect(),
            checks: data
                .checks
                .into_iter()
                .map(|check| wit_nodes::NodeCheckResult {
                    name: check.name,
                    error: check.error,
                    successful: check.successful,
                })
                .collect(),
        };
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::Nodes,
            NODE_OPERATIONS,
            |live, guest: nodes| {
                let node = guest.call_for_node_data(&mut live.store, &data).await?;
                Ok(node.map(|node| node_from(&name, node)))
            }
        )
    }

    /// Brings node containers to what is configured now, in one pool or in every one when it is empty.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn upgrade_node_container(
        &self,
        operation: &Operation,
        name: &str,
        pool: &str,
    ) -> Result<(), CallError> {
        let (name, pool) = (name.to_owned(), pool.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::NodeContainers,
            "node container operations",
            |live, guest: node_containers| {
                guest.call_upgrade(&mut live.store, &name, &pool).await
            }
        )
    }

    /// Removes node containers, in one pool or in every one when it is empty.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn remove_node_container(
        &self,
        operation: &Operation,
        name: &str,
        pool: &str,
    ) -> Result<(), CallError> {
        let (name, pool) = (name.to_owned(), pool.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::NodeContainers,
            "node container operations",
            |live, guest: node_containers| guest.call_remove(&mut live.store, &name, &pool).await
        )
    }

    /// Deletes what the backend keeps for a volume.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn delete_volume(
        &self,
        operation: &Operation,
        name: &str,
        pool: &str,
    ) -> Result<(), CallError> {
        let (name, pool) = (name.to_owned(), pool.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Volumes,
            "volume operations",
            |live, guest: volumes| guest.call_delete(&mut live.store, &name, &pool).await
        )
    }

    /// Builds an image of an app's source, a tar archive, and gives its name.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn build_pod(
        &self,
        operation: &Operation,
        app: &App,
        archive: Reader,
        tag: &str,
    ) -> Result<String, CallError> {
        let (app, tag) = (app_to(app), tag.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::ClusterBuilder,
            "builds in a cluster",
            |live, guest: cluster_builder| {
                let archive = live.store.data_mut().push(HeldReader(archive))?;
                guest.call_build_pod(&mut live.store, &app, archive, &tag).await
            }
        )
    }

    /// Gives an image another name, pushes it to the registry, and looks into it.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn tag_push_and_inspect(
        &self,
        operation: &Operation,
        app: &App,
        image: &str,
        new_image: &str,
    ) -> Result<InspectedImage, CallError> {
        let (app, image, new_image) = (app_to(app), image.to_owned(), new_image.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::ClusterBuilder,
            "builds in a cluster",
            |live, guest: cluster_builder| {
                let inspected = guest
                    .call_tag_push_and_inspect(&mut live.store, &app, &image, &new_image)
                    .await?;
                Ok(inspected.map(|inspected| InspectedImage {
                    image: inspected.image,
                    procfile: inspected.procfile,
                    tsuru_yaml: inspected.tsuru_yaml,
                }))
            }
        )
    }
}

/// What a provisioner without nodes is said not to support (spec 2.2).
const NODE_OPERATIONS: &str = "node operations";
