#!/usr/bin/python3
"""Reads a store, by nothing but the text beside this file. It needs the Debian packages python3-zstandard and b3sum.

    reader.py STORE           lists what the store has, a line of JSON for each thing
    reader.py STORE OBJECT    writes the content of an object

Damage is reported on stderr with the file it is in, and makes the status 1; what is not damaged is still read.
"""

import json
import os
import re
import stat
import struct
import sys

import zstandard

from chunking import blake3, crc32c, object_id, object_list

CHUNK, OBJECT, BLOB, ACTION = 1, 2, 3, 4
LEAST = {CHUNK: 1, OBJECT: 8, BLOB: 0, ACTION: 10}
MOST = {CHUNK: 262144, OBJECT: 2**32 - 1, BLOB: 16384, ACTION: 1048576}
DIGEST = r"[0-9a-f]{64}"
NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"


class Damage(Exception):
    """A file and what is wrong with it."""


def need(condition, path, what):
    if not condition:
        raise Damage(f"{path}: {what}")


def opened(path):
    """A file, unless it is a link; closed when nobody has it any more."""
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0)


def unzstd(frame, length):
    """The content of exactly one frame, which is exactly `length` bytes; never takes memory for more."""
    try:
        content = b""
        with zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(frame) as reader:
            while len(content) <= length and (more := reader.read(length + 1 - len(content))):
                content += more
        if len(content) != length:
            return None
        whole = zstandard.ZstdDecompressor(max_window_size=2**23).decompressobj()
        whole.decompress(frame)
        return content if whole.eof and not whole.unused_data else None
    except zstandard.ZstdError:
        return None


def entries(content):
    """(hole, length, chunk) of a list; None if it is not valid."""
    if len(content) % 44 != 8:
        return None
    found = list(struct.iter_unpack("<QI32s", content[8:]))
    total = sum(hole + length for hole, length, _ in found)
    return found if all(1 <= e[1] <= MOST[CHUNK] for e in found) and total <= size_of(content) else None


def size_of(content):
    return struct.unpack_from("<Q", content)[0]


def result(content):
    """(time, outputs) of an action result; None if it is not valid."""
    time, count = struct.unpack_from("<QH", content)
    outputs, at, before = {}, 10, b""
    for _ in range(count):
        name = content[at + 1:at + 1 + content[at]] if at < len(content) else b""
        at += 1 + len(name)
        if name <= before or at + 40 > len(content) or len(name) != content[at - 1 - len(name)]:
            return None
        try:
            outputs[name.decode()] = {"object": content[at:at + 32].hex(), "size": size_of(content[at + 32:])}
        except UnicodeDecodeError:
            return None
        at, before = at + 40, name
    return (time, outputs) if at == len(content) else None


def name_of(kind, content):
    """The key that a record of this content has."""
    if kind == CHUNK:
        return blake3(content)
    return object_id(content if kind == OBJECT else object_list(content)[0])


class Place:
    """Where a record is, and what its header has to say."""

    def __init__(self, file, path, end, offset, key, kind, encoding, zero, stored, length):
        self.file, self.path, self.end, self.offset, self.key, self.kind = file, path, end, offset, key, kind
        self.encoding, self.stored, self.length = encoding, stored, length
        self.header = struct.pack("<BBHII", kind, encoding, zero, stored, length) + key
        plain = encoding == 0 and stored == length
        packed = encoding == 1 and kind in (CHUNK, BLOB) and stored < length
        self.valid = zero == 0 and kind in LEAST and LEAST[kind] <= length <= MOST[kind] and (plain or packed)

    def read(self):
        """The content, which is what its key says."""
        where = f"{self.path}: record at {self.offset}"
        need(self.valid and self.offset >= 32, where, "header is not valid")
        need(self.offset + 48 + self.stored <= self.end, where, "is outside of the records")
        record = os.pread(self.file.fileno(), 48 + self.stored, self.offset)
        need(crc32c(record[4:]) == struct.unpack_from("<I", record)[0], where, "checksum")
        need(record[4:48] == self.header, where, "is not what the table says")
        content = unzstd(record[48:], self.length) if self.encoding else record[48:]
        need(content is not None, where, "zstd frame is not valid")
        need(self.kind == ACTION or name_of(self.kind, content) == self.key, where, "is not what its key says")
        need(self.kind != OBJECT or entries(content) is not None, where, "list is not valid")
        need(self.kind != ACTION or result(content) is not None, where, "action result is not valid")
        return content


def whole(journal, at, file, path):
    """The record at an offset of a journal; None if it is not whole."""
    if at + 48 > len(journal):
        return None
    crc, kind, encoding, zero, stored, length, key = struct.unpack_from("<IBBHII32s", journal, at)
    place = Place(file, path, len(journal), at, key, kind, encoding, zero, stored, length)
    end = at + 48 + stored
    return place if place.valid and end <= len(journal) and crc32c(journal[at + 4:end]) == crc else None


class Store:
    def __init__(self, path):
        self.path, self.places, self.damage = path, {}, []
        self.check_version()
        for directory in ("packs", "trash"):
            self.each(directory, DIGEST, self.open_pack)
        self.each("journals", "[0-9a-f]{16}", self.open_journal)

    def each(self, directory, names, visit):
        """Calls visit with each regular file whose name is one of its directory's; damage is noted."""
        directory = os.path.join(self.path, directory)
        try:
            found = sorted(os.listdir(directory)) if stat.S_ISDIR(os.lstat(directory).st_mode) else []
        except FileNotFoundError:
            found = []
        for name in found:
            path = os.path.join(directory, name)
            if re.fullmatch(names, name, re.ASCII) and stat.S_ISREG(os.lstat(path).st_mode):
                try:
                    visit(path, name, opened(path))
                except Damage as error:
                    self.damage.append(str(error))

    def check_version(self):
        path = os.path.join(self.path, "format.json")
        try:
            with opened(path) as file:
                text = file.read(65537)
            need(len(text) <= 65536, path, "too large")
            form = json.loads(text.decode())
        except (OSError, ValueError, RecursionError) as error:
            raise Damage(f"{path}: {error}") from None
        need(isinstance(form, dict) and type(form.get("version")) is int, path, "has no version")
        need(form["version"] == 1, path, f"version {form['version']} is not supported")
        need(form.get("format") == "vmfab-store", path, "is not the format of a store")
        for member in ("compatible", "read_only_compatible", "incompatible"):
            features = form.get(member, [])
            names = isinstance(features, list) and all(isinstance(feature, str) for feature in features)
            need(names, path, f"{member} is not a list of names")
            need(member != "incompatible" or not features, path, f"has unknown features: {', '.join(features)}")

    def open_pack(self, path, _, file):
        size = self.check_head(path, file, (1, 2))
        need(64 <= size < 2**32, path, "length")
        crc, count, offset, zero, magic = struct.unpack("<IIQQ8s", os.pread(file.fileno(), 32, size - 32))
        need(magic == b"vmfabend" and zero == 0, path, "trailer")
        need(offset >= 32 and offset + 48 * count + 32 == size, path, "length of the table")
        table = os.pread(file.fileno(), 48 * count, offset)
        need(crc32c(table) == crc, path, "checksum of the table")
        for key, kind, encoding, zero, stored, length, at in struct.iter_unpack("<32sBBHIII", table):
            place = Place(file, path, offset, at, key, kind, encoding, zero, stored, length)
            self.places.setdefault((kind, key), []).append(place)

    def open_journal(self, path, name, file):
        size = os.fstat(file.fileno()).st_size
        if size < 32:
            return
        self.check_head(path, file, (2,), int(name, 16))
        need(size < 2**32, path, "length")
        bytes_, at, found = os.pread(file.fileno(), size, 0), 32, {}
        while place := whole(bytes_, at, file, path):
            found[place.kind, place.key] = place
            at += 48 + place.stored
        for key, place in found.items():
            self.places.setdefault(key, []).append(place)
        need(not any(whole(bytes_, later, file, path) for later in range(at, size)), path, f"is damaged at {at}")

    @staticmethod
    def check_head(path, file, roles, number=None):
        head = os.pread(file.fileno(), 32, 0)
        need(len(head) == 32 and head[:8] == b"vmfabpck", path, "is no file of records")
        version, role, own, zero = struct.unpack("<IIQQ", head[8:])
        need(version == 1, path, f"version {version} is not supported")
        need(role in roles and zero == 0 and number in (None, own), path, "header")
        return os.fstat(file.fileno()).st_size

    def records(self, kind, key):
        """The content of each sound record; notes the damage of others."""
        for place in self.places.get((kind, key), []):
            try:
                yield place.read()
            except Damage as error:
                self.damage.append(str(error))

    def keys(self, *kinds):
        return sorted({key for kind, key in self.places if kind in kinds})

    def size(self, key):
        """The size of an object, after a look at all of its records; None if none is sound."""
        sizes = [size_of(content) for content in self.records(OBJECT, key)]
        sizes += [len(content) for content in self.records(BLOB, key)]
        return sizes[0] if sizes else None

    def content(self, key):
        """Pieces of an object's content; Damage if one cannot be had."""
        for content in self.records(BLOB, key):
            yield content
            return
        text = next(self.records(OBJECT, key), None)
        need(text is not None, self.path, "; ".join(self.damage) or f"has no object {key.hex()}")
        left = size_of(text)
        for hole, length, chunk in entries(text):
            yield from zeros(hole)
            content = next(self.records(CHUNK, chunk), None)
            need(content is not None, self.path, "; ".join(self.damage) or f"has no chunk {chunk.hex()}")
            need(len(content) == length, self.path, f"object {key.hex()} gives chunk {chunk.hex()} another length")
            yield content
            left -= hole + length
        yield from zeros(left)

    def list(self):
        sizes = {}
        for key in self.keys(OBJECT, BLOB):
            if (size := self.size(key)) is not None:
                sizes[key.hex()] = size
                yield {"object": key.hex(), "size": size}
        for key in self.keys(ACTION):
            results = [result(content) for content in self.records(ACTION, key)]
            time, outputs = max(results, key=lambda found: found[0], default=(0, None))
            if outputs is not None and all(sizes.get(o["object"]) == o["size"] for o in outputs.values()):
                yield {"action": key.hex(), "time": time, "outputs": outputs}
        for kind in ("tag", "root"):
            found = []
            self.each(f"{kind}s", NAME, lambda path, name, file: found.append((name, named(path, file, kind))))
            for name, objects in found:
                yield {kind: name, "objects": objects}


def named(path, file, kind):
    """The object ids in a tag or a root."""
    text = file.read().decode("latin-1")
    need(re.fullmatch(f"{DIGEST}\n" if kind == "tag" else f"({DIGEST}\n)*", text), path, "is no list of object ids")
    return text.split()


def zeros(count):
    while count:
        yield bytes(min(count, 2**20))
        count -= min(count, 2**20)


def main(path, *wanted):
    try:
        store = Store(path)
        if wanted:
            need(re.fullmatch(DIGEST, wanted[0]), wanted[0], "is no object id")
            for piece in store.content(bytes.fromhex(wanted[0])):
                sys.stdout.buffer.write(piece)
            return 0
        for line in store.list():
            print(json.dumps(line, separators=(",", ":"), ensure_ascii=False))
    except Damage as error:
        print(error, file=sys.stderr)
        return 1
    for line in dict.fromkeys(store.damage):
        print(line, file=sys.stderr)
    return 1 if store.damage else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
