//! The optional abilities that are about more than one app's units: terminals, sleep, machines, storage, builds.

use gantry_core::healing::{Findings, NotedNode, SickUnit};
use gantry_core::image::{BuildOptions, InspectedImage};
use gantry_core::node::{
    AddNodeOptions, Node, NodeStatusData, RebalanceOptions, RemoveNodeOptions, UpdateNodeOptions,
};
use gantry_core::{App, ShellOptions, Status, Unit};
use gantry_engine::Operation;
use gantry_engine::stream::{Reader, Session};

use super::Provisioner;
use super::pages::Pages;
use crate::bindings::exports::gantry::provision::{
    docker_builder as wit_builder, healing as wit_healing, node_rebalance as wit_rebalance,
    nodes as wit_nodes, shell as wit_shell,
};
use crate::bounds::Bound;
use crate::call::{CallError, perform};
use crate::convert::{app_to, node_from, node_weight, pairs, status_to, unit_from, unit_to};
use crate::host::streams::{Reader as HeldReader, Session as HeldSession};
use crate::interface::Interface;

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

    /// Takes down what somebody says of a unit, which is found by its id or a prefix of it, else by its name.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn set_unit_status(
        &self,
        operation: &Operation,
        unit: &Unit,
        status: Status,
    ) -> Result<(), CallError> {
        let (unit, status) = (unit_to(unit), status_to(status));
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::UnitStatus,
            "setting the status of units",
            |live, guest: unit_status| {
                guest.call_set_unit_status(&mut live.store, &unit, status).await
            }
        )
    }

    /// Ends a unit, and starts it anew.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn kill_unit(
        &self,
        operation: &Operation,
        app: &App,
        unit_id: &str,
        force: bool,
    ) -> Result<(), CallError> {
        let (app, unit_id) = (app_to(app), unit_id.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::UnitKill,
            "killing units",
            |live, guest: unit_kill| {
                guest.call_kill(&mut live.store, &app, &unit_id, force).await
            }
        )
    }

    /// The names of those of these apps that have a unit with one of these statuses.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn filter_apps_by_unit_status(
        &self,
        operation: &Operation,
        apps: &[App],
        statuses: &[Status],
    ) -> Result<Vec<String>, CallError> {
        let apps: Vec<_> = apps.iter().map(app_to).collect();
        let statuses: Vec<_> = statuses.iter().copied().map(status_to).collect();
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::AppFilter,
            "filtering apps by the status of their units",
            |live, guest: app_filter| {
                guest.call_filter_by_unit_status(&mut live.store, &apps, &statuses).await
            }
        )
    }

    /// How often a node failed since it last answered.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn node_failures(
        &self,
        operation: &Operation,
        address: &str,
    ) -> Result<u32, CallError> {
        let address = address.to_owned();
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::NodeHealth,
            NODE_HEALTH,
            |live, guest: node_health| guest.call_failure_count(&mut live.store, &address).await
        )
    }

    /// Whether a node has ever answered.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn node_has_success(
        &self,
        operation: &Operation,
        address: &str,
    ) -> Result<bool, CallError> {
        let address = address.to_owned();
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::NodeHealth,
            NODE_HEALTH,
            |live, guest: node_health| guest.call_has_success(&mut live.store, &address).await
        )
    }

    /// Forgets a node's failures.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn reset_node_failures(
        &self,
        operation: &Operation,
        address: &str,
    ) -> Result<(), CallError> {
        let address = address.to_owned();
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::NodeHealth,
            NODE_HEALTH,
            |live, guest: node_health| guest.call_reset_failures(&mut live.store, &address).await
        )
    }

    /// Spreads units anew over machines, and tells whether any moved, or would.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn rebalance(
        &self,
        operation: &Operation,
        options: &RebalanceOptions,
    ) -> Result<bool, CallError> {
        let options = options.clone();
        let options = wit_rebalance::RebalanceOptions {
            pool: options.pool,
            metadata_filter: pairs(options.metadata_filter),
            app_filter: options.app_filter,
            dry: options.dry,
            force: options.force,
        };
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::NodeRebalance,
            "node rebalance operations",
            |live, guest: node_rebalance| guest.call_rebalance(&mut live.store, &options).await
        )
    }

    /// Looks at every machine and every unit, and tells which are ill.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn examine(&self, operation: &Operation) -> Result<Findings, CallError> {
        optional!(
            self,
            operation,
            Bound::QuestionTime,
            Interface::Healing,
            HEALING,
            |live, guest: healing| {
                Ok(guest.call_examine(&mut live.store).await?.map(findings_from))
            }
        )
    }

    /// Replaces a unit that is ill, and gives the new one's id; none when it is well again or gone.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn heal_unit(
        &self,
        operation: &Operation,
        app: &App,
        id: &str,
    ) -> Result<Option<String>, CallError> {
        let (app, id) = (app_to(app), id.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Healing,
            HEALING,
            |live, guest: healing| guest.call_heal_unit(&mut live.store, &app, &id).await
        )
    }

    /// Gives a machine up that does not answer. False when it answers after all.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn give_up_node(
        &self,
        operation: &Operation,
        address: &str,
    ) -> Result<bool, CallError> {
        let address = address.to_owned();
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Healing,
            HEALING,
            |live, guest: healing| guest.call_give_up_node(&mut live.store, &address).await
        )
    }

    /// Takes a machine back that was given up. False when it does not answer after all.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn take_back_node(
        &self,
        operation: &Operation,
        address: &str,
    ) -> Result<bool, CallError> {
        let address = address.to_owned();
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::Healing,
            HEALING,
            |live, guest: healing| guest.call_take_back_node(&mut live.store, &address).await
        )
    }

    /// Removes an image of an app from every machine.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn clean_image(
        &self,
        operation: &Operation,
        app: &str,
        image: &str,
    ) -> Result<(), CallError> {
        let (app, image) = (app.to_owned(), image.to_owned());
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::ImageCleaner,
            "cleaning images",
            |live, guest: image_cleaner| guest.call_clean(&mut live.store, &app, &image).await
        )
    }

    /// Builds an image of an app's source, a tar archive, on a Docker host and gives its name.
    ///
    /// # Errors
    /// What the plugin said, why it died, or that it has no such ability.
    pub async fn build(
        &self,
        operation: &Operation,
        app: &App,
        source: Reader,
        options: &BuildOptions,
    ) -> Result<String, CallError> {
        let app = app_to(app);
        let options = wit_builder::BuildOptions {
            dockerfile: options.dockerfile.clone(),
            args: options.args.clone(),
            tag: options.tag.clone(),
        };
        optional!(
            self,
            operation,
            Bound::OperationTime,
            Interface::DockerBuilder,
            "builds on Docker hosts",
            |live, guest: docker_builder| {
                let source = live.store.data_mut().push(HeldReader(source))?;
                guest.call_build(&mut live.store, &app, source, &options).await
            }
        )
    }
}

fn findings_from(findings: wit_healing::Findings) -> Findings {
    let noted = |node: wit_healing::NotedNode| {
        let wit_healing::NotedNode { address, reason } = node;
        NotedNode { address, reason }
    };
    let sick = |unit: wit_healing::SickUnit| {
        let wit_healing::SickUnit { app_name, id, reason, node_given_up } = unit;
        SickUnit { app_name, id, reason, node_given_up }
    };
    Findings {
        units: findings.units.into_iter().map(sick).collect(),
        dead: findings.dead.into_iter().map(noted).collect(),
        recovered: findings.recovered.into_iter().map(noted).collect(),
    }
}

/// What a provisioner without it is said not to support.
const HEALING: &str = "healing";

/// The same for how nodes did.
const NODE_HEALTH: &str = "node health";

/// What a provisioner without nodes is said not to support (spec 2.2).
const NODE_OPERATIONS: &str = "node operations";
