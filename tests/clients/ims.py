"""Drives the image service with Huawei Cloud's own SDK, signed by an access key:

    python ims.py DIR/credentials.json

Run by a Python that has huaweicloudsdkims and boto3 (to put the files into a bucket). Leaves nothing behind; prints
one line when everything held.
"""

import io
import json
import os
import struct
import sys
import time
import uuid
from pathlib import Path

import boto3
from botocore.client import Config
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkims.v2 import (
    CreateImageRequest,
    CreateImageRequestBody,
    ExportImageRequest,
    ExportImageRequestBody,
    GlanceDeleteImageRequest,
    GlanceShowImageRequest,
    ImsClient,
    ListImagesRequest,
    ShowImageQuotaRequest,
    ShowJobProgressRequest,
    ShowJobRequest,
    TagKeyValue,
    UpdateImageRequest,
    UpdateImageRequestBody,
)

MARK = uuid.uuid4().hex[:8]
BUCKET = f"ims-{MARK}"
SIZE = 8 * 1024 * 1024


def disk():
    """A raw disk: a partition table, one Linux partition, and noise in it."""
    table = bytearray(512)
    table[446:462] = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\0\3\0", 2048, SIZE // 512 - 2048)
    table[510:512] = b"\x55\xaa"
    body = bytearray(SIZE)
    body[:512] = table
    body[2048 * 512 : 2048 * 512 + 65536] = os.urandom(65536)
    return bytes(body)


def refused(code, status, call, request):
    try:
        call(request)
    except ClientRequestException as error:
        assert (error.error_code, error.status_code) == (code, status), f"{code} expected, got {error}"
        return error.error_msg
    raise AssertionError(f"{code} expected, the call was answered")


class Images:
    def __init__(self, access, **changes):
        access = dict(access, **changes)
        credentials = BasicCredentials(access["access_key"], access["secret_key"], access["project_id"])
        self.client = ImsClient.new_builder().with_credentials(credentials).with_endpoint(access["endpoint"]).build()

    def create(self, name, key, **more):
        body = CreateImageRequestBody(name=name, image_url=f"{BUCKET}:{key}", min_disk=1, **more)
        return CreateImageRequest(body=body)

    def wait(self, job):
        for _ in range(600):
            shown = self.client.show_job(ShowJobRequest(job_id=job))
            assert shown.job_id == job and shown.status in ("INIT", "RUNNING", "SUCCESS", "FAIL"), shown
            if shown.status in ("SUCCESS", "FAIL"):
                return shown
            time.sleep(0.1)
        raise AssertionError(f"job {job} did not end")

    def list(self, **filters):
        return self.client.list_images(ListImagesRequest(**filters))

    def delete(self, image):
        self.client.glance_delete_image(GlanceDeleteImageRequest(image_id=image))


def create_and_list(images):
    name = f"ims {MARK}"
    more = dict(os_version="Debian GNU/Linux 12.0.0 64bit", description="made by the SDK", max_ram=4096)
    tags = [TagKeyValue(key="role", value=MARK)]
    job = images.client.create_image(images.create(name, "disk.vmdk", image_tags=tags, **more)).job_id
    done = images.wait(job)
    assert done.status == "SUCCESS" and done.job_type == "imsImportImageJob", done
    assert done.begin_time.endswith("Z") and done.end_time.endswith("Z") and done.fail_reason is None, done
    assert done.entities.image_name == name and done.entities.process_percent == 1.0, done
    image = done.entities.image_id
    progress = images.client.show_job_progress(ShowJobProgressRequest(job_id=job))
    assert (progress.status, progress.entities.image_id) == ("SUCCESS", image), progress

    listed = images.list(id=image).images
    assert len(listed) == 1
    shown = listed[0]
    for field, value in dict(
        id=image, name=name, status="active", visibility="private", min_disk=1, protected=False, virtual_size=SIZE,
        disk_format="raw", container_format="bare", virtual_env_type="FusionCompute", tags=[f"role={MARK}"], max_ram="4096",
    ).items():
        assert getattr(shown, field) == value, (field, getattr(shown, field))
    attributes = {shown.attribute_map[name]: value for name, value in shown.to_dict().items() if name in shown.attribute_map}
    for name, value in dict(
        __imagetype="private", __isregistered="true", __os_type="Linux", __platform="Debian", __os_bit="64",
        __os_version=more["os_version"], __description=more["description"], __image_source_type="uds",
        __data_origin=f"file,{BUCKET}:disk.vmdk", __support_kvm="true",
    ).items():
        assert attributes[name] == value, (name, attributes[name])
    assert int(attributes["__image_size"]) > 0

    for filters in [{"imagetype": "private", "tag": f"role={MARK}"}, {"os_type": "Linux", "name": shown.name}, {"status": "active", "platform": "Debian", "name": shown.name}]:
        found = images.list(**keywords(filters)).images
        assert [found_image.id for found_image in found] == [image], (filters, found)
    for filters in [{"imagetype": "gold", "id": image}, {"os_type": "Windows", "id": image}, {"status": "queued", "id": image}]:
        assert images.list(**keywords(filters)).images == [], filters
    return image


def found_inside(images):
    """What the caller does not tell is filled in by what is found, which is no system here."""
    job = images.client.create_image(images.create(f"untold {MARK}", "disk.vmdk")).job_id
    image = images.wait(job).entities.image_id
    shown = images.list(id=image).images[0]
    assert (shown.os_type, shown.platform, shown.os_version) == ("Other", "Other", None), shown
    images.delete(image)


def keywords(filters):
    """The SDK's names of filters that begin with two underscores."""
    known = ListImagesRequest.attribute_map
    names = {wire: python for python, wire in known.items()}
    return {names.get(f"__{name}", names.get(name)): value for name, value in filters.items()}


def page(images, image):
    job = images.client.create_image(images.create(f"second {MARK}", "disk.vmdk", tags=[f"role.{MARK}"])).job_id
    second = images.wait(job).entities.image_id
    first = images.list(tag=f"role={MARK}", limit=1, sort_key="created_at", sort_dir="asc")
    assert [shown.id for shown in first.images] == [image] and first.page_info.next_marker == image, first
    rest = images.list(tag=f"role={MARK}", limit=1, sort_key="created_at", sort_dir="asc", marker=image)
    assert [shown.id for shown in rest.images] == [second] and rest.page_info.next_marker is None, rest
    images.delete(second)
    refused("IMG.0027", 400, images.client.update_image, update(second, "replace", "/name", "x"))


def update(image, op, path, value=None):
    return UpdateImageRequest(image_id=image, body=[UpdateImageRequestBody(op=op, path=path, value=value)])


def change(images, image):
    shown = images.client.update_image(update(image, "replace", "/name", f"renamed {MARK}"))
    assert shown.name == f"renamed {MARK}" and shown.id == image
    shown = images.client.update_image(update(image, "replace", "/min_ram", "1024"))
    assert shown.min_ram == 1024 and shown.name == f"renamed {MARK}"
    shown = images.client.update_image(update(image, "add", "/hw_vif_multiqueue_enabled", "true"))
    assert shown.hw_vif_multiqueue_enabled == "true"
    refused("IMG.0035", 400, images.client.update_image, update(image, "replace", "/status", "queued"))
    refused("IMG.0003", 400, images.client.update_image, update(image, "replace", "/name", " x"))
    glance = images.client.glance_show_image(GlanceShowImageRequest(image_id=image))
    assert glance.name == f"renamed {MARK}"


def quota(images):
    (resource,) = images.client.show_image_quota(ShowImageQuotaRequest()).quotas.resources
    told = (resource.type, resource.used, resource.quota, resource.max)
    assert told == ("image", len(images.list().images), -1, -1), resource


def export(images, s3, image):
    def request(key, file_format="qcow2"):
        body = ExportImageRequestBody(bucket_url=f"{BUCKET}:{key}", file_format=file_format)
        return ExportImageRequest(image_id=image, body=body)

    done = images.wait(images.client.export_image(request("out.qcow2")).job_id)
    assert done.status == "SUCCESS" and done.job_type == "imsNativeExportImageJob", done
    assert s3.get_object(Bucket=BUCKET, Key="out.qcow2")["Body"].read(4) == b"QFI\xfb"
    refused("IMG.0070", 400, images.client.export_image, request("out.qcow2"))
    refused("IMG.0072", 400, images.client.export_image, request("other", "zip"))
    missing = ExportImageRequestBody(bucket_url="no-such-bucket:x", file_format="qcow2")
    refused("IMG.0069", 400, images.client.export_image, ExportImageRequest(image_id=image, body=missing))


def wrong(images, access):
    create = images.client.create_image
    refused("IMG.0057", 400, create, images.create("x", "absent.vmdk"))
    refused("IMG.0003", 400, create, images.create("a/b", "disk.vmdk"))
    refused("IMG.0002", 400, create, images.create("x" * 129, "disk.vmdk"))
    refused("IMG.0105", 400, create, CreateImageRequest(body=CreateImageRequestBody(name="x", instance_id="y")))
    refused("IMG.0017", 400, create, CreateImageRequest(body=CreateImageRequestBody(name="x", image_url="y", min_disk=1)))
    refused("IMG.0055", 400, create, CreateImageRequest(body=CreateImageRequestBody(name="x", image_url=f"{BUCKET}:disk.vmdk")))
    refused("IMG.0023", 400, images.client.show_job, ShowJobRequest(job_id=uuid.uuid4().hex))

    job = create(images.create(f"text {MARK}", "text.vmdk")).job_id
    failed = images.wait(job)
    assert failed.status == "FAIL" and failed.fail_reason, failed
    images.delete(failed.entities.image_id)

    refused("IMG.0087", 401, Images(access, secret_key="wrong").client.list_images, ListImagesRequest())
    refused("IMG.0087", 401, Images(access, access_key="A" * 20).client.list_images, ListImagesRequest())
    refused("IMG.0026", 403, Images(access, project_id=uuid.uuid4().hex).client.show_job, ShowJobRequest(job_id=job))
    return failed.fail_reason


def main():
    access = json.loads(Path(sys.argv[1]).read_text())
    s3 = boto3.client(
        "s3",
        endpoint_url=access["s3_endpoint"],
        region_name=access["region"],
        aws_access_key_id=access["access_key"],
        aws_secret_access_key=access["secret_key"],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    s3.create_bucket(Bucket=BUCKET)
    # The end of a file's name is not believed: this is a raw disk.
    s3.put_object(Bucket=BUCKET, Key="disk.vmdk", Body=disk())
    s3.put_object(Bucket=BUCKET, Key="text.vmdk", Body=io.BytesIO(b"this is no disk\n" * 1000))
    images = Images(access)
    image = create_and_list(images)
    found_inside(images)
    page(images, image)
    change(images, image)
    quota(images)
    export(images, s3, image)
    reason = wrong(images, access)
    images.delete(image)
    assert images.list(id=image).images == []
    for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
        s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
    s3.delete_bucket(Bucket=BUCKET)
    print(f"ims: the SDK made, found, changed, exported and removed images; a text file was refused: {reason}")


main()
