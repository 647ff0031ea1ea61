-- 2: when a channel was last used. From now on `voucher` and `signature` may be empty: for leaves that were lost here
-- with a restored backup, and that the worker told of
CREATE TABLE channels (
    worker TEXT NOT NULL,
    session_key TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (worker, session_key, epoch)
) WITHOUT ROWID;
INSERT INTO channels SELECT DISTINCT worker, session_key, epoch, CAST(strftime('%s', 'now') AS INTEGER) FROM vouchers;
