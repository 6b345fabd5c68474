//! What wit-bindgen makes of the WIT package: the imports once, and a world of its own for each export interface, so that a plugin's component exports what the plugin
//! implements and nothing else (the type of an export is written into the component by the world's `export!`, not by the library).
//!
//! Nothing here is for authors: the modules beside this one wrap it in the words of `gantry_core`, and [`crate::raw`] is the way in for what they lack.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::missing_safety_doc,
    clippy::use_self,
    reason = "generated; every item is documented in wit/"
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "gantry:provision/capabilities",
    generate_all,
});

/// The world that exports one interface, in a module of that name. The interfaces behind it are those of the imports above, so that an app is one type everywhere.
macro_rules! world {
    ($module:ident, $world:literal $(, $shared:literal = $path:ident)*) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit",
                inline: $world,
                with: {
                    $($shared: crate::bindings::gantry::provision::$path,)*
                },
                pub_export_macro: true,
            });
        }
    };
}

world!(plugin, "package gantry:sdk-plugin; world plugin { export gantry:provision/plugin@0.1.0; }");
world!(
    provisioner,
    "package gantry:sdk-provisioner;
     world provisioner { export gantry:provision/provisioner@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    deployer,
    "package gantry:sdk-deployer; world deployer { export gantry:provision/deployer@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    rollback,
    "package gantry:sdk-rollback; world rollback { export gantry:provision/rollback@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    exec,
    "package gantry:sdk-exec; world exec { export gantry:provision/exec@0.1.0; }",
    "gantry:provision/types@0.1.0" = types,
    "gantry:provision/streams@0.1.0" = streams
);
world!(
    logs,
    "package gantry:sdk-logs; world logs { export gantry:provision/logs@0.1.0; }",
    "gantry:provision/types@0.1.0" = types,
    "gantry:provision/streams@0.1.0" = streams
);
world!(
    lifecycle,
    "package gantry:sdk-lifecycle; world lifecycle { export gantry:provision/lifecycle@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    sleep,
    "package gantry:sdk-sleep; world sleep { export gantry:provision/sleep@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    shell,
    "package gantry:sdk-shell; world shell { export gantry:provision/shell@0.1.0; }",
    "gantry:provision/types@0.1.0" = types,
    "gantry:provision/streams@0.1.0" = streams
);
world!(
    unit_finder,
    "package gantry:sdk-unit-finder;
     world unit-finder { export gantry:provision/unit-finder@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    nodes,
    "package gantry:sdk-nodes; world nodes { export gantry:provision/nodes@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    node_containers,
    "package gantry:sdk-node-containers;
     world node-containers { export gantry:provision/node-containers@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    volumes,
    "package gantry:sdk-volumes; world volumes { export gantry:provision/volumes@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    cluster_builder,
    "package gantry:sdk-cluster-builder;
     world cluster-builder { export gantry:provision/cluster-builder@0.1.0; }",
    "gantry:provision/types@0.1.0" = types,
    "gantry:provision/streams@0.1.0" = streams
);
world!(
    unit_status,
    "package gantry:sdk-unit-status;
     world unit-status { export gantry:provision/unit-status@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    unit_kill,
    "package gantry:sdk-unit-kill;
     world unit-kill { export gantry:provision/unit-kill@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    app_filter,
    "package gantry:sdk-app-filter;
     world app-filter { export gantry:provision/app-filter@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    node_health,
    "package gantry:sdk-node-health;
     world node-health { export gantry:provision/node-health@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    node_rebalance,
    "package gantry:sdk-node-rebalance;
     world node-rebalance { export gantry:provision/node-rebalance@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    healing,
    "package gantry:sdk-healing;
     world healing { export gantry:provision/healing@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    image_cleaner,
    "package gantry:sdk-image-cleaner;
     world image-cleaner { export gantry:provision/image-cleaner@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
world!(
    docker_builder,
    "package gantry:sdk-docker-builder;
     world docker-builder { export gantry:provision/docker-builder@0.1.0; }",
    "gantry:provision/types@0.1.0" = types,
    "gantry:provision/streams@0.1.0" = streams
);
