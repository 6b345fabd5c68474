//! What `bindgen!` makes of the WIT package: the only generated code. [`crate::convert`] and [`crate::host`] see its types, the rest of the crate does not.
#![allow(missing_docs, reason = "generated code; the WIT package documents every item")]
#![allow(unsafe_code, reason = "generated code casts functions whose types it has checked")]
#![allow(unreachable_pub, reason = "generated code")]
#![allow(unused_variables, reason = "generated code")]
#![allow(clippy::all, clippy::clone_on_ref_ptr, reason = "generated code")]
#![allow(clippy::allow_attributes_without_reason, reason = "generated code")]
#![allow(clippy::use_self, reason = "generated code")]

wasmtime::component::bindgen!({
    world: "everything",
    path: "../../wit",
    imports: {
        "gantry:provision/labels": trappable,
        "gantry:provision/log": trappable,
        "gantry:provision/operation.pause": async | trappable,
        "gantry:provision/operation": trappable,
        "gantry:provision/streams.[static]reader.from-bytes": trappable,
        default: async | trappable,
    },
    exports: {
        default: async,
    },
    with: {
        "gantry:provision/streams.reader": crate::host::streams::Reader,
        "gantry:provision/streams.writer": crate::host::streams::Writer,
        "gantry:provision/streams.session": crate::host::streams::Session,
        "gantry:provision/containers.batch": crate::host::batch::Batch,
        "gantry:provision/containers.client": crate::host::containers::Client,
        "gantry:provision/cluster.client": crate::host::cluster::Client,
        "gantry:provision/cluster.watcher": crate::host::cluster::Watcher,
        "gantry:provision/labels.label-set": crate::host::labels::Set,
        "gantry:provision/apps.app-lock": crate::host::apps::KeptLock,
        "gantry:provision/limiter.slot": crate::limiter::Slot,
    },
});
