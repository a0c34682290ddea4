"""Inputs that pin every rule of chunking.md; `parts` are as vectors/v1/README.md says."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from chunking import CRC_TABLE, THRESHOLD, blake3, crc32c, object_id, object_list  # noqa: E402

MIN, MAX, LARGE = 16384, 262144, 65536


def noise(seed, length):
    return {"noise": seed, "length": length}


def same(byte, length):
    return {"byte": byte, "length": length}


def times(count, parts):
    return {"times": count, "parts": parts}


def header(size, kind="0"):
    """A member header whose size field is this text, or this number as tar programs write it."""
    field = f"{size:011o}\0" if isinstance(size, int) else size
    assert len(field) == 12
    return {"header": field, "type": kind}


def content(parts):
    made = b""
    for part in parts:
        if "noise" in part:
            made += blake3(part["noise"].to_bytes(8, "little"), "--length", str(part["length"]))[:part["length"]]
        elif "byte" in part:
            made += bytes([part["byte"]]) * part["length"]
        elif "hex" in part:
            made += bytes.fromhex(part["hex"])
        elif "times" in part:
            made += content(part["parts"]) * part["times"]
        else:
            record = bytearray(512)
            record[:6] = b"member"
            record[124:136] = part["header"].encode("latin-1")
            record[156:157] = part["type"].encode("latin-1")
            record[257:262] = b"ustar"
            made += record
    return made


def forged(seed, length, crc):
    """Parts of so many bytes whose CRC-32C is `crc`."""
    start = noise(seed, length - 4)
    want = state = crc ^ 0xFFFFFFFF
    steps = []
    for _ in range(4):
        steps.append(next(i for i in range(256) if CRC_TABLE[i] >> 24 == state >> 24))
        state = (state ^ CRC_TABLE[steps[-1]]) << 8 & 0xFFFFFFFF
    state, end = crc32c(content([start])) ^ 0xFFFFFFFF, b""
    for step in reversed(steps):
        end += bytes([(state ^ step) & 255])
        state = state >> 8 ^ CRC_TABLE[step]
    assert state == want
    return [start, {"hex": end.hex()}]


def plain(seed, granule, count):
    """Granules, all the same, none of which ends a chunk."""
    return [times(count, forged(seed, granule, 0xFFFFFFFF))]


def disks():
    yield "empty", []
    yield "one byte", [same(1, 1)]
    yield "one zero", [same(0, 1)]
    for length in (4095, 4096, 4097, 1048576):
        yield f"{length} zeros", [same(0, length)]
    yield "shorter than a record of a tar", [noise(1, 511)]
    yield "MIN", [noise(2, MIN)]
    yield "1 MiB of noise and a part of a block", [noise(3, 1048576 + 1234)]
    yield "one byte in MAX, three times", [same(7, 3 * MAX)]
    yield "MAX", plain(100, 4096, 64)
    yield "MAX and one byte", plain(100, 4096, 64) + [same(1, 1)]
    low, high = THRESHOLD[4096] - 1, THRESHOLD[4096]
    yield "granule below the threshold at MIN", plain(10, 4096, 3) + forged(20, 4096, low) + plain(30, 4096, 2)
    yield "granule at the threshold at MIN", plain(10, 4096, 3) + forged(20, 4096, high) + plain(30, 4096, 2)
    yield "granule below the threshold before MIN", plain(10, 4096, 2) + forged(20, 4096, 0) + plain(30, 4096, 2)
    yield "the last granule is short and ends nothing", plain(10, 4096, 4) + forged(20, 1000, 0)
    yield "a block of zeros between", [noise(4, 8192), same(0, 4096), noise(5, 6000)]
    yield "zeros at the start", [same(0, 12288), noise(6, 100)]
    yield "zeros across blocks, none of them whole", [noise(7, 4000), same(0, 4096), noise(8, 4000)]
    yield "zeros across blocks, one of them whole", [noise(7, 4000), same(0, 8192), noise(8, 4000)]
    yield "a tail of zeros that is part of a block", [noise(9, 8192), same(0, 100)]
    yield "zeros at the end of the last block, with bytes before", [noise(9, 8000), same(0, 1000)]
    yield "a block of zeros after a chunk of less than MIN ends it", [noise(9, 4096), same(0, 4096), noise(9, 4096)]
    yield "zeros after MAX", [same(7, MAX), same(0, 4096), same(7, 5000)]


def tars():
    yield "the first record of a tar, cut short", [header(0), same(0, 511)], 511
    yield "one empty member", [header(0)]
    yield "one empty member and the end of a tar", [header(0), same(0, 10240 - 512)]
    for size in (1, 512, LARGE - 1, LARGE, LARGE + 1):
        padding = -size % 512
        yield (f"member of {size} bytes, and another", [header(size), noise(40, size), same(0, padding),
                                                        header(100), noise(41, 100), same(0, 412 + 1024)])
    yield "two large members, the second right behind the first", [
        header(LARGE), noise(42, LARGE), header(80000), noise(43, 80000), same(0, 384 + 1024)]
    yield "a large member that the end cuts", [header(100), noise(44, 512), header(200000), noise(45, 70001)]
    yield "a large member that the end cuts to nothing", [header(100), noise(44, 512), header(200000)]
    yield "the largest size that octal digits can say", [header("7" * 12), noise(46, 9000)]
    yield "a small member that the end cuts", [header(60000), noise(47, 1000)]
    yield "zeros in a large member, by its blocks", [header(100000), noise(48, 4096), same(0, 8192), noise(48, 1000),
                                                     same(0, 86712 + 352), header(5), same(5, 512)]
    yield "zeros in members, by blocks of the zone", [header(20000), noise(49, 3000), same(0, 17000 + 480), header(0)]
    for kind in "123456":
        yield (f"type {kind} has no data, whatever its size says",
               [header(LARGE, kind), header(LARGE), noise(50, LARGE)])
    for kind in ("\0", "7", "x", "g", "L"):
        yield (f"type {kind!r} has data", [header(LARGE, kind), noise(51, 512), header(LARGE), noise(52, LARGE)])
    fields = {
        "blank": " " * 12, "zero bytes": "\0" * 12, "base 256": "\x80" + "\0" * 8 + "\x01\0\0",
        "a space first": " 0000200000\0", "digits behind the end": "200000\0" + "00000", "no octal digit": "00000200008\0",
        "a sign": "+0000200000\0",
    }
    for name, field in fields.items():
        yield (f"size field with {name}: no header", [header(0), header(field), noise(53, 512), header(LARGE),
                                                      noise(54, LARGE)])
    for name, field in {"spaces": "200000      ", "both": "00200000 \0 \0", "nothing": "000000200000"}.items():
        yield f"size field that ends with {name}", [header(field), noise(55, LARGE), header(0)]
    yield "a header in the data of a member is none", [
        header(1024), header(LARGE), noise(56, 512), noise(57, 40000)]
    yield "a record that is no header is passed, and the next one seen", [
        header(0), noise(58, 512), header(LARGE), noise(59, 70000)]
    yield "a header that is not whole, at the end", [header(0), header(LARGE)], 1023
    low, high = THRESHOLD[512] - 1, THRESHOLD[512]
    for name, crc in {"below": low, "at": high}.items():
        yield (f"granule {name} the threshold of tars at MIN",
               [header(40960), *plain(60, 512, 30), *forged(61, 512, crc), *plain(62, 512, 40)])
    yield "MAX in a tar", [header(0), *plain(63, 512, 600)]
    yield ("a block of zeros after a cut inside a block is none",
           [header(40960), *plain(60, 512, 33), *forged(61, 512, 0), same(0, 4096), *plain(62, 512, 8)])


def cases():
    for name, parts, *length in [*disks(), *tars()]:
        made = content(parts)[:length[0] if length else None]
        encoded, chunks = object_list(made)
        case = {"name": name, "parts": parts, "length": len(made), "object": object_id(encoded).hex()}
        yield case | {"chunks": [[offset, size, chunk.hex()] for offset, size, chunk in chunks]}
