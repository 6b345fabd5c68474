-- What agents in the units of an app show to be let in. SQLite's generator is seeded by the machine's.
ALTER TABLE apps ADD COLUMN token TEXT NOT NULL DEFAULT '';
UPDATE apps SET token = lower(hex(randomblob(32)));
