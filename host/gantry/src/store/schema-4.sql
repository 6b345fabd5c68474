-- Pools that people made; those of the configuration are not here.
CREATE TABLE pools (
    name        TEXT PRIMARY KEY,
    provisioner TEXT NOT NULL,
    created     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE clusters (
    name        TEXT PRIMARY KEY,
    provisioner TEXT NOT NULL,
    addresses   TEXT NOT NULL,                     -- JSON; empty for the cluster that the daemon runs in
    ca_cert     TEXT NOT NULL,                     -- PEM
    client_cert TEXT NOT NULL,                     -- PEM
    client_key  TEXT NOT NULL,                     -- PEM; never shown
    token       TEXT NOT NULL,                     -- never shown
    custom_data TEXT NOT NULL,                     -- JSON, nothing secret
    is_default  INTEGER NOT NULL,
    created     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX default_cluster ON clusters (provisioner) WHERE is_default = 1;

-- Of each provisioner at most one cluster has a pool.
CREATE TABLE cluster_pools (
    provisioner TEXT NOT NULL,
    pool        TEXT NOT NULL,
    cluster     TEXT NOT NULL REFERENCES clusters (name) ON DELETE CASCADE,
    PRIMARY KEY (provisioner, pool)
) STRICT, WITHOUT ROWID;
CREATE INDEX pools_of_cluster ON cluster_pools (cluster);

CREATE TABLE volumes (
    name       TEXT PRIMARY KEY,
    pool       TEXT NOT NULL,
    plan       TEXT NOT NULL,
    team_owner TEXT NOT NULL,
    options    TEXT NOT NULL,                      -- JSON
    removing   INTEGER NOT NULL DEFAULT 0,         -- its data is being deleted: no app may have it any more
    created    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE volume_binds (
    volume      TEXT NOT NULL REFERENCES volumes (name),
    app         TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    mount_point TEXT NOT NULL,
    read_only   INTEGER NOT NULL,
    PRIMARY KEY (app, mount_point)
) STRICT, WITHOUT ROWID;
CREATE INDEX binds_of_volume ON volume_binds (volume);

-- The moves of apps to other pools that have begun and not ended, so that both ends know the app, and none is forgotten.
CREATE TABLE app_moves (
    app            TEXT PRIMARY KEY REFERENCES apps (name) ON DELETE CASCADE,
    operation      TEXT NOT NULL,
    to_pool        TEXT NOT NULL,
    to_provisioner TEXT NOT NULL,
    deployed       INTEGER NOT NULL DEFAULT 0,     -- it serves there; what is left is to remove it here
    images         TEXT NOT NULL                   -- JSON: the history to go on with, of before the move and, once it is deployed, of after it
) STRICT, WITHOUT ROWID;

-- The objects of clusters that an operation touched, written before it did; gone when there is nothing to take back.
CREATE TABLE operation_objects (
    operation   TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,                  -- what was touched last is taken back first
    provisioner TEXT NOT NULL,
    cluster     TEXT NOT NULL,
    api_version TEXT NOT NULL,
    kind        TEXT NOT NULL,
    namespace   TEXT NOT NULL,
    name        TEXT NOT NULL,
    before      TEXT,                              -- JSON; null when it was not there
    PRIMARY KEY (operation, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX operations_of_object ON operation_objects (cluster, kind, namespace, name);
