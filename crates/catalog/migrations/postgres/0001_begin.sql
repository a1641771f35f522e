-- The first schema. Text compares bytewise (COLLATE "C", whatever the cluster sorts by); times are microseconds since
-- the epoch; flags are 0 or 1. Columns that keep history (`jobs.image`, `servers.image`, `images.job`,
-- `jobs.user_id`, `servers.user_id`) name rows that may be gone, so they are no foreign keys.

CREATE TABLE domains (
    id   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE projects (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    domain     TEXT COLLATE "C" NOT NULL REFERENCES domains (id),
    name       TEXT COLLATE "C" NOT NULL,
    enabled    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (domain, name)
);
CREATE INDEX projects_name ON projects (name);

CREATE TABLE users (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    domain        TEXT COLLATE "C" NOT NULL REFERENCES domains (id),
    name          TEXT COLLATE "C" NOT NULL,
    enabled       BIGINT NOT NULL,
    password_hash TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    UNIQUE (domain, name)
);

CREATE TABLE roles (
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project TEXT COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    role    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, project, role)
);
CREATE INDEX roles_project ON roles (project);

CREATE TABLE tokens (
    hash       BYTEA NOT NULL PRIMARY KEY,
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project    TEXT COLLATE "C" REFERENCES projects (id) ON DELETE CASCADE,
    methods    TEXT COLLATE "C" NOT NULL,
    audit_id   TEXT COLLATE "C" NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX tokens_user ON tokens (user_id);
CREATE INDEX tokens_project ON tokens (project);
CREATE INDEX tokens_expires ON tokens (expires_at);

CREATE TABLE access_keys (
    access_key    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id       TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    project       TEXT COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    description   TEXT COLLATE "C" NOT NULL,
    sealed_secret BYTEA NOT NULL,
    created_at    BIGINT NOT NULL
);
CREATE INDEX access_keys_user ON access_keys (user_id);
CREATE INDEX access_keys_project ON access_keys (project);

CREATE TABLE contents (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    project    TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
    length     BIGINT NOT NULL,
    head       BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX contents_project ON contents (project);
CREATE INDEX contents_created ON contents (created_at, id);

CREATE TABLE packs (
    id         BYTEA NOT NULL PRIMARY KEY,
    state      TEXT COLLATE "C" NOT NULL,
    size       BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE chunks (
    domain       BYTEA NOT NULL,
    id           BYTEA NOT NULL,
    pack         BYTEA NOT NULL REFERENCES packs (id),
    pack_offset  BIGINT NOT NULL,
    stored       BIGINT NOT NULL,
    plain        BIGINT NOT NULL,
    generation   BIGINT NOT NULL,
    PRIMARY KEY (domain, id)
);

CREATE TABLE images (
    id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    project          TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
    name             TEXT COLLATE "C",
    state            TEXT COLLATE "C" NOT NULL,
    reason           TEXT COLLATE "C",
    visibility       TEXT COLLATE "C" NOT NULL,
    protected        BIGINT NOT NULL,
    hidden           BIGINT NOT NULL,
    disk_format      TEXT COLLATE "C",
    container_format TEXT COLLATE "C",
    content          TEXT COLLATE "C" REFERENCES contents (id),
    size             BIGINT,
    size_virtual     BIGINT,
    md5              TEXT COLLATE "C",
    sha256           TEXT COLLATE "C",
    sha512           TEXT COLLATE "C",
    min_disk_gib     BIGINT NOT NULL,
    min_ram_mib      BIGINT NOT NULL,
    job              TEXT COLLATE "C",
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL
);
CREATE INDEX images_created ON images (created_at, id);
CREATE INDEX images_project ON images (project);
CREATE INDEX images_content ON images (content);

CREATE TABLE image_tags (
    image TEXT COLLATE "C" NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    tag   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (image, tag)
);
CREATE INDEX image_tags_tag ON image_tags (tag, image);

CREATE TABLE image_properties (
    image TEXT COLLATE "C" NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    name  TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (image, name)
);
CREATE INDEX image_properties_name ON image_properties (name, image);

CREATE TABLE buckets (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    project    TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
    name       TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (project, name)
);

CREATE TABLE objects (
    bucket       TEXT COLLATE "C" NOT NULL REFERENCES buckets (id),
    key          TEXT COLLATE "C" NOT NULL,
    content      TEXT COLLATE "C" NOT NULL REFERENCES contents (id),
    size         BIGINT NOT NULL,
    etag         TEXT COLLATE "C" NOT NULL,
    content_type TEXT COLLATE "C",
    metadata     TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (bucket, key)
);
CREATE INDEX objects_content ON objects (content);

CREATE TABLE uploads (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    bucket       TEXT COLLATE "C" NOT NULL REFERENCES buckets (id),
    key          TEXT COLLATE "C" NOT NULL,
    content_type TEXT COLLATE "C",
    metadata     TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL
);
CREATE INDEX uploads_bucket ON uploads (bucket, key, id);

CREATE TABLE parts (
    upload     TEXT COLLATE "C" NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    number     BIGINT NOT NULL,
    content    TEXT COLLATE "C" NOT NULL REFERENCES contents (id),
    size       BIGINT NOT NULL,
    etag       TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (upload, number)
);
CREATE INDEX parts_content ON parts (content);

CREATE TABLE jobs (
    id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    project          TEXT COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    user_id          TEXT COLLATE "C" NOT NULL,
    kind             TEXT COLLATE "C" NOT NULL,
    state            TEXT COLLATE "C" NOT NULL,
    step             TEXT COLLATE "C",
    percent          BIGINT NOT NULL,
    attempt          BIGINT NOT NULL,
    cancel_requested BIGINT NOT NULL,
    error            TEXT COLLATE "C",
    params           TEXT COLLATE "C" NOT NULL,
    image            TEXT COLLATE "C",
    server           TEXT COLLATE "C",
    created_at       BIGINT NOT NULL,
    started_at       BIGINT,
    ended_at         BIGINT,
    run_at           BIGINT NOT NULL,
    owner            TEXT COLLATE "C",
    lease_until      BIGINT,
    line_count       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX jobs_runnable ON jobs (run_at, id) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_created ON jobs (created_at, id);
CREATE INDEX jobs_project ON jobs (project, created_at, id);
CREATE INDEX jobs_image ON jobs (image);
CREATE INDEX jobs_server ON jobs (server);

CREATE TABLE job_steps (
    job    TEXT COLLATE "C" NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step   TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    output TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (job, step)
);

CREATE TABLE job_lines (
    job    TEXT COLLATE "C" NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    step   TEXT COLLATE "C" NOT NULL,
    text   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (job, number)
);

CREATE TABLE servers (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    project    TEXT COLLATE "C" NOT NULL REFERENCES projects (id),
    user_id    TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" NOT NULL,
    reason     TEXT COLLATE "C",
    image      TEXT COLLATE "C" NOT NULL,
    content    TEXT COLLATE "C" NOT NULL REFERENCES contents (id),
    format     TEXT COLLATE "C" NOT NULL,
    disk_size  BIGINT NOT NULL,
    uefi       BIGINT NOT NULL,
    flavor     TEXT COLLATE "C" NOT NULL,
    user_data  BYTEA,
    ssh_key    TEXT COLLATE "C",
    forwards   TEXT COLLATE "C" NOT NULL,
    job        TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX servers_content ON servers (content);
CREATE INDEX servers_project ON servers (project, created_at, id);
