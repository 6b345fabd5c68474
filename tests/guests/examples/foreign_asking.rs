//! `foreign`, asking for every grant that its attempts need. What is in force is then the operator's choice.

const GRANTS: &[&str] = &[
    "containers:privileged",
    "containers:host-network",
    "containers:host-pid",
    "containers:binds:/",
    "containers:capabilities",
    "containers:security-options",
    "containers:foreign",
    "images:remove",
    "images:build",
    "images:commit",
    "images:tag",
    "images:push",
];

include!("foreign/source.rs");
