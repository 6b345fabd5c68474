-- The provisioner that wrote it down; empty where nobody knows any more.
ALTER TABLE image_metadata ADD COLUMN owner TEXT NOT NULL DEFAULT '';
UPDATE image_metadata SET owner = substr(image, 1, instr(image, char(10)) - 1) WHERE instr(image, char(10)) > 0;

-- The bytes that a provisioner keeps here: its keys, and what it wrote of images, with something for each row. The triggers keep count, so that asking costs the same however much
-- there is.
CREATE TABLE kept (
    owner TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO kept (owner, bytes)
SELECT owner, sum(bytes) FROM (
    SELECT owner, 100 + length(CAST(key AS BLOB)) + length(value) AS bytes FROM state
    UNION ALL
    SELECT owner, 100 + length(CAST(image || custom_data || metadata AS BLOB)) FROM image_metadata
) GROUP BY owner;

CREATE TRIGGER state_in AFTER INSERT ON state BEGIN
    INSERT INTO kept (owner, bytes) VALUES (new.owner, 100 + length(CAST(new.key AS BLOB)) + length(new.value))
    ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER state_changed AFTER UPDATE ON state BEGIN
    UPDATE kept SET bytes = bytes + length(new.value) - length(old.value) WHERE owner = new.owner;
END;

CREATE TRIGGER state_out AFTER DELETE ON state BEGIN
    UPDATE kept SET bytes = bytes - 100 - length(CAST(old.key AS BLOB)) - length(old.value) WHERE owner = old.owner;
END;

CREATE TRIGGER image_metadata_in AFTER INSERT ON image_metadata BEGIN
    INSERT INTO kept (owner, bytes)
    VALUES (new.owner, 100 + length(CAST(new.image || new.custom_data || new.metadata AS BLOB)))
    ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER image_metadata_out AFTER DELETE ON image_metadata BEGIN
    UPDATE kept SET bytes = bytes - 100 - length(CAST(old.image || old.custom_data || old.metadata AS BLOB))
    WHERE owner = old.owner;
END;
