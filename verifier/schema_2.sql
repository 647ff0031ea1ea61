-- 2: the block whose state a seed was read from, so that it goes when that block does
ALTER TABLE claims ADD COLUMN seed_block INTEGER;
UPDATE claims SET seed_block = (SELECT MAX(block) FROM cursors) WHERE seed IS NOT NULL;
CREATE INDEX claims_by_seed ON claims (seed_block) WHERE seed_block IS NOT NULL;
