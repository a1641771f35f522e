-- Scrubbing: when each pack was written or read back last, who is reading it, and what was found to be wrong with it.

ALTER TABLE packs ADD COLUMN checked_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE packs ADD COLUMN claimed_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE packs ADD COLUMN damage TEXT;
UPDATE packs SET checked_at = created_at;
CREATE INDEX packs_checked ON packs (checked_at);
CREATE INDEX packs_damaged ON packs (id) WHERE damage IS NOT NULL;
