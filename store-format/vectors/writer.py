"""Bytes of stores, by packs.md."""

import hashlib
import struct
import sys
from pathlib import Path

import zstandard

sys.path.insert(0, str(Path(__file__).parent.parent))
from chunking import blake3, crc32c, object_id, object_list  # noqa: E402

CHUNK, OBJECT, BLOB, ACTION = 1, 2, 3, 4
FORMAT = {"format": "vmfab-store", "version": 1, "compatible": [], "read_only_compatible": [], "incompatible": []}


class Record:
    """One record. `lies` replace fields of the header: kind, encoding, zero, stored, length."""

    def __init__(self, kind, key, content, payload=None, crc=None, **lies):
        self.payload = content if payload is None else payload
        fields = {"kind": kind, "encoding": 0 if payload is None else 1, "zero": 0, "stored": len(self.payload),
                  "length": len(content)} | lies
        self.key, self.kind = key, fields["kind"]
        self.fields = struct.pack("<BBHII", *fields.values())
        rest = self.fields + key + self.payload
        self.bytes = struct.pack("<I", crc32c(rest) if crc is None else crc) + rest


def chunk(content, **lies):
    return Record(CHUNK, blake3(content), content, **lies)


def blob(content, **lies):
    return Record(BLOB, object_id(object_list(content)[0]), content, **lies)


def of_list(content, **lies):
    """The record of an object, from its list."""
    return Record(OBJECT, object_id(content), content, **lies)


def thing(content):
    """An object's record, and those of its chunks."""
    encoded, chunks = object_list(content)
    return of_list(encoded), [chunk(content[at:at + length]) for at, length, _ in chunks]


def zstd(content):
    return zstandard.ZstdCompressor(level=3).compress(content)


def action(key, time, outputs, **lies):
    """Outputs are (name, object record, size)."""
    content = struct.pack("<QH", time, len(outputs))
    for name, made, size in outputs:
        content += bytes([len(name)]) + name + made.key + struct.pack("<Q", size)
    return Record(ACTION, key, content, **lies)


def head(role, number=0, version=1, zero=0):
    return struct.pack("<8sIIQQ", b"vmfabpck", version, role, number, zero)


def pack(role, records, number=0, entries=None, crc=None, offset=None, header=None):
    """A pack. `entries`, `crc` and `offset` replace the ones of the table that is right."""
    made, table = header or head(role, number), {}
    for record in records:
        table[record.key, record.kind] = record.fields + struct.pack("<I", len(made))
        made += record.bytes
    rows = entries(table) if entries else table
    encoded = b"".join(key + row for (key, _), row in sorted(rows.items()))
    trailer = struct.pack("<IIQQ8s", crc32c(encoded) if crc is None else crc, len(rows),
                          len(made) if offset is None else offset, 0, b"vmfabend")
    return made + encoded + trailer


def journal(number, records, tail=b""):
    return head(2, number) + b"".join(record.bytes for record in records) + tail


def name_of(made):
    return hashlib.sha256(made).hexdigest()


def index(packs, lie=lambda entry: entry):
    """The index of packs, given by name; each entry as `lie` makes it."""
    names = sorted(packs)
    entries = []
    for number, name in enumerate(names):
        made = packs[name]
        count, offset = struct.unpack("<IQ", made[-28:-16])
        rows = [made[offset + 48 * row:offset + 48 * row + 48] for row in range(count)]
        entries += [lie(row) + struct.pack("<I", number) for row in rows]
    entries = sorted((entry for entry in entries if len(entry) == 52), key=lambda entry: (entry[:33], entry[48:]))
    encoded = b"".join(bytes.fromhex(name) for name in names)
    return struct.pack("<8sIIQII", b"vmfabidx", 1, len(names), len(entries), crc32c(encoded), 0) + encoded + b"".join(entries)
