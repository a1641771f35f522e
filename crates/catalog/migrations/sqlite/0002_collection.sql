-- What collection of garbage needs to know: who writes, how packs stand, and which objects no record names.

ALTER TABLE packs ADD COLUMN writer BIGINT NOT NULL DEFAULT 0;
ALTER TABLE packs ADD COLUMN marks BIGINT NOT NULL DEFAULT 0;
ALTER TABLE packs ADD COLUMN watermark BIGINT NOT NULL DEFAULT 0;

-- One row: the last session number that was given out, when garbage was collected last, and why that was stopped.
CREATE TABLE store_state (
    id           BIGINT NOT NULL PRIMARY KEY,
    last_session BIGINT NOT NULL,
    collected_at BIGINT NOT NULL,
    alarm        TEXT
);
INSERT INTO store_state (id, last_session, collected_at) VALUES (1, 0, 0);

-- Contents that are being written (open), and those that are whole and have no record yet (kept, with their head).
CREATE TABLE sessions (
    number      BIGINT NOT NULL PRIMARY KEY,
    content     TEXT NOT NULL,
    process     TEXT NOT NULL,
    state       TEXT NOT NULL,
    head        BLOB,
    lease_until BIGINT NOT NULL
);
CREATE INDEX sessions_content ON sessions (content);

-- Packs and heads without a record: since when, and for packs after which session.
CREATE TABLE stray_packs (
    id        BLOB NOT NULL PRIMARY KEY,
    watermark BIGINT NOT NULL
);
CREATE TABLE stray_heads (
    content   TEXT NOT NULL PRIMARY KEY,
    remove_at BIGINT NOT NULL
);

-- Chunks need no key into packs: finding them joins the two, and removing a pack would walk all chunks to check it.
CREATE TABLE chunks_new (
    domain       BLOB NOT NULL,
    id           BLOB NOT NULL,
    pack         BLOB NOT NULL,
    pack_offset  BIGINT NOT NULL,
    stored       BIGINT NOT NULL,
    plain        BIGINT NOT NULL,
    generation   BIGINT NOT NULL,
    PRIMARY KEY (domain, id)
) WITHOUT ROWID;
INSERT INTO chunks_new SELECT domain, id, pack, pack_offset, stored, plain, generation FROM chunks;
DROP TABLE chunks;
ALTER TABLE chunks_new RENAME TO chunks;
