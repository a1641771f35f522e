# Starts moto so that it keeps what S3 promises: of several who write one name only where there is none, one does.
# moto looks whether the name is there and writes it a few calls later, in a thread for each request.
import threading

from moto.s3.responses import S3Response
from moto.server import main

lock = threading.Lock()
put_object = S3Response.put_object


def put_object_alone(self):
    with lock:
        return put_object(self)


S3Response.put_object = put_object_alone
main()
