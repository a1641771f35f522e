-- The first schema. Text compares bytewise (BINARY is SQLite's default); times are microseconds since
-- the epoch; flags are 0 or 1. Columns that keep history (`jobs.image`, `servers.image`, `images.job`,
-- `jobs.user_id`, `servers.user_id`) name rows that may be gone, so they are no foreign keys.

CREATE TABLE domains (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE projects (
    id         TEXT NOT NULL PRIMARY KEY,
    domain     TEXT NOT NULL REFERENCES domains (id),
    name       TEXT NOT NULL,
    enabled    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (domain, name)
);
CREATE INDEX projects_name ON projects (name);

CREATE TABLE users (
    id            TEXT NOT NULL PRIMARY KEY,
    domain        TEXT NOT NULL REFERENCES domains (id),
    name          TEXT NOT NULL,
    enabled       BIGINT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    UNIQUE (domain, name)
);

CREATE TABLE roles (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    role    TEXT NOT NULL,
    PRIMARY KEY (user_id, project, role)
);
CREATE INDEX roles_project ON roles (project);

CREATE TABLE tokens (
    hash       BLOB NOT NULL PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project    TEXT REFERENCES projects (id) ON DELETE CASCADE,
    methods    TEXT NOT NULL,
    audit_id   TEXT NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX tokens_user ON tokens (user_id);
CREATE INDEX tokens_project ON tokens (project);
CREATE INDEX tokens_expires ON tokens (expires_at);

CREATE TABLE access_keys (
    access_key    TEXT NOT NULL PRIMARY KEY,
    user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project       TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    description   TEXT NOT NULL,
    sealed_secret BLOB NOT NULL,
    created_at    BIGINT NOT NULL
);
CREATE INDEX access_keys_user ON access_keys (user_id);
CREATE INDEX access_keys_project ON access_keys (project);

CREATE TABLE contents (
    id         TEXT NOT NULL PRIMARY KEY,
    project    TEXT NOT NULL REFERENCES projects (id),
    length     BIGINT NOT NULL,
    head       BLOB NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX contents_project ON contents (project);
CREATE INDEX contents_created ON contents (created_at, id);

CREATE TABLE packs (
    id         BLOB NOT NULL PRIMARY KEY,
    state      TEXT NOT NULL,
    size       BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE chunks (
    domain       BLOB NOT NULL,
    id           BLOB NOT NULL,
    pack         BLOB NOT NULL REFERENCES packs (id),
    pack_offset  BIGINT NOT NULL,
    stored       BIGINT NOT NULL,
    plain        BIGINT NOT NULL,
    generation   BIGINT NOT NULL,
    PRIMARY KEY (domain, id)
) WITHOUT ROWID;

CREATE TABLE images (
    id               TEXT NOT NULL PRIMARY KEY,
    project          TEXT NOT NULL REFERENCES projects (id),
    name             TEXT,
    state            TEXT NOT NULL,
    reason           TEXT,
    visibility       TEXT NOT NULL,
    protected        BIGINT NOT NULL,
    hidden           BIGINT NOT NULL,
    disk_format      TEXT,
    container_format TEXT,
    content          TEXT REFERENCES contents (id),
    size             BIGINT,
    size_virtual     BIGINT,
    md5              TEXT,
    sha256           TEXT,
    sha512           TEXT,
    min_disk_gib     BIGINT NOT NULL,
    min_ram_mib      BIGINT NOT NULL,
    job              TEXT,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL
);
CREATE INDEX images_created ON images (created_at, id);
CREATE INDEX images_project ON images (project);
CREATE INDEX images_content ON images (content);

CREATE TABLE image_tags (
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    tag   TEXT NOT NULL,
    PRIMARY KEY (image, tag)
) WITHOUT ROWID;
CREATE INDEX image_tags_tag ON image_tags (tag, image);

CREATE TABLE image_properties (
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (image, name)
);
CREATE INDEX image_properties_name ON image_properties (name, image);

CREATE TABLE buckets (
    id         TEXT NOT NULL PRIMARY KEY,
    project    TEXT NOT NULL REFERENCES projects (id),
    name       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project, name)
);

CREATE TABLE objects (
    bucket       TEXT NOT NULL REFERENCES buckets (id),
    key          TEXT NOT NULL,
    content      TEXT NOT NULL REFERENCES contents (id),
    size         BIGINT NOT NULL,
    etag         TEXT NOT NULL,
    content_type TEXT,
    metadata     TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (bucket, key)
);
CREATE INDEX objects_content ON objects (content);

CREATE TABLE uploads (
    id           TEXT NOT NULL PRIMARY KEY,
    bucket       TEXT NOT NULL REFERENCES buckets (id),
    key          TEXT NOT NULL,
    content_type TEXT,
    metadata     TEXT NOT NULL,
    created_at   BIGINT NOT NULL
);
CREATE INDEX uploads_bucket ON uploads (bucket, key, id);

CREATE TABLE parts (
    upload     TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    number     BIGINT NOT NULL,
    content    TEXT NOT NULL REFERENCES contents (id),
    size       BIGINT NOT NULL,
    etag       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (upload, number)
);
CREATE INDEX parts_content ON parts (content);

CREATE TABLE jobs (
    id               TEXT NOT NULL PRIMARY KEY,
    project          TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    user_id          TEXT NOT NULL,
    kind             TEXT NOT NULL,
    state            TEXT NOT NULL,
    step             TEXT,
    percent          BIGINT NOT NULL,
    attempt          BIGINT NOT NULL,
    cancel_requested BIGINT NOT NULL,
    error            TEXT,
    params           TEXT NOT NULL,
    image            TEXT,
    server           TEXT,
    created_at       BIGINT NOT NULL,
    started_at       BIGINT,
    ended_at         BIGINT,
    run_at           BIGINT NOT NULL,
    owner            TEXT,
    lease_until      BIGINT,
    line_count       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX jobs_runnable ON jobs (run_at, id) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_created ON jobs (created_at, id);
CREATE INDEX jobs_project ON jobs (project, created_at, id);
CREATE INDEX jobs_image ON jobs (image);
CREATE INDEX jobs_server ON jobs (server);

CREATE TABLE job_steps (
    job    TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step   TEXT NOT NULL,
    number BIGINT NOT NULL,
    output TEXT NOT NULL,
    PRIMARY KEY (job, step)
);

CREATE TABLE job_lines (
    job    TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    step   TEXT NOT NULL,
    text   TEXT NOT NULL,
    PRIMARY KEY (job, number)
);

CREATE TABLE servers (
    id         TEXT NOT NULL PRIMARY KEY,
    project    TEXT NOT NULL REFERENCES projects (id),
    user_id    TEXT NOT NULL,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT,
    image      TEXT NOT NULL,
    content    TEXT NOT NULL REFERENCES contents (id),
    format     TEXT NOT NULL,
    disk_size  BIGINT NOT NULL,
    uefi       BIGINT NOT NULL,
    flavor     TEXT NOT NULL,
    user_data  BLOB,
    ssh_key    TEXT,
    forwards   TEXT NOT NULL,
    job        TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX servers_content ON servers (content);
CREATE INDEX servers_project ON servers (project, created_at, id);
