-- 1: requests served, receipts signed and received, vouchers held
CREATE TABLE requests (
    id BLOB PRIMARY KEY,
    request BLOB NOT NULL,
    signature BLOB NOT NULL,
    salt BLOB NOT NULL,
    prompt BLOB NOT NULL,
    shard INTEGER NOT NULL,
    session_key TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    generated BLOB NOT NULL DEFAULT x'',
    state TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE receipts (
    digest BLOB PRIMARY KEY,
    request_id BLOB NOT NULL,
    positions INTEGER NOT NULL,
    receipt BLOB NOT NULL,
    signature BLOB NOT NULL,
    UNIQUE (request_id, positions)
) WITHOUT ROWID;
CREATE TABLE upstream_receipts (
    digest BLOB PRIMARY KEY,
    request_id BLOB NOT NULL,
    receipt BLOB NOT NULL,
    signature BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE vouchers (
    payer TEXT NOT NULL,
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
    root BLOB NOT NULL,
    PRIMARY KEY (payer, session_key, epoch, sequence)
) WITHOUT ROWID;
CREATE INDEX vouchers_by_root ON vouchers (root);
