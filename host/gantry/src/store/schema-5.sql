-- Services that apps are bound to.
CREATE TABLE services (
    name     TEXT PRIMARY KEY,
    url      TEXT NOT NULL,
    username TEXT NOT NULL,
    password TEXT NOT NULL,                        -- never shown
    timeout  INTEGER NOT NULL,                     -- seconds
    created  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A bind is written down before the service is told. Of two variables with one name, that of the later bind counts.
CREATE TABLE service_binds (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    app      TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    service  TEXT NOT NULL REFERENCES services (name),
    envs     TEXT,                                 -- JSON, never shown; null until the service has answered
    UNIQUE (app, service)
) STRICT;
CREATE INDEX binds_of_service ON service_binds (service);

-- The units that services were told about.
CREATE TABLE service_units (
    app     TEXT NOT NULL,
    service TEXT NOT NULL,
    unit    TEXT NOT NULL,
    host    TEXT NOT NULL,                         -- what a service knows it by
    told    INTEGER NOT NULL DEFAULT 0,            -- the service has answered; before that it may know of it or not
    PRIMARY KEY (app, service, unit),
    FOREIGN KEY (app, service) REFERENCES service_binds (app, service) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- What units of apps may use, under a name.
CREATE TABLE plans (
    name       TEXT PRIMARY KEY,
    memory     INTEGER NOT NULL,
    swap       INTEGER NOT NULL,
    cpu_share  INTEGER NOT NULL,
    is_default INTEGER NOT NULL,
    created    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX default_plan ON plans (is_default) WHERE is_default = 1;

-- The plan that the app was given; empty when it was given amounts only.
ALTER TABLE apps ADD COLUMN plan TEXT NOT NULL DEFAULT '';
