"""Reads disk files with dissect.hypervisor, which nobody here wrote: prints the SHA-256 of the disk in each.

usage: dissect_disks.py FILE..., whose suffix says the format
"""

import hashlib
import sys
from pathlib import Path

from dissect.hypervisor.disk import qcow2, vdi, vhd, vhdx, vmdk

# Reads of VDI that cross a block come out wrong, also from files that QEMU wrote; a block is 1 MiB.
PIECE = 1 << 20


def disk(path):
    """Returns a readable stream of the disk in the file, and its size in bytes."""
    match path.suffix:
        case ".qcow2":
            image = qcow2.QCow2(path, allow_no_backing_file=True)
            return image.open(), image.size
        case ".vdi":
            image = vdi.VDI(path)
            return image.open(), image.size
        case ".vhd":
            image = vhd.VHD(path.open("rb"))
        case ".vhdx":
            image = vhdx.VHDX(path)
        case ".vmdk":
            image = vmdk.VMDK(path)
        case other:
            raise SystemExit(f"no reader for {other}")
    return image, image.size


for name in sys.argv[1:]:
    stream, size = disk(Path(name))
    digest = hashlib.sha256()
    for offset in range(0, size, PIECE):
        stream.seek(offset)
        digest.update(stream.read(min(PIECE, size - offset)))
    print(digest.hexdigest(), size, Path(name).name)
