//! Guests of the tests: small component plugins, honest, hostile and malformed. Each is one file under `examples/` that says what it does; what they share is here.
//!
//! # Building
//!
//! ```text
//! cargo build -p gantry-guests --examples --target wasm32-wasip2 --profile plugin --target-dir "$CARGO_TARGET_DIR/guests"
//! ```
//!
//! gives `guests/wasm32-wasip2/plugin/examples/<name>.wasm`, components of 50 to 190 KiB. A target directory of their own lets a test build them while the cargo that runs the test holds the lock on its
//! own. Without `--profile plugin` they build too, but have 3 MiB each, nearly all of it the standard library's debug information. Natively (`cargo clippy --all-targets`) they
//! compile and export nothing.
//!
//! # What they have in common
//!
//! * Unless it is told otherwise below, a guest exports `plugin` and `provisioner`, asks for no grant and no bound, has version 1.0.0, and every verb that is not named is done at once: no units,
//!   no addresses.
//! * "Every verb" is each function of `provisioner`, changes and questions alike; `describe` is always honest unless the guest is about it.
//! * A key is one of the provisioner's own configuration, at its top (`config.get("die")`). A number may be written as a number or as text.
//! * The Docker host is the first of `containers.nodes`; none is `not-found`.
//!
//! # Honest
//!
//! | guest | exports beyond the two | what it does | keys |
//! |---|---|---|---|
//! | `noop` | | nothing | |
//! | `hello_blue` | `lifecycle` | version 1.0.0 of `hello`: `add-units` says `blue begins`, pauses, says `blue ends`; `routable-addresses` is `http://<app>.blue`; `startup-message` is `hello in blue` | `pause` (milliseconds) |
//! | `hello_green` | `lifecycle` | version 2.0.0 of `hello`: the same in green | `pause` |
//! | `deployer` | `deployer` | `deploy`: create, start and inspect `<app>-<operation>` (label `app-name`) in one sequence, `images.append`, a record in `state` (`containers/<app>/<id>`), then remove the app's older containers; undoes a failure or a cancellation. `units`: its containers. `destroy`: removes them | `die`: `trap-after-create`, `loop-after-create`, `wait-after-create`, `fail-after-create` (an error, nothing undone), `trap-after-remove` |
//! | `echo` | `exec`, `logs` | a command's arguments on stdout, `<function> <command>` on stderr, the last argument as exit code; `tail` opens the log of each container with the app's label | `logs-elsewhere` (text: logs are not enabled) |
//! | `calls` | | `add-units`: as many host calls as units, of the kind that the process names | |
//! | `state` | `exec` | the commands `get`, `put-if`, `delete-if`, `list` with a JSON object as argument; answers on stdout | |
//! | `routers` | `deployer`, `exec` | the commands `add-routes`, `remove-routes`, `routes`, `swap`, `set-healthcheck` with a JSON object as argument; `deploy`: a container and its route on every router of the app, then `images.append` | (variables of apps, its file says which) |
//! | `labels` | `exec` | the only argument is a case of `tests/vectors/labels_*.json`; what the host's labels gave, in the fields of the case, on stdout | |
//! | `keeper` | `exec` | takes a place of the limiter or an app's lock, and does with it what the command says (its file lists them) | |
//! | `sequences` | `exec` | submits the sequences of its only argument (its file says how they are written), and shows each as it ends | |
//! | `alarmist` | `healing` | `examine`: makes a container `looking`, waits until somebody else has removed it, and finds a unit ill of each app that is named | `ill` (names with spaces between) |
//! | `words` | `exec`, `logs` | `begin`, `end`, `tail`: every word of the reference's Docker clients, once, and what each gave on stdout; asks for the grants of images | |
//! | `greedy` | | asks for every grant and one unknown, for more of every bound and one unknown | |
//!
//! # Hostile
//!
//! | guest | what it does | keys |
//! |---|---|---|
//! | `trap` | every verb: `unreachable` | |
//! | `panic` | every verb: a message on stderr, then a trap | |
//! | `spin` | every verb: computes for ever | |
//! | `memory` | every verb: takes and writes memory, a mebibyte at a time | |
//! | `recurse` | every verb: calls itself without end | |
//! | `flood` | every verb: host calls without end | `call`: `config` (default), `labels`, `state`, `nodes`, `denied` (a container nobody allowed), `batch` (ever more waiting sequences) |
//! | `handles` | every verb: opens handles without end and keeps them | `handle`: `label-set` (default), `reader`, `writer`, `client`, `batch` |
//! | `chatter` | every verb: lines without end | `through`: `log`, `progress`, `output`, `stderr`, `stdout` (default: all in turn); `lines` (default: no end) |
//! | `huge_call` | every verb: one host call of many bytes | `through`: `state` (default), `progress`, `log`, `reader`, `writer`, `labels`, `create`; `bytes` (default: 32 MiB) |
//! | `foreign` | every verb: reaches for a container, an image, a host or a right that is not its own | `attempt` (its file lists them), `target`, `image` |
//! | `foreign_asking` | the same, and asks for the grants | the same |
//! | `big_result` | `units`, `routable-addresses`: 32 MiB | |
//! | `describe_traps` | `describe`: `unreachable` | |
//! | `describe_calls_host` | `describe`: calls `config.get` | `name` |
//! | `sleeper` | every verb: sleeps an hour in WASI's clock, without a host call of ours | |
//! | `liar` | exports `nodes` too; every verb: another lie (its file lists them); `units` and the list of nodes have one more page, for ever | |
//! | `wasi_files` | every verb: reads and writes files, so it imports `wasi:filesystem` | |
//! | `wasi_sockets` | every verb: resolves a name and connects, so it imports `wasi:sockets` | |
//!
//! # Malformed
//!
//! | guest | what is wrong |
//! |---|---|
//! | `no_provisioner` | exports `plugin` only |
//! | `wrong_deployer` | `deployer.deploy` takes `(string, u32)` and gives `result<u32, string>` |
//! | `wrong_result` | `provisioner.units` gives `result<list<string>, error>` |
//! | `unknown_import` | imports `gantry:provision/telepathy@0.1.0` and calls it in every verb |
//!
//! # What the standard library imports anyway
//!
//! Every guest, `noop` too, imports at 0.2.6: `wasi:cli/{environment, exit, stdin, stdout, stderr, terminal-input, terminal-output, terminal-stdin, terminal-stdout, terminal-stderr}` and
//! `wasi:io/{error, poll, streams}`. No more of WASI without need: `sleeper` has `wasi:clocks/monotonic-clock` on top, `wasi_files` `wasi:clocks/wall-clock` and `wasi:filesystem/{types, preopens}`,
//! `wasi_sockets` `wasi:clocks/monotonic-clock` and seven interfaces of `wasi:sockets`. A Rust plugin with a hash map also imports `wasi:random/insecure-seed`; none of these has one.
//!
//! Of our package a guest imports only the functions that it calls, and `types`, which has none.

pub mod bindings;
mod guest;
mod host;

pub use bindings::gantry::provision::{
    apps, config, containers, images, labels, limiter, log, operation, routers, state, streams,
    types,
};
pub use bindings::healing::exports::gantry::provision::healing::{Findings, SickUnit};
pub use bindings::logs::exports::gantry::provision::logs::{Availability, Source, TailOptions};
pub use bindings::plugin::exports::gantry::provision::plugin::{
    Description, GrantRequest, LimitRequest,
};
pub use bindings::provisioner::exports::gantry::provision::provisioner::UnitPage;
pub use bindings::{deployer, exec, healing, lifecycle, logs, nodes};
pub use guest::{Command, Guest, Run, Way};
pub use host::{first_node, pause, sequence, setting, trap};
