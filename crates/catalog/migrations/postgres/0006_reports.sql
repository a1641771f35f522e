-- What was found inside an image and done about it. `original` is the content from before, while that can be had again.

CREATE TABLE reports (
    image    TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    original TEXT COLLATE "C" REFERENCES contents (id),
    report   TEXT COLLATE "C" NOT NULL
);
CREATE INDEX reports_original ON reports (original);
