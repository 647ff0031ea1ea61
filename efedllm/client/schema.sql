-- 1: requests signed, receipts taken, vouchers signed, what proves a worker's fault
CREATE TABLE requests (
    id BLOB PRIMARY KEY,
    request BLOB NOT NULL,
    signature BLOB NOT NULL,
    salt BLOB NOT NULL,
    prompt BLOB NOT NULL,
    generated BLOB NOT NULL DEFAULT x'',
    state TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE receipts (
    digest BLOB PRIMARY KEY,
    request_id BLOB NOT NULL,
    shard INTEGER NOT NULL,
    positions INTEGER NOT NULL,
    receipt BLOB NOT NULL,
    signature BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX receipts_by_request ON receipts (request_id, shard, positions);
CREATE TABLE vouchers (
    worker TEXT NOT NULL,
    session_key TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    leaf_before TEXT NOT NULL,
    total TEXT NOT NULL,
    request_id BLOB NOT NULL,
    receipt_digest BLOB NOT NULL,
    voucher BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (worker, session_key, epoch, sequence)
) WITHOUT ROWID;
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY,
    request_id BLOB NOT NULL,
    worker TEXT NOT NULL,
    reason TEXT NOT NULL,
    receipts BLOB NOT NULL
);
