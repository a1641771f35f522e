-- What a project may have at most (no limit where it is null), and what it has. Usage is counted in the transaction that
-- changes the rows it counts. Its chunks outlive a project until they are collected, so it is no foreign key; a dedup
-- domain has the id of its project.

CREATE TABLE quotas (
    project      TEXT NOT NULL PRIMARY KEY REFERENCES projects (id) ON DELETE CASCADE,
    stored_bytes BIGINT,
    objects      BIGINT,
    images       BIGINT
);

CREATE TABLE usage (
    project      TEXT NOT NULL PRIMARY KEY,
    stored_bytes BIGINT NOT NULL DEFAULT 0,
    objects      BIGINT NOT NULL DEFAULT 0,
    images       BIGINT NOT NULL DEFAULT 0
);

-- `WHERE TRUE` tells SQLite that what follows belongs to the insertion.
INSERT INTO usage (project, stored_bytes) SELECT lower(hex(domain)), SUM(stored) FROM chunks GROUP BY domain;
INSERT INTO usage (project, objects)
    SELECT buckets.project, COUNT(*) FROM objects JOIN buckets ON buckets.id = objects.bucket
    WHERE TRUE GROUP BY buckets.project
    ON CONFLICT (project) DO UPDATE SET objects = excluded.objects;
INSERT INTO usage (project, images)
    SELECT project, COUNT(*) FROM images WHERE TRUE GROUP BY project
    ON CONFLICT (project) DO UPDATE SET images = excluded.images;
