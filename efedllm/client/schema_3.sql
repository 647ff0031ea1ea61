-- 3: to whom a request that did not complete may still owe something, and what was paid for such requests to a worker
-- since one with it completed
CREATE TABLE unsettled (
    id INTEGER PRIMARY KEY,
    request_id BLOB NOT NULL,
    worker TEXT NOT NULL,
    UNIQUE (request_id, worker)
);
CREATE INDEX unsettled_by_worker ON unsettled (worker, id);
CREATE TABLE arrears (
    worker TEXT NOT NULL,
    session_key TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    paid TEXT NOT NULL,
    PRIMARY KEY (worker, session_key, epoch)
) WITHOUT ROWID;
CREATE INDEX evidence_by_worker ON evidence (worker);
