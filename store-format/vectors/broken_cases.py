"""Stores with one defect each, by its name, and what can be read all the same."""

import json
import struct

from chunking import object_id, object_list
from store_cases import JOURNAL, NOISE, NUMBER, OTHER_KEY, TEXT, Base
from writer import (ACTION, BLOB, CHUNK, FORMAT, OBJECT, Record, action, blob, chunk, head, index, journal, name_of, of_list, pack,
                    thing, zstd)


def flipped(made, at, bit=4):
    return made[:at] + bytes([made[at] ^ bit]) + made[at + 1:]


def data(name, about, unreadable, change):
    """The data pack is `change`d; its chunks are not to be had."""
    s = Base(about)
    s.pack(change(pack(1, s.data)), damaged=True)
    s.data, s.unreadable = [], unreadable
    return name, s.build()


def packs():
    every = ["noise", "hole", "both"]
    of_noise = ["noise", "both"]
    yield data("truncated-pack", "the end of a pack is missing", every, lambda made: made[:-100])
    yield data("truncated-pack-to-nothing", "a pack is empty", every, lambda made: b"")
    yield data("flipped-bit-in-chunk", "a bit of a chunk is wrong", of_noise, lambda made: flipped(made, 32 + 48 + 300))
    yield data("flipped-bit-in-record-header", "a bit of a record's key is wrong", of_noise, lambda made: flipped(made, 32 + 20))
    yield data("flipped-bit-in-table", "a bit of a table is wrong", every, lambda made: flipped(made, len(made) - 60))
    yield data("table-checksum", "the checksum of a table is wrong", every, lambda made: flipped(made, len(made) - 32))
    yield data("pack-magic", "a pack begins otherwise", every, lambda made: flipped(made, 0))
    yield data("pack-of-newer-version", "a pack of version 2", every, lambda made: head(1, 0, 2) + made[32:])
    yield data("pack-of-unknown-role", "a pack of role 3", every, lambda made: head(3) + made[32:])
    yield data("pack-with-reserved-bytes", "a reserved field of a pack's header is 1", every, lambda made: head(1, 0, 1, 1) + made[32:])
    for name, about, offset in [
        ("table-offset-in-header", "the table begins in the header", 8),
        ("table-offset-behind-end", "the table begins behind the end", 2**40),
    ]:
        yield data(name, about, every, lambda made, offset=offset: made[:-24] + struct.pack("<Q", offset) + made[-16:])
    yield data("table-count", "the table has more entries than the file has room for", every,
               lambda made: made[:-28] + struct.pack("<I", 2**32 - 1) + made[-24:])

    yield data("table-offset-overflow", "offset and length of the table are too much for 64 bits, and the rest of them is right", every,
               lambda made: made[:-28] + struct.pack("<IQ", 2**32 - 1, 2**64 + len(made) - 48 * (2**32 - 1) - 32) + made[-16:])

    s = Base("two packs have each other's name: nothing else is wrong with them")
    one, two = pack(1, s.data), pack(2, s.catalog, 77)
    s.files = {f"packs/{name_of(one)}": two, f"packs/{name_of(two)}": one}
    s.data = s.catalog = []
    yield "swapped-packs", s.build()

    s = Base("half of the catalog pack is missing")
    s.pack(pack(2, s.catalog, 77)[:400], damaged=True)
    s.catalog = []
    yield "truncated-catalog", s.lose("noise", "hole", "both", "long_blob", "empty").build()

    s = Base("a pack is a link to a file elsewhere in the store")
    made = pack(1, s.data)
    s.files["elsewhere"] = made
    s.links[f"packs/{name_of(made)}"] = "../elsewhere"
    s.data, s.unreadable = [], every
    yield "symlinked-pack", s.build()


def entries():
    key = chunk(NOISE).key, CHUNK

    def changed(name, about, change):
        s = Base(about)
        s.pack(pack(1, s.data, entries=lambda table: table | {key: change(table[key])}), damaged=True)
        s.data, s.unreadable = [], ["noise", "both"]
        return name, s.build()

    for name, about, offset in [
        ("entry-offset-overflow", "a table says that a record begins behind the end", 2**32 - 16),
        ("entry-offset-in-header", "a table says that a record begins in the header of the file", 0),
        ("entry-offset-of-another", "a table says that a record is where another one is", 32 + 748),
    ]:
        yield changed(name, about, lambda row, offset=offset: row[:12] + struct.pack("<I", offset))
    yield changed("entry-stored-length", "a table gives a record another length, which reaches behind the records",
                  lambda row: row[:4] + struct.pack("<II", 200000, 200000) + row[12:])
    yield changed("entry-content-length", "a table gives a chunk more than may be taken", lambda row: row[:8] + b"\xff" * 4 + row[12:])
    yield changed("entry-encoding", "a table gives a record an unknown encoding", lambda row: row[:1] + b"\7" + row[2:])


def chunks():
    def other(name, about, record, piece=NOISE, whole=True):
        """A chunk's record is another one; an object of that chunk cannot be read."""
        s = Base(about)
        s.records["odd"] = of_list(struct.pack("<QQI", len(piece), 0, len(piece)) + record.key)
        s.odd = piece
        s.catalog.append(s.records["odd"])
        s.unreadable = ["odd"]
        if piece == NOISE:
            s.data, s.unreadable = s.data[1:], ["odd", "noise", "both"]
            del s.records["odd"], s.catalog[-1]
        s.pack(pack(1, [record]), damaged=whole)
        return name, s.build()

    yield other("chunk-with-wrong-content", "a chunk with a right checksum is not what its key says",
                Record(CHUNK, chunk(NOISE).key, NOISE[:-1] + b"?"))
    many = bytes(16 << 20)
    zeros = bytes(262144)
    yield other("compression-bomb", "a chunk of 262144 bytes decompresses to 16 MiB",
                Record(CHUNK, chunk(zeros).key, zeros, payload=zstd(many)), zeros)
    text = TEXT[:3000]
    yield other("short-frame", "a chunk decompresses to less than it should",
                Record(CHUNK, chunk(text).key, text, payload=zstd(text[:-1])), text)
    yield other("cut-frame", "the end of a frame is missing",
                Record(CHUNK, chunk(text).key, text, payload=zstd(text)[:-3]), text)
    yield other("two-frames", "two frames in one payload",
                Record(CHUNK, chunk(text).key, text, payload=zstd(text[:1500]) + zstd(text[1500:])), text)
    yield other("bytes-behind-frame", "bytes follow the frame of a payload",
                Record(CHUNK, chunk(text).key, text, payload=zstd(text) + b"?"), text)
    yield other("no-frame", "a payload is no frame",
                Record(CHUNK, chunk(text).key, text, payload=text[:2000]), text)
    long = bytes(262145)
    yield other("chunk-too-long", "a chunk of 262145 bytes", Record(CHUNK, chunk(long).key, long, payload=zstd(long)), zeros, False)
    yield other("empty-chunk", "a chunk of no bytes", Record(CHUNK, chunk(b"").key, b""), b"?", False)


def lists():
    def bad(name, about, encoded, **lies):
        s = Base(about)
        s.records["odd"] = of_list(encoded, **lies)
        s.pack(pack(2, [s.records["odd"]]), damaged=True)
        return name, s.lose("odd").build()

    key, other = chunk(NOISE).key, chunk(TEXT).key

    def entry(hole, length, key=key):
        return struct.pack("<QI", hole, length) + key

    def size(number):
        return struct.pack("<Q", number)

    yield bad("list-overflow", "holes and lengths of a list are too much for 64 bits",
              size(2**64 - 1) + entry(2**64 - 700, 700) + entry(2**64 - 100, 700))
    yield bad("list-behind-size", "a chunk reaches behind the size of its object", size(699) + entry(0, 700))
    yield bad("list-hole-behind-size", "a hole reaches behind the size of its object", size(1000) + entry(301, 700))
    yield bad("list-with-broken-entry", "a list ends in the middle of an entry", size(700) + entry(0, 700) + b"?")
    yield bad("list-too-short", "a list is shorter than a size", b"1234567")
    yield bad("chunk-length-zero", "a list has a chunk of no bytes", size(700) + entry(0, 0) + entry(0, 700))
    yield bad("chunk-length-too-large", "a list has a chunk of 262145 bytes", size(2**20) + entry(0, 262145))
    encoded = object_list(NOISE)[0]
    yield bad("list-compressed", "the record of a list is compressed", encoded + entry(0, 4096, other), payload=zstd(encoded)[:40])

    s = Base("a list gives a chunk another length than it has")
    s.odd = bytes(600)
    s.records["odd"] = of_list(size(600) + entry(0, 600))
    s.catalog.append(s.records["odd"])
    s.unreadable = ["odd"]
    yield "list-with-other-length", s.build()

    s = Base("a list names a chunk that is nowhere")
    s.odd = TEXT + b"?"
    s.records["odd"], _ = thing(s.odd)
    s.catalog.append(s.records["odd"])
    s.unreadable = ["odd"]
    yield "missing-chunk", s.build()

    for kind, name in ((OBJECT, "list-with-wrong-id"), (BLOB, "blob-with-wrong-id")):
        s = Base("a record with a right checksum is not what its key says")
        s.records["odd"] = Record(kind, object_id(b"odd"), encoded)
        s.pack(pack(2, [s.records["odd"]]), damaged=True)
        yield name, s.lose("odd").build()

        s = Base("a record with a right checksum is not what its key says, and another pack has the right one")
        for right in ("both", "long_blob"):
            for number in range(3):
                wrong = [Record(kind, s.records[right].key, encoded), action(bytes([number]) * 32, 1, [])]
                s.actions[bytes([number]) * 32] = (1, [])
                s.pack(pack(2, wrong), damaged=True)
        yield f"{name}-and-a-right-one", s.build()

    s = Base("a blob of 16385 bytes")
    s.records["odd"] = blob(bytes(16385), payload=zstd(bytes(16385)))
    s.pack(pack(2, [s.records["odd"]]), damaged=True)
    yield "blob-too-long", s.lose("odd").build()


def actions():
    hole = Base("").records["hole"]
    result = [(b"a", hole, 16384), (b"b", hole, 16384)]
    good = action(OTHER_KEY, 5, result).payload

    def bad(name, about, record):
        s = Base(about)
        s.pack(pack(2, [record]), damaged=True)
        s.no_result = [OTHER_KEY]
        return name, s.build()

    yield bad("action-with-unsorted-names", "names of outputs are not in order", action(OTHER_KEY, 5, result[::-1]))
    yield bad("action-with-equal-names", "two outputs have one name", action(OTHER_KEY, 5, result[:1] * 2))
    yield bad("action-with-empty-name", "an output has no name", action(OTHER_KEY, 5, [(b"", hole, 16384)]))
    yield bad("action-with-other-text", "a name of an output is not UTF-8", action(OTHER_KEY, 5, [(b"\xff", hole, 16384)]))
    yield bad("action-too-short", "an action result ends too early", Record(ACTION, OTHER_KEY, good[:-1]))
    yield bad("action-too-long", "bytes follow the last output", Record(ACTION, OTHER_KEY, good + b"?"))
    yield bad("action-with-wrong-count", "there are fewer outputs than an action result says",
              Record(ACTION, OTHER_KEY, good[:8] + b"\xff\xff" + good[10:]))


def journals():
    def bad(name, about, lost, change):
        s = Base(about)
        s.files[JOURNAL] = change(s.journal)
        s.damaged.append(JOURNAL)
        older = {key: (1000, [("layer", "hole")]) for key in s.actions}
        s.journal, s.actions = [], older
        return name, s.lose(*["blob", "zeros"][2 - lost:]).build()

    def made(records):
        return journal(NUMBER, records)

    yield bad("journal-damaged-in-the-middle", "a bit of the second record of a journal is wrong: it ends there", 1,
              lambda r: flipped(made(r), 32 + len(r[0].bytes) + 50))
    yield bad("journal-damaged-at-the-start", "a bit of the first record is wrong", 2, lambda r: flipped(made(r), 40))
    yield bad("journal-with-unknown-kind", "a record of kind 9 with a right checksum", 2,
              lambda r: made([Record(9, bytes(32), b"x"), *r]))
    yield bad("journal-with-reserved-bytes", "a reserved field of a record is 1, its checksum is right", 2,
              lambda r: made([blob(b"x", zero=1), *r]))
    yield bad("journal-with-length-overflow", "a record is longer than there can be", 2,
              lambda r: made([blob(b"x", stored=2**32 - 1, length=2**32 - 1), *r]))
    yield bad("journal-damaged-before-an-empty-blob", "the record before the last, which is an empty blob, is damaged", 2,
              lambda r: made([blob(b"x", crc=1), blob(b"")]))
    yield bad("journal-magic", "a journal begins otherwise", 2, lambda r: flipped(made(r), 3))
    yield bad("journal-of-newer-version", "a journal of version 2", 2, lambda r: head(2, NUMBER, 2) + made(r)[32:])

    s = Base("a journal is a link to a file elsewhere in the store")
    s.files["elsewhere"] = made(s.journal)
    s.links[JOURNAL] = "../elsewhere"
    s.journal, s.actions = [], {key: (1000, [("layer", "hole")]) for key in s.actions}
    yield "symlinked-journal", s.lose("blob", "zeros").build()


def formats():
    def bad(name, about, text):
        s = Base(about).build()
        s.format, s.refused = text, True
        if text is None:
            del s.files["format.json"]
        else:
            s.files["format.json"] = text
        return name, s

    def form(**members):
        return json.dumps(FORMAT | members).encode()

    yield bad("newer-version", "version 2, with members of another kind", b'{"format":"vmfab-store","version":2,"incompatible":7}')
    yield bad("version-0", "version 0", b'{"version":0}')
    yield bad("version-as-text", "the version is a text", form(version="1"))
    yield bad("version-with-fraction", "the version is 1.0", b'{"format":"vmfab-store","version":1.0}')
    yield bad("unknown-incompatible", "a feature in \"incompatible\"", form(incompatible=["later"]))
    yield bad("other-format", "the format of something else", form(format="restic"))
    yield bad("format-with-other-list", "\"incompatible\" is no list", form(incompatible="later"))
    yield bad("format-missing", "format.json is missing", None)
    yield bad("format-empty", "format.json is empty", b"")
    yield bad("format-too-large", "format.json is larger than 65536 bytes", form(x="x" * 65536))
    yield bad("format-cut", "format.json ends too early", form()[:-10])
    name, s = bad("symlinked-format", "format.json is a link", None)
    s.files["elsewhere"], s.links["format.json"] = form(), "elsewhere"
    yield name, s


def names():
    s = Base("the file of a tag has a path in it; other tags are fine")
    s.files["tags/evil"] = b"../../../../etc/passwd\n"
    s.damaged.append("tags/evil")
    yield "tag-climbs-out", s.build()
    s = Base("the file of a tag has two ids in it, another is empty")
    s.files["tags/two"], s.files["tags/nothing"] = s.id("blob").encode() + b"\n" + s.id("blob").encode() + b"\n", b""
    s.damaged += ["tags/two", "tags/nothing"]
    yield "tag-of-two", s.build()
    s = Base("a tag is a link to the file of another")
    s.links["tags/link"] = "latest"
    yield "symlinked-tag", s.build()
    s = Base("the file of a root has something else in it")
    s.files["roots/bad"] = s.id("blob").encode() + b"\nall\n"
    s.damaged.append("roots/bad")
    yield "root-that-is-none", s.build()


def indexes():
    def lying(name, about, change):
        s = Base(about).build()
        found = {path[6:]: made for path, made in s.files.items() if path.startswith("packs/")}
        s.files["index/0000000000000001"] = change(found)
        return name, s

    yield lying("index-that-lies", "an index has a wrong place for every record",
                lambda found: index(found, lambda row: row[:44] + struct.pack("<I", struct.unpack("<I", row[44:])[0] + 1)))
    yield lying("index-with-invalid-entries", "an index has entries that cannot be", lambda found: index(found, lambda row: row[:33] + b"\7" + row[34:]))
    yield lying("index-with-wrong-numbers", "an index has entries of packs that it does not name",
                lambda found: index(found)[:-2] + b"\1\0")
    yield lying("index-checksum", "the checksum of an index is wrong", lambda found: flipped(index(found), 24))
    yield lying("index-count-overflow", "an index says that it has more entries than can be",
                lambda found: index(found)[:16] + struct.pack("<Q", 2**64 // 52 + 1) + index(found)[24:])
    yield lying("index-cut", "the end of an index is missing", lambda found: index(found)[:-10])
    yield lying("index-empty", "an index is an empty file", lambda found: b"")


def broken():
    for cases in (packs, entries, chunks, lists, actions, journals, formats, names, indexes):
        yield from cases()
