-- 2: how much of a request's rows counts, when vouchers came, and the latest voucher of each channel at hand
ALTER TABLE requests ADD COLUMN row_bytes INTEGER;
ALTER TABLE vouchers ADD COLUMN kept_at INTEGER NOT NULL DEFAULT 0;
CREATE TABLE best_vouchers (
    payer TEXT NOT NULL,
    session_key TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (payer, session_key, epoch)
) WITHOUT ROWID;
INSERT INTO best_vouchers
    SELECT payer, session_key, epoch, MAX(sequence) FROM vouchers GROUP BY payer, session_key, epoch;
