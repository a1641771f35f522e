"""Drives the identity and image APIs with the clients that OpenStack users have: the `openstack` command,
openstacksdk and glanceclient. Run by a Python that has python-openstackclient, python-glanceclient and openstacksdk:

    python openstack.py DIR/clouds.yaml

The cloud in the file is named `molde`. Leaves nothing behind; prints one line when everything held.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

# This file has the name of a package that it imports, and its folder is searched first.
sys.path.remove(str(Path(__file__).resolve().parent))

import glanceclient
import keystoneauth1.exceptions
import openstack

CLOUD = "molde"
DATA = os.urandom(3 * 1024 * 1024 + 17)
MD5 = hashlib.md5(DATA).hexdigest()
SHA512 = hashlib.sha512(DATA).hexdigest()
MARK = "clients-" + uuid.uuid4().hex[:8]


class Command:
    """The `openstack` command beside this Python."""

    def __init__(self, clouds):
        self.program = Path(sys.executable).with_name("openstack")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        self.environment = dict(kept, OS_CLIENT_CONFIG_FILE=str(clouds), OS_CLOUD=CLOUD)

    def run(self, *words):
        return subprocess.run(
            [str(self.program), *words], env=self.environment, capture_output=True, text=True, timeout=120
        )

    def do(self, *words):
        done = self.run(*words)
        assert done.returncode == 0, f"openstack {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words):
        return json.loads(self.do(*words, "-f", "json"))

    def fails(self, *words):
        done = self.run(*words)
        assert done.returncode != 0, f"openstack {' '.join(words)} should fail: {done.stdout}"
        return done.stdout + done.stderr


def identity(command):
    token = command.json("token", "issue")
    assert token["id"] and token["expires"].endswith("+0000"), token
    services = {service["Type"] for service in command.json("catalog", "list")}
    assert {"identity", "image"} <= services, services
    project = command.json("project", "show", token["project_id"])
    assert project["id"] == token["project_id"], project
    assert command.json("project", "show", project["name"])["id"] == project["id"]
    assert command.json("user", "show", token["user_id"])["id"] == token["user_id"]
    command.do("token", "revoke", token["id"])
    return token["id"]


def image_life(command, folder):
    source, saved = folder / "source.raw", folder / "saved.raw"
    source.write_bytes(DATA)
    name, renamed = MARK + " first", MARK + " renamed"
    made = command.json(
        "image", "create", "--file", str(source), "--disk-format", "raw", "--container-format", "bare",
        "--min-disk", "1", "--property", "os_distro=debian", "--tag", "blue", name,
    )
    shown = command.json("image", "show", name)
    assert shown["id"] == made["id"] and shown["status"] == "active", shown
    assert (shown["size"], shown["checksum"], shown["min_disk"]) == (len(DATA), MD5, 1), shown
    assert shown["properties"]["os_distro"] == "debian", shown
    assert shown["properties"]["os_hash_algo"] == "sha512" and shown["properties"]["os_hash_value"] == SHA512, shown
    assert (shown["tags"], shown["visibility"], shown["protected"]) == (["blue"], "shared", False), shown

    command.do("image", "set", "--property", "os_version=12", "--tag", "green", "--name", renamed, "--protected", made["id"])
    shown = command.json("image", "show", renamed)
    assert shown["properties"]["os_version"] == "12" and sorted(shown["tags"]) == ["blue", "green"], shown
    assert shown["protected"] is True
    command.do("image", "unset", "--property", "os_version", "--tag", "blue", made["id"])
    shown = command.json("image", "show", made["id"])
    assert "os_version" not in shown["properties"] and shown["tags"] == ["green"], shown

    for words in (["--name", renamed], ["--tag", "green"], ["--property", "os_distro=debian"], ["--status", "active"]):
        assert made["id"] in [image["ID"] for image in command.json("image", "list", *words)], words
    assert command.json("image", "list", "--name", name) == []

    command.do("image", "save", "--file", str(saved), made["id"])
    assert saved.read_bytes() == DATA

    assert "protected" in command.fails("image", "delete", made["id"])
    command.do("image", "set", "--unprotected", made["id"])
    command.do("image", "delete", renamed)
    assert "No Image found" in command.fails("image", "show", made["id"])


def sdk(clouds):
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(clouds)
    connection = openstack.connect(cloud=CLOUD)
    assert connection.image.get_endpoint()
    made = [connection.image.create_image(f"{MARK}-{number}", data=DATA, disk_format="raw", container_format="bare",
                                          wait=True, validate_checksum=True) for number in range(3)]
    names = [image.name for image in connection.image.images(limit=1, sort="name:asc", owner=connection.current_project_id)
             if image.name.startswith(MARK)]
    assert names == [f"{MARK}-{number}" for number in range(3)], names

    image = connection.image.get_image(made[0].id)
    assert (image.status, image.checksum, image.size) == ("active", MD5, len(DATA)), image
    part = connection.image.get(f"/images/{image.id}/file", headers={"Range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, DATA[1000:2000])
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{len(DATA)}"
    outside = connection.image.get(f"/images/{image.id}/file", headers={"Range": f"bytes={len(DATA)}-"})
    assert (outside.status_code, outside.headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")
    connection.image.update_image(image, name=MARK + "-updated", architecture="x86_64")
    assert connection.image.find_image(MARK + "-updated").architecture == "x86_64"
    connection.image.add_tag(image, "key=value")
    assert connection.image.get_image(image.id).tags == ["key=value"]
    connection.image.remove_tag(image, "key=value")
    assert list(connection.image.members(image)) == []
    for image in made:
        connection.image.delete_image(image.id, ignore_missing=False)
    assert connection.image.find_image(made[0].id) is None
    return connection


def raises(kind, call):
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"{kind.__name__} was expected")


def glance(connection):
    client = glanceclient.Client("2", session=connection.session, region_name=connection.config.region_name)
    schema = client.schemas.get("image").raw()
    assert "raw" in schema["properties"]["disk_format"]["enum"]
    image = client.images.create(name=MARK + "-glance", disk_format="raw", container_format="bare", __os_type="Linux")
    assert (image.status, image["__os_type"]) == ("queued", "Linux"), image
    assert client.images.data(image.id).wrapped is None
    client.images.upload(image.id, io.BytesIO(DATA))
    raises(glanceclient.exc.HTTPConflict, lambda: client.images.upload(image.id, io.BytesIO(DATA)))
    assert b"".join(client.images.data(image.id)) == DATA
    found = list(client.images.list(filters={"__os_type": "Linux", "name": MARK + "-glance"}))
    assert [one.id for one in found] == [image.id]
    updated = client.images.update(image.id, remove_props=["__os_type"], min_ram=64)
    assert updated.min_ram == 64 and "__os_type" not in updated, updated
    raises(glanceclient.exc.HTTPForbidden, lambda: client.http_client.patch(
        f"/v2/images/{image.id}", headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
        data='[{"op": "replace", "path": "/status", "value": "queued"}]'))
    long_name = raises(glanceclient.exc.HTTPBadRequest, lambda: client.http_client.post("/v2/images", data={"name": "x" * 256}))
    assert "255" in long_name, long_name
    client.images.delete(image.id)
    raises(glanceclient.exc.HTTPNotFound, lambda: client.images.get(image.id))


def quotas(connection):
    client = glanceclient.Client("2", session=connection.session, region_name=connection.config.region_name)
    root = connection.image.get_endpoint().rstrip("/").removesuffix("/v2")
    place = f"{root}/molde/v1/projects/{connection.current_project_id}/quota"

    def limit(**limits):
        return connection.session.put(place, json=limits).json()["quota"]

    image = client.images.create(name=MARK + "-quota", disk_format="raw", container_format="bare")
    used = limit(images=1)["stored_bytes"]["used"]
    new = dict(name=MARK + "-too-many", disk_format="raw", container_format="bare")
    told = raises(glanceclient.exc.HTTPOverLimit, lambda: client.images.create(**new))
    assert "1 images" in told and "0 are left" in told, told
    limit(images=None, stored_bytes=used + 1024 * 1024)
    data = os.urandom(len(DATA))
    told = raises(glanceclient.exc.HTTPOverLimit, lambda: client.images.upload(image.id, io.BytesIO(data)))
    assert "are left" in told, told
    assert client.images.get(image.id).status == "queued"
    limit(stored_bytes=None)
    client.images.upload(image.id, io.BytesIO(data))
    assert client.images.get(image.id).status == "active"
    client.images.delete(image.id)


def strangers(connection, revoked):
    images = connection.image.get_endpoint().rstrip("/") + "/images"
    for headers in ({}, {"X-Auth-Token": revoked}):
        answer = connection.session.get(images, authenticated=False, headers=headers, raise_exc=False)
        assert answer.status_code == 401 and answer.json()["error"]["code"] == 401, (headers, answer.text)
        assert answer.headers["WWW-Authenticate"].startswith("Keystone uri="), answer.headers
    answer = connection.session.put(images, headers={"Accept": "application/json"}, raise_exc=False)
    assert answer.status_code == 405 and "POST" in answer.headers["Allow"], answer.headers
    assert (answer.json()["code"], answer.json()["title"]) == (405, "Method Not Allowed"), answer.text
    wrong = dict(connection.config.config["auth"], password="not the password")
    refused = openstack.connect(load_yaml_config=False, load_envvars=False, auth=wrong,
                                region_name=connection.config.region_name)
    raises(keystoneauth1.exceptions.Unauthorized, lambda: list(refused.image.images()))


def main():
    clouds = Path(sys.argv[1]).resolve()
    command = Command(clouds)
    revoked = identity(command)
    with tempfile.TemporaryDirectory() as folder:
        image_life(command, Path(folder))
    connection = sdk(clouds)
    glance(connection)
    quotas(connection)
    strangers(connection, revoked)
    print("openstack clients: everything held")


if __name__ == "__main__":
    main()
