#!/usr/bin/python3
"""Chunking and object ids by the book (chunking.md): plain rather than fast. `chunking.py FILE` prints the chunks."""

import json
import re
import struct
import subprocess
import sys

BLOCK, MIN, MAX, LARGE = 4096, 16384, 262144, 65536
THRESHOLD = {4096: 2**32 // 12, 512: 2**32 // 96}
SIZE = re.compile(rb"([0-7]+)[ \0]*")


def crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


CRC_TABLE = list(crc_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def blake3(data, *options):
    """The digest by b3sum, which /usr/bin/python3 has no module for."""
    command = ["b3sum", "--no-names", *options]
    return bytes.fromhex(subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout.decode())


def object_id(object_list):
    return blake3(object_list, "--derive-key", "vmfab object v1")


def zones(content):
    """(start, end, granule) of each zone, in order, those that are empty too."""
    if len(content) < 512 or content[257:262] != b"ustar":
        yield 0, len(content), 4096
        return
    start = at = 0
    while at < len(content):
        record = content[at:at + 512]
        at += 512
        size = SIZE.fullmatch(record[124:136])
        if len(record) < 512 or record[257:262] != b"ustar" or not size or record[156] in b"123456":
            continue
        size = int(size[1], 8)
        data = -(-size // 512) * 512
        if size >= LARGE:
            yield start, at, 512
            yield at, min(at + data, len(content)), 4096
            start = at + data
        at += data
    yield min(start, len(content)), len(content), 512


def cut(content):
    """(offset, length) of each chunk."""
    for start, end, granule in zones(content):
        begin = None
        for block in range(start, end, BLOCK):
            block_end = min(block + BLOCK, end)
            if not any(content[block:block_end]):
                if begin is not None:
                    yield begin, block - begin
                begin = None
                continue
            for at in range(block, block_end, granule):
                stop = min(at + granule, block_end)
                begin = at if begin is None else begin
                length = stop - begin
                if length == MAX or length >= MIN and crc32c(content[at:stop]) < THRESHOLD[granule]:
                    yield begin, length
                    begin = None
        if begin is not None:
            yield begin, end - begin


def object_list(content):
    """The list whose digest names the content, and the (offset, length, chunk) of each chunk."""
    chunks = [(offset, length, blake3(content[offset:offset + length])) for offset, length in cut(content)]
    text, end = struct.pack("<Q", len(content)), 0
    for offset, length, chunk in chunks:
        text += struct.pack("<QI", offset - end, length) + chunk
        end = offset + length
    return text, chunks


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        encoded, found = object_list(file.read())
    json.dump({"object": object_id(encoded).hex(), "chunks": [[*place, chunk.hex()] for *place, chunk in found]},
              sys.stdout)
    print()
