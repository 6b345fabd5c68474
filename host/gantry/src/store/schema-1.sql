-- Times are milliseconds since 1970, UTC.

CREATE TABLE apps (
    name            TEXT PRIMARY KEY,
    platform        TEXT NOT NULL,
    pool            TEXT NOT NULL,
    provisioner     TEXT NOT NULL,
    team_owner      TEXT NOT NULL,
    memory          INTEGER NOT NULL,
    swap            INTEGER NOT NULL,
    cpu_share       INTEGER NOT NULL,
    unit_quota      INTEGER,                       -- null: as many as wanted
    units_in_use    INTEGER NOT NULL DEFAULT 0,
    deploys         INTEGER NOT NULL DEFAULT 0,
    update_platform INTEGER NOT NULL DEFAULT 0,
    routers         TEXT NOT NULL,                 -- JSON
    created         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE envs (
    app    TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    public INTEGER NOT NULL,
    PRIMARY KEY (app, name)
) STRICT, WITHOUT ROWID;

-- How many image names were reserved for an app; a number is never given twice.
CREATE TABLE image_counters (
    app   TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The history of an app, oldest first; an image that comes again moves to the end.
CREATE TABLE images (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    app      TEXT NOT NULL,
    image    TEXT NOT NULL,
    UNIQUE (app, image)
) STRICT;

CREATE TABLE image_metadata (
    image       TEXT PRIMARY KEY,
    custom_data TEXT NOT NULL,                     -- JSON, as it was told
    metadata    TEXT NOT NULL                      -- JSON, as it was understood
) STRICT, WITHOUT ROWID;

-- The durable keys of plugins. Versions come from one counter, so none is used twice for a key, not even after it was deleted.
CREATE TABLE state (
    owner   TEXT NOT NULL,
    key     TEXT NOT NULL,
    value   BLOB NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE state_version (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO state_version VALUES (1, 0);

CREATE TABLE plugins (
    name      TEXT PRIMARY KEY,                    -- of the provisioner
    digest    TEXT NOT NULL,                       -- of the file in the data directory
    file      TEXT NOT NULL,                       -- what it was called when it was installed
    grants    TEXT NOT NULL,                       -- JSON: granted at installation, on top of the configuration
    operation TEXT NOT NULL,                       -- that put it there
    since     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE operations (
    id      TEXT PRIMARY KEY,                      -- sorts by time
    verb    TEXT NOT NULL,
    app     TEXT,
    plugin  TEXT,                                  -- the provisioner concerned
    digest  TEXT,                                  -- of its plugin
    who     TEXT NOT NULL,
    detail  TEXT NOT NULL,                         -- JSON: what was asked
    state   TEXT NOT NULL,
    in_service INTEGER NOT NULL DEFAULT 0,         -- it began to replace what was there: what it made is the app now
    swept   INTEGER NOT NULL DEFAULT 0,            -- nothing that it made and did not put in service is left
    began   INTEGER NOT NULL,
    ended   INTEGER,
    problem TEXT,                                  -- JSON: why it failed
    result  TEXT                                   -- JSON: what it gave
) STRICT, WITHOUT ROWID;
CREATE INDEX operations_of_app ON operations (app, id);
CREATE INDEX operations_by_state ON operations (state);
CREATE INDEX operations_to_sweep ON operations (id) WHERE swept = 0;

CREATE TABLE operation_lines (
    operation TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    number    INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    text      TEXT NOT NULL,
    PRIMARY KEY (operation, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    key         TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    operation   TEXT NOT NULL,
    at          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
