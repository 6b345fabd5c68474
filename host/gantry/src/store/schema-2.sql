-- The operation that made the app; empty for those that are older than this column.
ALTER TABLE apps ADD COLUMN operation TEXT NOT NULL DEFAULT '';
