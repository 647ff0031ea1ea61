-- 4: what was paid on a worker's word for work that was not seen; who broke off requests (`debt`: completed requests until
-- that is forgotten)
ALTER TABLE arrears ADD COLUMN unseen TEXT NOT NULL DEFAULT '0';
CREATE TABLE breaks (
    worker TEXT PRIMARY KEY,
    debt INTEGER NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;
