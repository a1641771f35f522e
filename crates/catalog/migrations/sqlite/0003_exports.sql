-- Disks that are served over NBD: they hold their content until they end. Of the name only a hash is kept. `image`,
-- `bucket` and `object_key` tell what it was opened from, which may be gone, so they are no foreign keys.

CREATE TABLE exports (
    id         TEXT NOT NULL PRIMARY KEY,
    name_hash  BLOB NOT NULL UNIQUE,
    project    TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    user_id    TEXT NOT NULL,
    content    TEXT NOT NULL REFERENCES contents (id),
    format     TEXT NOT NULL,
    image      TEXT,
    bucket     TEXT,
    object_key TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX exports_project ON exports (project, id);
CREATE INDEX exports_content ON exports (content);
CREATE INDEX exports_expires ON exports (expires_at);
