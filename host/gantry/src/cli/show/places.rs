//! How people see pools, clusters, nodes and volumes.

use gantry_core::node::{Node, NodeContainerEntry};

use super::units;
use crate::api::{
    Cluster, NodeContainerInfo, NodeContainerOfPool, NodeHealth, NodeInfo, Pool, Volume,
};
use crate::cli::table::Table;
use crate::cli::ui::Page;

/// The pools.
pub(crate) fn pools(pools: &[Pool]) -> Table {
    let mut table = Table::new(["NAME", "PROVISIONER", "APPS", "DEFAULT", "FROM"]);
    for pool in pools {
        table.row([
            pool.name.clone(),
            pool.provisioner.clone(),
            pool.apps.to_string(),
            yes(pool.default),
            if pool.configured { "configuration" } else { "request" }.to_owned(),
        ]);
    }
    table
}

fn yes(yes: bool) -> String {
    if yes { "yes".to_owned() } else { String::new() }
}

/// The clusters.
pub(crate) fn clusters(clusters: &[Cluster]) -> Table {
    let mut table = Table::new(["NAME", "PROVISIONER", "ADDRESS", "POOLS", "NAMESPACE"]);
    for cluster in clusters {
        table.row([
            cluster.name.clone(),
            cluster.provisioner.clone(),
            address(cluster),
            whose(cluster),
            cluster.namespace.clone(),
        ]);
    }
    table
}

fn address(cluster: &Cluster) -> String {
    match cluster.addresses.as_slice() {
        [] => "(in-cluster)".to_owned(),
        addresses => addresses.join(","),
    }
}

/// Whose apps a cluster runs.
fn whose(cluster: &Cluster) -> String {
    if cluster.default { "(default)".to_owned() } else { cluster.pools.join(",") }
}

/// A cluster.
pub(crate) fn cluster(page: &mut Page, cluster: &Cluster) {
    page.field("Name", &cluster.name);
    page.field("Provisioner", &cluster.provisioner);
    page.field("Address", address(cluster));
    page.field("Authority", if cluster.own_ca { "its own" } else { "the system's" });
    page.field("We are", &cluster.credentials);
    page.field("Pools", whose(cluster));
    page.field("Namespace", &cluster.namespace);
    for (key, value) in cluster.custom_data.iter().filter(|(key, _)| *key != "namespace") {
        page.field("Setting", format!("{key}={value}"));
    }
    page.field("Created", &cluster.created);
    page.field("Answers", if cluster.problem.is_some() { "no" } else { "yes" });
}

/// The nodes.
pub(crate) fn nodes(nodes: &[Node]) -> Table {
    let mut table = Table::new(["ADDRESS", "POOL", "PROVISIONER", "STATUS", "IAAS ID"]);
    for node in nodes {
        table.row([
            node.address.clone(),
            node.pool.clone(),
            node.provisioner.clone().unwrap_or_default(),
            node.status.clone(),
            node.iaas_id.clone(),
        ]);
    }
    table
}

/// A node with what runs on it.
pub(crate) fn node_info(page: &mut Page, info: &NodeInfo) {
    let node = &info.node;
    page.field("Address", &node.address);
    page.field("Pool", &node.pool);
    page.field("Provisioner", node.provisioner.as_deref().unwrap_or_default());
    page.field("IaaS id", &node.iaas_id);
    page.field("Status", &node.status);
    if let Some(NodeHealth { failures, has_answered }) = info.health {
        page.field("Failures", failures.to_string());
        page.field("Has answered", if has_answered { "yes" } else { "no" });
    }
    for (key, value) in &node.metadata_no_prefix {
        page.field("Metadata", format!("{key}={value}"));
    }
    page.section("Units", &units(info.units.as_deref().unwrap_or_default()));
}

/// The volumes.
pub(crate) fn volumes(volumes: &[Volume]) -> Table {
    let mut table = Table::new(["NAME", "PLAN", "POOL", "TEAM", "APPS"]);
    for volume in volumes {
        let mut apps: Vec<&str> = volume.binds.iter().map(|bind| bind.app.as_str()).collect();
        apps.dedup();
        table.row([
            volume.name.clone(),
            volume.plan.clone(),
            volume.pool.clone(),
            volume.team_owner.clone(),
            apps.join(","),
        ]);
    }
    table
}

/// A volume.
pub(crate) fn volume(page: &mut Page, volume: &Volume) {
    page.field("Name", &volume.name);
    page.field("Plan", &volume.plan);
    page.field("Pool", &volume.pool);
    page.field("Team owner", &volume.team_owner);
    for (key, value) in &volume.options {
        page.field("Option", format!("{key}={value}"));
    }
    page.field("Created", &volume.created);
    let mut binds = Table::new(["APP", "MOUNT POINT", "MAY"]);
    for bind in &volume.binds {
        let may = if bind.read_only { "read" } else { "read and write" };
        binds.row([bind.app.clone(), bind.mount_point.clone(), may.to_owned()]);
    }
    page.section("Apps that have it", &binds);
}

/// The node containers, a line for each pool.
pub(crate) fn node_containers(all: &[NodeContainerInfo]) -> Table {
    let mut table = Table::new(["NAME", "POOL", "IMAGE", "PROVISIONER", "FROM"]);
    for NodeContainerInfo { name, entries } in all {
        for one in entries {
            let (pool, provisioner) = (every(&one.pool), every(&one.provisioner));
            let image = one.entry.image.clone();
            table.row([name.clone(), pool, image, provisioner, from(one)]);
        }
    }
    table
}

fn every(name: &str) -> String {
    if name.is_empty() { "(all)".to_owned() } else { name.to_owned() }
}

/// Who said so.
fn from(one: &NodeContainerOfPool) -> String {
    match (one.provisioner.is_empty(), one.changed.is_empty()) {
        (true, _) => "request",
        (false, true) => "configuration",
        (false, false) => "configuration, changed",
    }
    .to_owned()
}

/// A node container.
pub(crate) fn node_container(page: &mut Page, info: &NodeContainerInfo) {
    page.field("Name", &info.name);
    for one in &info.entries {
        let NodeContainerEntry { image, pinned_image, disabled, config, host_config } = &one.entry;
        page.field("Pool", every(&one.pool));
        page.field("  Provisioner", every(&one.provisioner));
        page.field("  From", from(one));
        if !one.changed.is_empty() {
            page.field("  Changed", &one.changed);
        }
        let mut lines = |name: &str, lines: &[String]| {
            for line in lines {
                page.field(name, line);
            }
        };
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let flag = |said: Option<bool>| said.map(|is| if is { "yes" } else { "no" }.to_owned());
        lines("  Image", some(image).as_slice());
        lines("  Pinned", some(pinned_image).as_slice());
        lines("  Disabled", flag(*disabled).as_slice());
        lines("  Entrypoint", &config.entrypoint);
        lines("  Command", &config.cmd);
        lines("  Variable", &config.env);
        for (key, value) in &config.labels {
            lines("  Label", &[format!("{key}={value}")]);
        }
        lines("  Folder", some(&config.working_dir).as_slice());
        lines("  Terminal", flag(config.tty).as_slice());
        lines("  Privileged", flag(host_config.privileged).as_slice());
        lines("  Network", some(&host_config.network_mode).as_slice());
        lines("  Restart", some(&host_config.restart_policy).as_slice());
        lines("  Bind", &host_config.binds);
        lines("  User", some(&config.user).as_slice());
        lines("  Processes", some(&host_config.pid_mode).as_slice());
        lines("  Capability", &host_config.cap_add);
        lines("  No capability", &host_config.cap_drop);
        for (port, places) in &host_config.port_bindings {
            for place in places {
                lines("  Port", &[format!("{}:{}:{port}", place.host_ip, place.host_port)]);
            }
        }
        if let Some(log) = &host_config.log_config {
            lines("  Log", some(&log.driver).as_slice());
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_core::{Status, Unit};

    use super::*;
    use crate::api::VolumeBind;
    use crate::cli::ui::tests::door;
    use crate::cli::ui::{Format, Terminal};

    fn seen(show: impl FnOnce(&mut Page)) -> String {
        let (mut ui, out, _err) = door(Format::Table, false, Terminal::default());
        ui.data(&(), show);
        out.text()
    }

    #[test]
    fn pools_are_seen_one_a_line() {
        let pool = |name: &str, configured| Pool {
            name: name.into(),
            provisioner: "docker".into(),
            default: configured,
            configured,
            apps: 2,
        };
        insta::assert_snapshot!(pools(&[pool("default", true), pool("prod", false)]), @r"
        NAME     PROVISIONER  APPS  DEFAULT  FROM
        default  docker       2     yes      configuration
        prod     docker       2     -        request
        ");
    }

    fn a_cluster() -> Cluster {
        Cluster {
            name: "north".into(),
            provisioner: "kubernetes".into(),
            addresses: vec!["https://10.0.0.1:6443".into(), "https://10.0.0.2:6443".into()],
            pools: vec!["dev".into(), "prod".into()],
            namespace: "shop".into(),
            custom_data: [("namespace", "shop"), ("prod:overcommit-factor", "2")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            own_ca: true,
            credentials: "token".into(),
            created: "2026-01-02T03:04:05.000Z".into(),
            ..Cluster::default()
        }
    }

    #[test]
    fn clusters_are_seen_without_who_we_are_there() {
        let here = Cluster { name: "here".into(), default: true, ..Cluster::default() };
        insta::assert_snapshot!(clusters(&[here, a_cluster()]), @r"
        NAME   PROVISIONER  ADDRESS                                      POOLS      NAMESPACE
        here   -            (in-cluster)                                 (default)  -
        north  kubernetes   https://10.0.0.1:6443,https://10.0.0.2:6443  dev,prod   shop
        ");
        insta::assert_snapshot!(seen(|page| cluster(page, &a_cluster())), @r"
        Name:         north
        Provisioner:  kubernetes
        Address:      https://10.0.0.1:6443,https://10.0.0.2:6443
        Authority:    its own
        We are:       token
        Pools:        dev,prod
        Namespace:    shop
        Setting:      prod:overcommit-factor=2
        Created:      2026-01-02T03:04:05.000Z
        Answers:      yes
        ");
    }

    #[test]
    fn a_node_is_seen_with_its_units() {
        let node = Node {
            address: "10.0.0.7".into(),
            pool: "prod".into(),
            status: "Ready".into(),
            metadata: [("tsuru.io/rack".to_owned(), "7".to_owned())].into(),
            metadata_no_prefix: [("rack".to_owned(), "7".to_owned())].into(),
            provisioner: Some("kubernetes".into()),
            ..Node::default()
        };
        insta::assert_snapshot!(nodes(std::slice::from_ref(&node)), @r"
        ADDRESS   POOL  PROVISIONER  STATUS  IAAS ID
        10.0.0.7  prod  kubernetes   Ready   -
        ");
        let unit = Unit {
            id: "web-web-5d9f".into(),
            name: "web-web-5d9f".into(),
            process_name: "web".into(),
            status: Some(Status::Started),
            ..Unit::default()
        };
        let health = Some(NodeHealth { failures: 3, has_answered: true });
        let info = NodeInfo { node, units: Some(vec![unit]), health, problem: None };
        insta::assert_snapshot!(seen(|page| node_info(page, &info)), @r"
        Address:      10.0.0.7
        Pool:         prod
        Provisioner:  kubernetes
        Status:       Ready
        Failures:     3
        Has answered: yes
        Metadata:     rack=7

        Units
        UNIT          NAME          PROCESS  STATUS   ADDRESS
        web-web-5d9f  web-web-5d9f  web      started  -
        ");
    }

    #[test]
    fn a_volume_is_seen_with_the_apps_that_have_it() {
        let bind = |app: &str, mount_point: &str, read_only| VolumeBind {
            app: app.into(),
            mount_point: mount_point.into(),
            read_only,
        };
        let data = Volume {
            name: "data".into(),
            pool: "prod".into(),
            plan: "small".into(),
            team_owner: "admin".into(),
            options: [("capacity".to_owned(), "5Gi".to_owned())].into(),
            binds: vec![
                bind("api", "/a", true),
                bind("web", "/a", false),
                bind("web", "/b", false),
            ],
            created: "2026-01-02T03:04:05.000Z".into(),
        };
        insta::assert_snapshot!(volumes(std::slice::from_ref(&data)), @r"
        NAME  PLAN   POOL  TEAM   APPS
        data  small  prod  admin  api,web
        ");
        insta::assert_snapshot!(seen(|page| volume(page, &data)), @r"
        Name:         data
        Plan:         small
        Pool:         prod
        Team owner:   admin
        Option:       capacity=5Gi
        Created:      2026-01-02T03:04:05.000Z

        Apps that have it
        APP  MOUNT POINT  MAY
        api  /a           read
        web  /a           read and write
        web  /b           read and write
        ");
    }
}
