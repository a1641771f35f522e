-- What was found inside an image and done about it. `original` is the content from before, while that can be had again.

CREATE TABLE reports (
    image    TEXT NOT NULL PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    original TEXT REFERENCES contents (id),
    report   TEXT NOT NULL
);
CREATE INDEX reports_original ON reports (original);
