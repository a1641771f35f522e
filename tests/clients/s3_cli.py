"""Drives the S3 endpoint with the AWS command line and, where it is installed, rclone:

    python s3_cli.py DIR/credentials.json

Run by a Python that has awscli beside it. Copies 300 MB both ways. Leaves nothing behind; prints one line when
everything held.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

MIB = 1024 * 1024
MARK = uuid.uuid4().hex[:8]
BUCKET = f"cli-{MARK}"
AWS = Path(sys.executable).with_name("aws")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(program, words, environment, fails=False):
    done = subprocess.run([str(program), *map(str, words)], env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode != 0) == fails, f"{program} {words}: {done.returncode} {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def aws(access, folder):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = dict(
        kept,
        HOME=str(folder),
        AWS_ACCESS_KEY_ID=access["access_key"],
        AWS_SECRET_ACCESS_KEY=access["secret_key"],
        AWS_DEFAULT_REGION=access["region"],
        AWS_ENDPOINT_URL=access["s3_endpoint"],
        AWS_MAX_ATTEMPTS="1",
    )

    def s3(*words, fails=False):
        return run(AWS, ["s3", *words], environment, fails)

    big, back = folder / "big.raw", folder / "back.raw"
    with open(big, "wb") as file:
        for _ in range(300):
            file.write(os.urandom(MIB))
    assert BUCKET in s3("mb", f"s3://{BUCKET}")
    s3("cp", "--no-progress", big, f"s3://{BUCKET}/images/big.raw")
    s3("cp", "--no-progress", f"s3://{BUCKET}/images/big.raw", back)
    assert digest(big) == digest(back)
    listing = s3("ls", f"s3://{BUCKET}/images/")
    assert str(300 * MIB) in listing and "big.raw" in listing, listing
    assert "PRE images/" in s3("ls", f"s3://{BUCKET}")
    assert BUCKET in s3("ls")

    # The server copies in ranges, and the copy is the same.
    back.unlink()
    s3("cp", "--no-progress", f"s3://{BUCKET}/images/big.raw", f"s3://{BUCKET}/copy.raw")
    s3("cp", "--no-progress", f"s3://{BUCKET}/copy.raw", back)
    assert digest(big) == digest(back)

    tree = folder / "tree"
    for name in ["one.txt", "sub dir/two & three.txt", "sub dir/ü/four.txt", "empty"]:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("" if name == "empty" else name * 1000)
    assert s3("sync", tree, f"s3://{BUCKET}/tree").count("upload:") == 4
    assert "upload:" not in s3("sync", tree, f"s3://{BUCKET}/tree"), "a second sync sends nothing"
    s3("sync", f"s3://{BUCKET}/tree", folder / "tree-back")
    for path in tree.rglob("*"):
        if path.is_file():
            assert digest(path) == digest(folder / "tree-back" / path.relative_to(tree)), path
    (tree / "one.txt").unlink()
    assert "delete:" in s3("sync", "--delete", tree, f"s3://{BUCKET}/tree")

    assert "BucketNotEmpty" in s3("rb", f"s3://{BUCKET}", fails=True)
    assert "404" in s3("cp", f"s3://{BUCKET}/absent", folder / "absent", fails=True)
    assert s3("rm", "--recursive", f"s3://{BUCKET}").count("delete:") == 5
    s3("rb", f"s3://{BUCKET}")
    return run(AWS, ["--version"], environment).split()[0]


def rclone(access, folder):
    program = shutil.which("rclone")
    if program is None:
        return "no rclone on this machine"
    remote = dict(
        TYPE="s3",
        PROVIDER="Other",
        ENDPOINT=access["s3_endpoint"],
        REGION=access["region"],
        ACCESS_KEY_ID=access["access_key"],
        SECRET_ACCESS_KEY=access["secret_key"],
        FORCE_PATH_STYLE="true",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    environment = dict(kept, HOME=str(folder), **{f"RCLONE_CONFIG_MOLDE_{name}": value for name, value in remote.items()})

    def do(*words, fails=False):
        return run(program, [*words, "--retries", "1"], environment, fails)

    source = folder / "rclone"
    (source / "deep/er").mkdir(parents=True)
    for name, size in [("small", 10), ("deep/er/medium", 3 * MIB + 1), ("deep/large file", 250 * MIB)]:
        (source / name).write_bytes(os.urandom(size))
    do("mkdir", f"molde:{BUCKET}-r")
    do("copy", source, f"molde:{BUCKET}-r/data")
    do("check", source, f"molde:{BUCKET}-r/data", "--download")
    listing = do("ls", f"molde:{BUCKET}-r")
    assert "data/deep/er/medium" in listing and str(250 * MIB) in listing, listing
    do("copy", f"molde:{BUCKET}-r/data", folder / "rclone-back")
    assert digest(source / "deep/large file") == digest(folder / "rclone-back/deep/large file")
    do("moveto", f"molde:{BUCKET}-r/data/small", f"molde:{BUCKET}-r/renamed")
    assert "renamed" in do("lsf", f"molde:{BUCKET}-r")
    do("purge", f"molde:{BUCKET}-r")
    assert f"{BUCKET}-r" not in do("lsd", "molde:")
    return " ".join(run(program, ["version"], environment).split()[:2])


def main():
    access = json.loads(Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as folder:
        done = [aws(access, Path(folder)), rclone(access, Path(folder))]
    print(f"s3_cli: copied, listed, synchronised and removed with {', '.join(done)}")


main()
