-- 1: where reading stands, claims and what was drawn of them, verdicts and evidence
CREATE TABLE cursors (
    block INTEGER PRIMARY KEY,
    hash BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE claims (
    worker TEXT NOT NULL,
    claim INTEGER NOT NULL,
    block INTEGER NOT NULL,
    tx BLOB NOT NULL,
    entries BLOB NOT NULL,
    seed BLOB,
    PRIMARY KEY (worker, claim)
) WITHOUT ROWID;
CREATE TABLE entries (
    worker TEXT NOT NULL,
    claim INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    leaves BLOB,
    kind TEXT,
    reason TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (worker, claim, entry),
    FOREIGN KEY (worker, claim) REFERENCES claims ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE draws (
    worker TEXT NOT NULL,
    claim INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    request_id BLOB NOT NULL,
    receipt_digest BLOB NOT NULL,
    leaf_before TEXT NOT NULL,
    leaf_after TEXT NOT NULL,
    shard INTEGER,
    positions INTEGER,
    layers TEXT,
    outcome TEXT,
    blamed TEXT,
    kind TEXT,
    reason TEXT,
    position INTEGER,
    evidence TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (worker, claim, entry, leaf),
    FOREIGN KEY (worker, claim, entry) REFERENCES entries ON DELETE CASCADE
) WITHOUT ROWID;
-- What is left to do stays quick to find when years of claims lie behind.
CREATE INDEX claims_without_seed ON claims (block) WHERE seed IS NULL;
CREATE INDEX entries_without_leaves ON entries (due) WHERE leaves IS NULL;
CREATE INDEX draws_without_verdict ON draws (due) WHERE outcome IS NULL OR outcome = 'unavailable';
CREATE TABLE evidence (
    path TEXT PRIMARY KEY,
    sha256 BLOB NOT NULL,
    worker TEXT NOT NULL,
    request_id BLOB NOT NULL,
    receipt_digest BLOB NOT NULL,
    claim INTEGER NOT NULL,
    block INTEGER NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL
) WITHOUT ROWID;
