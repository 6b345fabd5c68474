//! What wit-bindgen makes of the WIT package: the imports once, and each export interface in a world of its own. The type of an export gets into a component through the
//! `export!` of its world, so a guest exports what it names and nothing else.
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

/// The bindings of one export interface, with the types of the imports above.
macro_rules! exports {
    ($module:ident, $world:literal $(, $interface:literal = $shared:ident)*) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit",
                inline: $world,
                with: { $($interface: crate::bindings::gantry::provision::$shared,)* },
                pub_export_macro: true,
            });

            pub use exports::gantry::provision::$module::Guest;
        }
    };
}

exports!(plugin, "package guests:plugin; world plugin { export gantry:provision/plugin@0.1.0; }");
exports!(
    provisioner,
    "package guests:provisioner;
     world provisioner { export gantry:provision/provisioner@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
exports!(
    deployer,
    "package guests:deployer; world deployer { export gantry:provision/deployer@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
exports!(
    exec,
    "package guests:exec; world exec { export gantry:provision/exec@0.1.0; }",
    "gantry:provision/types@0.1.0" = types,
    "gantry:provision/streams@0.1.0" = streams
);
exports!(
    logs,
    "package guests:logs; world logs { export gantry:provision/logs@0.1.0; }",
    "gantry:provision/types@0.1.0" = types,
    "gantry:provision/streams@0.1.0" = streams
);
exports!(
    nodes,
    "package guests:nodes; world nodes { export gantry:provision/nodes@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
exports!(
    lifecycle,
    "package guests:lifecycle; world lifecycle { export gantry:provision/lifecycle@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
exports!(
    healing,
    "package guests:healing; world healing { export gantry:provision/healing@0.1.0; }",
    "gantry:provision/types@0.1.0" = types
);
