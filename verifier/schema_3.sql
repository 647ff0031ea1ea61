-- 3: what is taken to the chain, and what the dispute game told about it
CREATE TABLE challenges (
    worker TEXT NOT NULL,
    receipt_digest BLOB NOT NULL,
    request_id BLOB NOT NULL,
    claim INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    leaf_before TEXT NOT NULL,
    leaf_after TEXT NOT NULL,
    outcome TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    positions INTEGER NOT NULL,
    evidence TEXT NOT NULL,
    draw BLOB,
    closed TEXT,
    closed_block INTEGER,
    PRIMARY KEY (worker, receipt_digest)
) WITHOUT ROWID;
CREATE INDEX challenges_open ON challenges (worker, request_id) WHERE closed IS NULL;
CREATE TABLE game_cursors (
    block INTEGER PRIMARY KEY,
    hash BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE game_events (
    block INTEGER NOT NULL,
    log_index INTEGER NOT NULL,
    game TEXT,
    worker TEXT,
    request_id BLOB,
    body BLOB NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (block, log_index)
) WITHOUT ROWID;
CREATE INDEX game_events_of ON game_events (game, block, log_index);
CREATE INDEX game_events_untold ON game_events (block, log_index) WHERE told = 0;
