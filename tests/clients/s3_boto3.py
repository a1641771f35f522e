"""Drives the S3 endpoint with boto3. Run by a Python that has it:

    python s3_boto3.py DIR/credentials.json

Leaves nothing behind in the buckets it makes; prints one line when everything held.
"""

import base64
import datetime
import hashlib
import http.client
import io
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import boto3
import botocore.auth
from boto3.s3.transfer import TransferConfig
from botocore.awsrequest import AWSRequest
from botocore.client import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

MIB = 1024 * 1024
MARK = uuid.uuid4().hex[:8]
BUCKET = f"boto3-{MARK}"


def client(access, **config):
    options = dict(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1})
    options.update(config)
    return boto3.client(
        "s3",
        endpoint_url=access["s3_endpoint"],
        region_name=access.get("region"),
        aws_access_key_id=access["access_key"],
        aws_secret_access_key=access["secret_key"],
        config=Config(**options),
    )


def refused(code, call, **arguments):
    """Calls and returns the message of the refusal, which must have this code."""
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]
        assert found["Code"] == code, f"{code} expected, got {found}"
        return found.get("Message", "")
    raise AssertionError(f"{code} expected, the call was answered")


def fetch(url, method="GET", data=None, headers=None):
    """Sends a request without any SDK; returns its status and body."""
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def buckets(s3, access):
    assert s3.create_bucket(Bucket=BUCKET)["ResponseMetadata"]["HTTPStatusCode"] == 200
    refused("BucketAlreadyOwnedByYou", s3.create_bucket, Bucket=BUCKET)
    refused("InvalidBucketName", raw(access).create_bucket, Bucket="Not_A_Bucket")
    elsewhere = {"LocationConstraint": "mars-north-1"}
    refused("IllegalLocationConstraintException", s3.create_bucket, Bucket=f"x{BUCKET}", CreateBucketConfiguration=elsewhere)
    assert BUCKET in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert s3.head_bucket(Bucket=BUCKET)["BucketRegion"] == access["region"]
    wanted = None if access["region"] == "us-east-1" else access["region"]
    assert s3.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] == wanted
    assert "Status" not in s3.get_bucket_versioning(Bucket=BUCKET)
    refused("404", s3.head_bucket, Bucket=f"absent-{MARK}")
    refused("NoSuchBucket", s3.list_objects_v2, Bucket=f"absent-{MARK}")
    # The SDK waits for `100 Continue`, is refused, and sends the next request where the body would have been.
    for _ in range(300):
        refused("NoSuchBucket", s3.put_object, Bucket=f"absent-{MARK}", Key="k", Body=b"x")
    refused("NoSuchBucket", s3.get_object, Bucket=f"absent-{MARK}", Key="k")


def raw(access):
    """A client that does not check names itself."""
    unchecked = client(access)
    unchecked.meta.events.unregister("before-parameter-build.s3", botocore.handlers.validate_bucket_name)
    return unchecked


def objects(s3):
    body = os.urandom(MIB + 17)
    md5 = hashlib.md5(body).hexdigest()
    key = "dir/a file+ü~.bin"
    put = s3.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType="application/x-disk", Metadata={"Origin": "test"})
    assert put["ETag"] == f'"{md5}"', put
    head = s3.head_object(Bucket=BUCKET, Key=key)
    assert (head["ContentLength"], head["ETag"], head["ContentType"]) == (len(body), f'"{md5}"', "application/x-disk")
    assert head["Metadata"] == {"origin": "test"} and head["AcceptRanges"] == "bytes"
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body

    for header, start, end in [("bytes=0-0", 0, 1), ("bytes=10-99", 10, 100), (f"bytes={MIB}-", MIB, MIB + 17), ("bytes=-5", MIB + 12, MIB + 17)]:
        part = s3.get_object(Bucket=BUCKET, Key=key, Range=header)
        assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert part["ContentRange"] == f"bytes {start}-{end - 1}/{len(body)}", part["ContentRange"]
        assert part["Body"].read() == body[start:end], header
    refused("InvalidRange", s3.get_object, Bucket=BUCKET, Key=key, Range=f"bytes={len(body)}-")
    refused("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="absent")
    refused("404", s3.head_object, Bucket=BUCKET, Key="absent")

    hour = datetime.timedelta(hours=1)
    changed = head["LastModified"]
    assert s3.get_object(Bucket=BUCKET, Key=key, IfMatch=put["ETag"])["Body"].read() == body
    refused("PreconditionFailed", s3.get_object, Bucket=BUCKET, Key=key, IfMatch='"other"')
    refused("304", s3.get_object, Bucket=BUCKET, Key=key, IfNoneMatch=put["ETag"])
    refused("304", s3.head_object, Bucket=BUCKET, Key=key, IfModifiedSince=changed + hour)
    assert s3.head_object(Bucket=BUCKET, Key=key, IfModifiedSince=changed - hour)["ETag"] == put["ETag"]
    refused("NotImplemented", s3.put_object, Bucket=BUCKET, Key=key, Body=b"x", IfNoneMatch="*")

    empty = s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")
    assert empty["ETag"] == '"d41d8cd98f00b204e9800998ecf8427e"'
    assert s3.get_object(Bucket=BUCKET, Key="empty")["Body"].read() == b""
    assert s3.put_object(Bucket=BUCKET, Key="empty", Body=b"full")["ETag"] == f'"{hashlib.md5(b"full").hexdigest()}"'
    assert s3.get_object(Bucket=BUCKET, Key="empty")["Body"].read() == b"full"

    refused("KeyTooLongError", s3.put_object, Bucket=BUCKET, Key="k" * 1025, Body=b"x")
    copy = s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": key})
    assert copy["CopyObjectResult"]["ETag"] == put["ETag"]
    assert s3.get_object(Bucket=BUCKET, Key="copy")["Body"].read() == body
    assert s3.head_object(Bucket=BUCKET, Key="copy")["Metadata"] == {"origin": "test"}
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "copy"}, MetadataDirective="REPLACE", Metadata={"a": "b"})
    assert s3.head_object(Bucket=BUCKET, Key="copy")["Metadata"] == {"a": "b"}
    refused("InvalidRequest", s3.copy_object, Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "copy"})
    refused("NoSuchKey", s3.copy_object, Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "absent"})
    refused("BucketNotEmpty", s3.delete_bucket, Bucket=BUCKET)
    s3.delete_object(Bucket=BUCKET, Key="copy")
    s3.delete_object(Bucket=BUCKET, Key="copy")
    refused("404", s3.head_object, Bucket=BUCKET, Key="copy")


def checksums(s3):
    body = b"hello"
    good = base64.b64encode(hashlib.md5(body).digest()).decode()
    s3.put_object(Bucket=BUCKET, Key="sum", Body=body, ContentMD5=good)
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    refused("BadDigest", s3.put_object, Bucket=BUCKET, Key="wrong", Body=body, ContentMD5=wrong)
    refused("InvalidDigest", s3.put_object, Bucket=BUCKET, Key="wrong", Body=body, ContentMD5="x")
    for name, right, other in [
        ("CRC32", "NhCmhg==", "AAAAAA=="),
        ("CRC32C", "mnG7TA==", "AAAAAA=="),
        ("CRC64NVME", "M3eFcAZSQlc=", "AAAAAAAAAAA="),
        ("SHA1", "qvTGHdzF6KLavt4PO0gs2a6pQ00=", base64.b64encode(bytes(20)).decode()),
        ("SHA256", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", base64.b64encode(bytes(32)).decode()),
    ]:
        s3.put_object(Bucket=BUCKET, Key="sum", Body=body, **{f"Checksum{name}": right})
        refused("BadDigest", s3.put_object, Bucket=BUCKET, Key="wrong", Body=body, **{f"Checksum{name}": other})
    # As a trailer behind an aws-chunked body, computed by the SDK.
    for name in ["CRC32", "SHA1", "SHA256"]:
        s3.put_object(Bucket=BUCKET, Key="sum", Body=io.BytesIO(os.urandom(3 * MIB)), ChecksumAlgorithm=name)
    refused("404", s3.head_object, Bucket=BUCKET, Key="wrong")


def listings(s3):
    keys = [f"list/{n:03}" for n in range(25)] + ["list/sub/one", "list/sub/two", "list/ü & <é>"]
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    for operation in ["list_objects", "list_objects_v2"]:
        pages = s3.get_paginator(operation).paginate(Bucket=BUCKET, Prefix="list/", PaginationConfig={"PageSize": 7})
        found = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        assert found == sorted(keys, key=str.encode), (operation, found)
        folded = getattr(s3, operation)(Bucket=BUCKET, Prefix="list/", Delimiter="/")
        assert [entry["Prefix"] for entry in folded["CommonPrefixes"]] == ["list/sub/"]
        assert len(folded["Contents"]) == 26 and folded["IsTruncated"] is False
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="list/", Delimiter="/", PaginationConfig={"PageSize": 5})
    seen = [(page.get("Contents", []), page.get("CommonPrefixes", [])) for page in pages]
    assert sum(len(contents) for contents, _ in seen) == 26 and sum(len(folders) for _, folders in seen) == 1
    after = s3.list_objects_v2(Bucket=BUCKET, Prefix="list/0", StartAfter="list/022", FetchOwner=True)
    assert [entry["Key"] for entry in after["Contents"]] == ["list/023", "list/024"] and after["KeyCount"] == 2
    assert after["Contents"][0]["Owner"]["ID"] and after["Contents"][0]["ETag"].startswith('"')
    none = s3.list_objects_v2(Bucket=BUCKET, MaxKeys=0)
    assert none["KeyCount"] == 0 and none["IsTruncated"] is False
    refused("InvalidArgument", s3.list_objects_v2, Bucket=BUCKET, ContinuationToken="%%%")
    gone = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys + ["never-there"]]})
    assert len(gone["Deleted"]) == len(keys) + 1 and "Errors" not in gone
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="list/")


def multipart(s3):
    body = os.urandom(17 * MIB + 3)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_fileobj(io.BytesIO(body), BUCKET, "large", Config=config, ExtraArgs={"Metadata": {"k": "v"}})
    head = s3.head_object(Bucket=BUCKET, Key="large")
    parts = [body[at : at + 5 * MIB] for at in range(0, len(body), 5 * MIB)]
    tags = b"".join(hashlib.md5(part).digest() for part in parts)
    assert head["ETag"] == f'"{hashlib.md5(tags).hexdigest()}-{len(parts)}"', head["ETag"]
    assert head["Metadata"] == {"k": "v"}
    read = io.BytesIO()
    s3.download_fileobj(BUCKET, "large", read, Config=config)
    assert read.getvalue() == body

    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="parts")
    at = dict(Bucket=BUCKET, Key="parts", UploadId=begun["UploadId"])
    etags = {}
    # Any order, one part twice, and a part that is a range of another object.
    for number, data in [(7, parts[0]), (3, b"old"), (3, parts[1])]:
        etags[number] = s3.upload_part(PartNumber=number, Body=data, **at)["ETag"]
    copied = s3.upload_part_copy(PartNumber=9, CopySource={"Bucket": BUCKET, "Key": "large"}, CopySourceRange="bytes=1-1000", **at)
    etags[9] = copied["CopyPartResult"]["ETag"]
    listed = s3.list_parts(MaxParts=2, **at)
    assert [part["PartNumber"] for part in listed["Parts"]] == [3, 7] and listed["IsTruncated"]
    rest = s3.list_parts(PartNumberMarker=listed["NextPartNumberMarker"], **at)
    assert [part["PartNumber"] for part in rest["Parts"]] == [9]
    uploads = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    assert begun["UploadId"] in [upload["UploadId"] for upload in uploads]

    def complete(parts):
        return s3.complete_multipart_upload(MultipartUpload={"Parts": [{"PartNumber": n, "ETag": tag} for n, tag in parts]}, **at)

    refused("InvalidPartOrder", complete, parts=[(7, etags[7]), (3, etags[3])])
    refused("InvalidPart", complete, parts=[(3, etags[7])])
    refused("InvalidPart", complete, parts=[(3, etags[3]), (4, etags[3])])
    assert complete([(n, etags[n]) for n in [3, 7, 9]])["ETag"].endswith('-3"')
    assert s3.get_object(Bucket=BUCKET, Key="parts")["Body"].read() == parts[1] + parts[0] + body[1:1001]
    refused("NoSuchUpload", s3.upload_part, PartNumber=1, Body=b"x", **at)

    begun = s3.create_multipart_upload(Bucket=BUCKET, Key="aborted")
    at = dict(Bucket=BUCKET, Key="aborted", UploadId=begun["UploadId"])
    s3.upload_part(PartNumber=1, Body=b"x", **at)
    s3.abort_multipart_upload(**at)
    refused("NoSuchUpload", s3.list_parts, **at)
    refused("NoSuchUpload", s3.list_parts, Bucket=BUCKET, Key="aborted", UploadId="not-an-id")
    refused("404", s3.head_object, Bucket=BUCKET, Key="aborted")


def presigned(s3, access):
    name = {"Bucket": BUCKET, "Key": "presigned file"}
    put = s3.generate_presigned_url("put_object", Params=name, ExpiresIn=60)
    assert fetch(put, "PUT", b"by anybody")[0] == 200
    get = s3.generate_presigned_url("get_object", Params=name, ExpiresIn=60)
    assert fetch(get) == (200, b"by anybody")
    status, body = fetch(get.replace("presigned", "Presigned"))
    assert status == 403 and b"SignatureDoesNotMatch" in body, body
    status, body = fetch(s3.generate_presigned_url("get_object", Params=name, ExpiresIn=604801))
    assert status == 400 and b"604800" in body, body

    late = AWSRequest("GET", f"{access['s3_endpoint']}/{BUCKET}/presigned%20file")
    signer = botocore.auth.S3SigV4QueryAuth(Credentials(access["access_key"], access["secret_key"]), "s3", access["region"], expires=5)
    hour_ago = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    with Moment(hour_ago):
        signer.add_auth(late)
    status, body = fetch(late.url)
    assert status == 403 and b"expired" in body, body

    version_2 = client(dict(access, region="us-east-1"), signature_version="s3")
    status, body = fetch(version_2.generate_presigned_url("get_object", Params=name))
    assert status == 400 and b"Signature Version 4" in body and b"s3v4" in body, body
    assert "Signature Version 4" in refused("InvalidRequest", version_2.list_buckets)


class Moment:
    """Lets botocore sign at another time."""

    def __init__(self, moment):
        self.moment = moment

    def __enter__(self):
        self.kept = botocore.auth.get_current_datetime
        botocore.auth.get_current_datetime = lambda *_: self.moment.replace(tzinfo=None)

    def __exit__(self, *_):
        botocore.auth.get_current_datetime = self.kept


def strangers(s3, access):
    message = refused("SignatureDoesNotMatch", client(dict(access, secret_key="wrong")).list_buckets)
    assert "secret key" in message, message
    refused("InvalidAccessKeyId", client(dict(access, access_key="AAAAAAAAAAAAAAAAAAAA")).list_buckets)
    message = refused("AuthorizationHeaderMalformed", client(dict(access, region="mars-north-1")).list_buckets)
    assert access["region"] in message, message
    # On a bucket the SDK learns the region from the answer and signs again.
    assert client(dict(access, region="mars-north-1")).head_bucket(Bucket=BUCKET)
    status, body = fetch(f"{access['s3_endpoint']}/{BUCKET}")
    assert status == 403 and b"AccessDenied" in body, body
    with Moment(datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=20)):
        refused("RequestTimeTooSkewed", s3.list_buckets)

    other = client(second_project(access))
    for call, arguments in [
        (other.list_objects_v2, {}),
        (other.get_object, {"Key": "presigned file"}),
        (other.put_object, {"Key": "k", "Body": b"x"}),
        (other.delete_object, {"Key": "presigned file"}),
        (other.delete_bucket, {}),
    ]:
        refused("NoSuchBucket", call, Bucket=BUCKET, **arguments)
    assert BUCKET not in [bucket["Name"] for bucket in other.list_buckets()["Buckets"]]
    refused("NoSuchBucket", other.copy_object, Bucket=BUCKET, Key="k", CopySource={"Bucket": BUCKET, "Key": "presigned file"})


def second_project(access):
    """Makes a user in a project of its own; returns what its client needs."""
    admin = sign_in(access, access["username"], access["password"], access["project_id"])
    project = molde(access, admin, "POST", "projects", {"name": f"boto3-{MARK}"})["project"]["id"]
    name, password = f"boto3-{MARK}", uuid.uuid4().hex
    user = molde(access, admin, "POST", "users", {"name": name, "password": password})["user"]["id"]
    molde(access, admin, "PUT", f"projects/{project}/users/{user}/roles/member")
    token = sign_in(access, name, password, project)
    key = molde(access, token, "POST", "access-keys", {"description": "boto3"})["access_key"]
    return dict(access, access_key=key["access_key"], secret_key=key["secret_key"])


def quotas(s3, access):
    """What would go beyond a quota is refused, whole or half way, and leaves what was there."""
    admin = sign_in(access, access["username"], access["password"], access["project_id"])
    quota = molde(access, admin, "GET", "quota")["quota"]
    assert quota["objects"]["limit"] is None and quota["objects"]["used"] > 0, quota

    def limit(**limits):
        return molde(access, admin, "PUT", f"projects/{access['project_id']}/quota", limits)["quota"]

    full = limit(objects=quota["objects"]["used"])
    assert full["objects"]["left"] == 0, full
    message = refused("QuotaExceeded", s3.put_object, Bucket=BUCKET, Key="one too many", Body=b"x")
    assert "0 are left" in message and "ask an administrator" in message, message
    refused("QuotaExceeded", s3.create_multipart_upload, Bucket=BUCKET, Key="one too many")
    limit(objects=None, stored_bytes=quota["stored_bytes"]["used"] + 6 * MIB)
    parts = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    body = io.BytesIO(os.urandom(17 * MIB))
    message = refused("QuotaExceeded", s3.upload_fileobj, Fileobj=body, Bucket=BUCKET, Key="too large", Config=parts)
    assert "are left" in message, message
    for key in ["one too many", "too large"]:
        refused("404", s3.head_object, Bucket=BUCKET, Key=key)
    used = molde(access, admin, "GET", "quota")["quota"]["stored_bytes"]
    assert used["used"] <= used["limit"], used
    limit(stored_bytes=None)
    s3.put_object(Bucket=BUCKET, Key="fits again", Body=b"x")


def sign_in(access, user, password, project):
    identity = {"methods": ["password"], "password": {"user": {"name": user, "domain": {"name": access["domain"]}, "password": password}}}
    body = {"auth": {"identity": identity, "scope": {"project": {"id": project}}}}
    request = urllib.request.Request(
        f"{access['endpoint']}/v3/auth/tokens", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers["X-Subject-Token"]


def molde(access, token, method, path, body=None):
    data = json.dumps(body or {}).encode()
    status, answer = fetch(f"{access['endpoint']}/molde/v1/{path}", method, data, {"X-Auth-Token": token, "Content-Type": "application/json"})
    assert 200 <= status < 300, (status, answer)
    return json.loads(answer) if answer else None


def broken(s3, access):
    """A body that ends early leaves nothing, and a chunk that claims too much is refused."""
    place = urllib.parse.urlsplit(access["s3_endpoint"])
    credentials = Credentials(access["access_key"], access["secret_key"])

    def send(key, headers, body, end=True):
        request = AWSRequest("PUT", f"{access['s3_endpoint']}/{BUCKET}/{key}", headers=headers)
        request.context["payload_signing_enabled"] = False
        signer = botocore.auth.S3SigV4Auth(credentials, "s3", access["region"])
        signer.payload = lambda _: headers["X-Amz-Content-SHA256"]
        signer.add_auth(request)
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
        connection.putrequest("PUT", f"/{BUCKET}/{key}", skip_accept_encoding=True)
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        if end:
            connection.sock.shutdown(1)
        answer = connection.getresponse()
        return answer.status, answer.read()

    plain = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    try:
        send("short", dict(plain, **{"Content-Length": "1000"}), b"x" * 10)
    except (http.client.HTTPException, ConnectionError):
        pass
    refused("404", s3.head_object, Bucket=BUCKET, Key="short")

    chunked = {"X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "Content-Encoding": "aws-chunked", "X-Amz-Trailer": "x-amz-checksum-crc32"}

    def chunks(body, decoded):
        headers = dict(chunked, **{"Content-Length": str(len(body)), "X-Amz-Decoded-Content-Length": str(decoded)})
        return send("chunked", headers, body, end=False)

    assert chunks(b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 5)[0] == 200
    assert s3.get_object(Bucket=BUCKET, Key="chunked")["Body"].read() == b"hello"
    s3.delete_object(Bucket=BUCKET, Key="chunked")
    for body, decoded, code in [
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", 5, b"BadDigest"),
        (b"5\r\nhello\r\n0\r\n\r\n", 5, b"IncompleteBody"),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 9, b"IncompleteBody"),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 3, b"IncompleteBody"),
        (b"ffffffff\r\nhello", 5, b"InvalidRequest"),
        (b"not chunked", 5, b"IncompleteBody"),
    ]:
        status, answer = chunks(body, decoded)
        assert status == 400 and code in answer, (body, status, answer)
    refused("404", s3.head_object, Bucket=BUCKET, Key="chunked")


def clean(s3):
    for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page.get("Contents", []):
            s3.delete_object(Bucket=BUCKET, Key=entry["Key"])
    s3.delete_bucket(Bucket=BUCKET)
    refused("404", s3.head_bucket, Bucket=BUCKET)


def main():
    access = json.loads(Path(sys.argv[1]).read_text())
    s3 = client(access)
    buckets(s3, access)
    objects(s3)
    checksums(s3)
    listings(s3)
    multipart(s3)
    presigned(s3, access)
    strangers(s3, access)
    broken(s3, access)
    quotas(s3, access)
    clean(s3)
    print(f"s3_boto3: boto3 {boto3.__version__} did everything it was asked to")


main()
