-- 4: games and demands against this worker and what was proven, how far they were read; what of a request is kept
CREATE TABLE cursors (
    block INTEGER PRIMARY KEY,
    hash BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE games (
    game_id BLOB PRIMARY KEY,
    block INTEGER NOT NULL,
    challenger TEXT NOT NULL,
    request_id BLOB NOT NULL,
    receipt_digest BLOB NOT NULL,
    chunk INTEGER,
    end_block INTEGER,
    outcome INTEGER,
    to_worker TEXT
) WITHOUT ROWID;
CREATE INDEX games_open ON games (request_id) WHERE outcome IS NULL;
CREATE TABLE faults (
    request_id BLOB PRIMARY KEY,
    block INTEGER NOT NULL,
    number INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE untold (
    sequence INTEGER PRIMARY KEY,
    block INTEGER NOT NULL,
    kind TEXT NOT NULL,
    subject BLOB NOT NULL
);
ALTER TABLE requests ADD COLUMN expiry INTEGER;
ALTER TABLE requests ADD COLUMN settled_at INTEGER;
ALTER TABLE requests ADD COLUMN rows_state TEXT NOT NULL DEFAULT 'kept';
CREATE INDEX requests_by_expiry ON requests (expiry) WHERE rows_state = 'kept';
CREATE INDEX requests_going ON requests (rows_state) WHERE rows_state = 'going';
CREATE INDEX vouchers_by_request ON vouchers (request_id);
