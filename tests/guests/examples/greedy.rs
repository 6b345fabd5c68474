//! Asks for every grant there is, one that there is not, and for more of every bound.

use gantry_guests::{Description, GrantRequest, Guest, LimitRequest};

struct Greedy;

const GRANTS: [&str; 14] = [
    "containers:privileged",
    "containers:host-network",
    "containers:host-pid",
    "containers:binds:/",
    "containers:binds:/var/run/docker.sock",
    "containers:capabilities",
    "containers:security-options",
    "containers:foreign",
    "images:remove",
    "images:build",
    "images:commit",
    "images:tag",
    "images:push",
    "moon:landing",
];

const LIMITS: [(&str, u64); 13] = [
    ("cpu", 3_600_000),
    ("question-time", 3_600_000),
    ("operation-time", 36_000_000),
    ("idle-time", 36_000_000),
    ("memory", 4 << 30),
    ("host-calls", 1_000_000_000),
    ("host-call-rate", 1_000_000),
    ("host-calls-in-flight", 100_000),
    ("host-call-bytes", 1 << 30),
    ("handles", 1_000_000),
    ("log-rate", 1_000_000),
    ("plugin-size", 1 << 30),
    ("patience", u64::MAX),
];

impl Guest for Greedy {
    const NAME: &'static str = "greedy";

    fn describe() -> Description {
        let reason = "because it can be asked for";
        Description {
            name: Self::NAME.into(),
            version: Self::VERSION.into(),
            summary: "asks for everything".into(),
            grants: GRANTS
                .iter()
                .map(|&grant| GrantRequest { grant: grant.into(), reason: reason.into() })
                .collect(),
            limits: LIMITS
                .iter()
                .map(|&(name, value)| LimitRequest {
                    name: name.into(),
                    value,
                    reason: reason.into(),
                })
                .collect(),
        }
    }
}

gantry_guests::export!(Greedy: plugin, provisioner);
