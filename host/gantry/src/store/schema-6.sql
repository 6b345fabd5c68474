-- The routing table: for each router of each app, where it reaches the units.
CREATE TABLE app_routes (
    router      TEXT NOT NULL,
    app         TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    name        TEXT NOT NULL,                     -- under which the router serves it: its own, or that of the app it is swapped with
    addresses   TEXT NOT NULL,                     -- JSON, in order
    healthcheck TEXT,                              -- JSON; null while nobody has said how
    generation  INTEGER NOT NULL,                  -- of the table, when this changed last
    changed     INTEGER NOT NULL,
    PRIMARY KEY (router, app)
) STRICT, WITHOUT ROWID;
CREATE INDEX routes_of_app ON app_routes (app);

-- Both numbers grow and are never used again.
CREATE TABLE routing_table (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    generation INTEGER NOT NULL,                   -- of what routers see
    mark       INTEGER NOT NULL
) STRICT;
INSERT INTO routing_table VALUES (1, 0, 0);

-- Apps whose routes may not be those of their units: a change began, or what it left is removed.
CREATE TABLE routes_to_rebuild (
    app  TEXT PRIMARY KEY REFERENCES apps (name) ON DELETE CASCADE,
    mark INTEGER NOT NULL                          -- another one when it was marked again meanwhile
) STRICT, WITHOUT ROWID;
