//! Every verb reaches for what is not its own, and asks for no grant. Succeeds when the host lets it, and gives the host's refusal otherwise.
//!
//! The key `attempt` says how:
//!
//! * with the container in the key `target`: `inspect` (the default), `start`, `stop`, `remove`, `exec`, `wait`, `logs`, `attach`, `download`, `upload`, `stat`, `commit`, `http`;
//!   the same as a step of a sequence: `batch-inspect`, `batch-start`, `batch-stop`, `batch-remove`, `batch-exec`, `batch-download`, `batch-http`;
//! * `list`: done when the target is in the list of containers, `not-found` otherwise;
//! * a container made from the image in the key `image` (`scratch` when it is not set): `privileged`, `bind` (`/:/host`), `socket` (Docker's own), `host-network`, `host-pid`,
//!   `capabilities`, `security-options`, `join` (the target's network), `owner` (labels that name another owner), `unknown-field` (`Devices`); each with `batch-` in front too;
//! * with that image: `remove-image`, `tag-image`, `push-image`, `build-image`;
//! * `node`: lists the containers of the host whose address is the target.

const GRANTS: &[&str] = &[];

include!("foreign/source.rs");
