-- The Docker hosts that were added while the daemon ran; those of the configuration are not here.
CREATE TABLE docker_hosts (
    address     TEXT PRIMARY KEY,
    provisioner TEXT NOT NULL,
    ca_cert     TEXT NOT NULL,                     -- PEM; empty for a host without TLS
    client_cert TEXT NOT NULL,                     -- PEM
    client_key  TEXT NOT NULL,                     -- PEM; never shown
    created     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was looked at by whoever heals, so that no more is replaced in a while than may be.
CREATE INDEX operations_by_verb ON operations (verb, began);
