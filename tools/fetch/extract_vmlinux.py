#!/usr/bin/python3
"""Takes the ELF kernel out of a bzImage.

    extract_vmlinux.py BZIMAGE OUT

QEMU boots the ELF through its PVH entry, which saves the real-mode setup code
and the decompressor: a second of every boot under TCG. The payload is found by
the boot protocol's fields (Documentation/arch/x86/boot.rst), not by a search
for magic bytes.
"""

import struct
import subprocess
import sys

HEADER_MAGIC = (0x202, b"HdrS")
SETUP_SECTORS = 0x1F1
PAYLOAD_OFFSET_LENGTH = 0x248
SECTOR = 512
ELF_MAGIC = b"\x7fELF"

# Payload magic -> command that decompresses, and whether the 4 bytes (the
# uncompressed size) that the kernel build appends must be cut off first.
DECOMPRESSORS = {
    b"\xfd7zXZ": (["xz", "-dc"], True),
    b"\x28\xb5\x2f\xfd": (["zstd", "-qdc"], True),
    b"\x02\x21\x4c\x18": (["lz4", "-qdc"], True),
    b"\x1f\x8b": (["gzip", "-dc"], False),
    b"BZh": (["bzip2", "-dc"], False),
    b"\x5d\x00\x00": (["xz", "--format=lzma", "-dc"], False),
}


class BadImage(ValueError):
    """The file is not a bzImage that this program understands."""


def payload(image):
    """Returns the compressed kernel inside a bzImage's bytes."""
    offset, magic = HEADER_MAGIC
    if image[offset:offset + len(magic)] != magic:
        raise BadImage("no boot protocol header")
    sectors = image[SETUP_SECTORS] or 4
    start, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET_LENGTH)
    start += (sectors + 1) * SECTOR
    found = image[start:start + length]
    if not length or len(found) != length:
        raise BadImage("the payload lies outside the file")
    return found


def decompress(data):
    """Returns the ELF inside a compressed payload."""
    for magic, (command, has_size) in DECOMPRESSORS.items():
        if data.startswith(magic):
            # The exit status says nothing: gzip complains about the appended
            # size. The ELF magic decides.
            elf = subprocess.run(
                command, input=data[:-4] if has_size else data, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            if not elf.startswith(ELF_MAGIC):
                raise BadImage(command[0] + " did not yield an ELF file")
            return elf
    raise BadImage("unknown compression, magic %r" % data[:6])


def main(argv):
    if len(argv) != 3:
        sys.exit(__doc__)
    with open(argv[1], "rb") as source:
        image = source.read()
    try:
        elf = decompress(payload(image))
    except BadImage as error:
        sys.exit("%s: %s" % (argv[1], error))
    with open(argv[2], "wb") as out:
        out.write(elf)


if __name__ == "__main__":
    main(sys.argv)
