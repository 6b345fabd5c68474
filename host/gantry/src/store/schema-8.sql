-- What runs on every node and was added while the daemon ran; over what the configuration has of it.
CREATE TABLE node_containers (
    name    TEXT NOT NULL,
    pool    TEXT NOT NULL,                         -- empty: every pool without an entry of its own
    entry   TEXT NOT NULL,                         -- JSON, as in the configuration
    changed INTEGER NOT NULL,
    PRIMARY KEY (name, pool)
) STRICT, WITHOUT ROWID;
