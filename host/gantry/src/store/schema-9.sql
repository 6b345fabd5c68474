-- Of an operation that changes several apps, some of which it has put in service: what it has made since, and not put in service. What it made before is the apps.
CREATE TABLE operation_loose (
    operation TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    node      TEXT NOT NULL,
    name      TEXT NOT NULL,
    PRIMARY KEY (operation, node, name)
) STRICT, WITHOUT ROWID;

-- Of these there is nothing to remove.
UPDATE operations SET swept = 1 WHERE in_service = 1 AND state <> 'running';

-- Which other apps have an image.
CREATE INDEX apps_of_image ON images (image);
