#!/usr/bin/python3
"""Makes the corpus anew: for each target, bytes as they are and as they must not be."""

import json
import shutil
import struct
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "store-format/vectors"))
from writer import BLOB, CHUNK, FORMAT, Record, action, blob, chunk, head, index, journal, name_of, of_list, pack, thing, zstd  # noqa: E402

TEXT = b"a line of text\n" * 40
DIGEST = bytes(range(32))


def entry(hole, length):
    return struct.pack("<QI", hole, length) + DIGEST


def corpus():
    small, packed, result = blob(b"small"), chunk(TEXT, payload=zstd(TEXT)), action(DIGEST, 5, [(b"a", blob(b"x"), 1), (b"layer", blob(b"y"), 2)])
    holes = thing(bytes(4096) + TEXT + bytes(9000))[0]
    records = [small, packed, result, holes, blob(b"")]
    yield "record", {
        "blob": small.bytes, "zstd": packed.bytes, "action": result.bytes, "object": holes.bytes, "empty": blob(b"").bytes,
        "bomb": Record(CHUNK, DIGEST, TEXT, payload=zstd(bytes(1 << 20))).bytes, "kind": Record(9, DIGEST, b"x").bytes,
        "two-frames": Record(BLOB, DIGEST, TEXT * 2, payload=zstd(TEXT) * 2).bytes, "long": blob(b"x", stored=2**32 - 1, length=2**32 - 1).bytes,
    }
    yield "list", {
        "empty": struct.pack("<Q", 0), "hole": struct.pack("<Q", 2**63), "one": holes.payload,
        "many": struct.pack("<Q", 10**6) + entry(0, 262144) + entry(7, 1) + entry(4096, 300),
        "overflow": struct.pack("<Q", 2**64 - 1) + entry(2**64 - 10, 5) + entry(2**64 - 10, 5), "zero": struct.pack("<Q", 9) + entry(0, 0),
    }
    yield "action", {
        "two": result.payload, "none": struct.pack("<QH", 1, 0), "time": action(DIGEST, 2**64 - 1, []).payload,
        "unsorted": action(DIGEST, 1, [(b"b", small, 1), (b"a", small, 1)]).payload, "count": struct.pack("<QH", 1, 65535),
        "text": action(DIGEST, 1, [("ä".encode(), small, 1), (b"\xff", small, 1)]).payload,
    }
    data = pack(1, [packed, chunk(b"other")])
    catalog = pack(2, records, 7)
    yield "pack", {
        "data": data, "catalog": catalog, "nothing": pack(2, []), "offset": pack(2, records, offset=2**64 - 8), "checksum": pack(1, records, crc=1),
        "version": pack(1, [small], header=head(1, 0, 2)),
    }
    packs = {name_of(made): made for made in (data, catalog)}
    yield "index", {
        "two": index(packs), "none": index({}), "lies": index(packs, lambda row: row[:40] + b"\xff" * 8),
        "count": index(packs)[:16] + b"\xff" * 8 + index(packs)[24:], "cut": index(packs)[:-1],
    }
    yield "journal", {
        "records": journal(1, records), "torn": journal(1, records, small.bytes[:50]), "header": head(2, 1), "half-header": head(2, 1)[:20],
        "damaged": journal(1, [small, blob(b"bad", crc=1), packed]), "sealed": catalog, "kind": journal(1, [small, Record(7, DIGEST, b"x"), small]),
    }
    yield "format", {
        "new": json.dumps(FORMAT).encode(), "short": b'{"format":"vmfab-store","version":1}', "version": b'{"version":7,"incompatible":1}',
        "features": json.dumps(FORMAT | {"incompatible": ["a", "b"], "read_only_compatible": ["c"]}).encode(), "deep": b"[" * 300, "text": b"\xff\0",
    }
    yield "session", {
        "both": f"pack {DIGEST.hex()}\njournal 0123456789abcdef\n".encode(), "cut": f"pack {DIGEST.hex()[:40]}".encode(),
        "other": b"pack\njournal +1\njournal \npack x y\n", "empty": b"",
    }

    def parts(step, *rows):
        return bytes([step]) + b"".join(struct.pack("<BBH", *row) for row in rows)
    yield "chunker", {
        "noise": parts(3, (0, 1, 65535), (0, 2, 65535), (0, 3, 65535)), "zeros": parts(200, (0, 1, 5000), (1, 0, 9000), (0, 2, 60000)),
        "same": parts(255, (2, 7, 65535), (2, 7, 65535), (2, 7, 65535)),
        "tar": parts(90, (3, 48, 1000), (0, 1, 2000), (3, 48, 40000), (0, 2, 65535), (0, 3, 14465), (3, 48, 32768), (0, 3, 65535), (1, 0, 1024)),
        "cut-member": parts(17, (3, 48, 65535), (0, 4, 30000)), "links": parts(40, (3, 49, 50000), (3, 48, 50000), (1, 0, 50000)),
    }


if __name__ == "__main__":
    shutil.rmtree(HERE / "corpus", ignore_errors=True)
    for target, files in corpus():
        (HERE / "corpus" / target).mkdir(parents=True)
        for name, made in files.items():
            (HERE / "corpus" / target / name).write_bytes(made)
