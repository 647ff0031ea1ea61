-- 1: the highest voucher signed for each channel and epoch
CREATE TABLE highest (
    worker TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    total TEXT NOT NULL,
    count TEXT NOT NULL,
    root BLOB NOT NULL,
    PRIMARY KEY (worker, epoch)
) WITHOUT ROWID;
