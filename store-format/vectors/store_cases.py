"""Small stores, whole and broken, and what a reader finds in them."""

import json
import struct

from chunking import blake3
from chunking_cases import content, noise
from writer import FORMAT, Record, action, blob, chunk, head, index, journal, name_of, of_list, pack, thing, zstd

NOISE = content([noise(1, 700)])
TEXT = (b"A line of text that can be compressed, number %d.\n" * 100)[:4096]
NUMBER = 0x0123456789ABCDEF
JOURNAL = f"journals/{NUMBER:016x}"
KEY = blake3(b"an action")
OTHER_KEY = blake3(b"another action")


class Base:
    """A store with a bit of everything, which is fine as it is; a case changes something before it is built."""

    def __init__(self, about):
        self.about, self.files, self.links = about, {}, {}
        self.format = json.dumps(FORMAT, separators=(",", ":")).encode() + b"\n"
        self.noise, self.hole, self.both = NOISE, bytes(4096) + TEXT + bytes(8192), TEXT + bytes(4096) + NOISE
        self.blob, self.long_blob, self.empty = b"a blob", b"blob " * 500, b""
        self.zeros = bytes(16384)
        self.data = [chunk(NOISE), chunk(TEXT, payload=zstd(TEXT))]
        lists = {name: thing(getattr(self, name))[0] for name in ("noise", "hole", "both")}
        blobs = {name: blob(getattr(self, name)) for name in ("blob", "empty")}
        blobs |= {name: blob(getattr(self, name), payload=zstd(getattr(self, name))) for name in ("long_blob", "zeros")}
        self.records = lists | blobs
        hole, small = self.records["hole"], self.records["blob"]
        older = action(KEY, 1000, [(b"layer", hole, 16384)])
        newer = action(KEY, 2000, [(b"config", small, 6), (b"layer", hole, 16384)])
        self.catalog = [*lists.values(), self.records["long_blob"], self.records["empty"], older]
        self.journal, self.tail = [small, self.records["zeros"], newer], b""
        self.actions = {KEY: (2000, [("config", "blob"), ("layer", "hole")])}
        self.no_result, self.lost, self.unreadable, self.damaged = [], [], [], []
        self.names = {"tags": {"latest": ["blob"]}, "roots": {"machine-1": ["both", "hole"], "none": []}}
        self.refused = False

    def id(self, name):
        return self.records[name].key.hex()

    def lose(self, *names):
        """Objects have no sound record, so that what needs them is gone too."""
        self.lost += names
        for key, (_, outputs) in list(self.actions.items()):
            if any(name in names for _, name in outputs):
                del self.actions[key]
                self.no_result.append(key)
        return self

    def pack(self, made, damaged=False, name=None):
        """Adds a pack; gives its path."""
        path = f"packs/{name or name_of(made)}"
        self.files[path] = made
        if damaged:
            self.damaged.append(path)
        return path

    def build(self):
        """The files that the case has not made itself."""
        if self.data:
            self.pack(pack(1, self.data))
        if self.catalog:
            self.pack(pack(2, self.catalog, 77))
        if self.journal:
            self.files[JOURNAL] = journal(NUMBER, self.journal, self.tail)
        for directory, names in self.names.items():
            for name, things in names.items():
                self.files[f"{directory}/{name}"] = b"".join(self.id(thing).encode() + b"\n" for thing in things)
        self.files["format.json"] = self.format
        return self

    def expected(self):
        if self.refused:
            return {"about": self.about, "refused": True}

        def size(name):
            return len(getattr(self, name))
        there = {name: record for name, record in self.records.items() if name not in self.lost}
        return {
            "about": self.about, "refused": False,
            "objects": sorted(({"object": record.key.hex(), "size": size(name),
                                "content": None if name in self.unreadable else blake3(getattr(self, name)).hex()}
                               for name, record in there.items()), key=lambda entry: entry["object"]),
            "lost": sorted(self.id(name) for name in self.lost),
            "actions": sorted(({"action": key.hex(), "time": time,
                                "outputs": {o: {"object": self.id(name), "size": size(name)} for o, name in outputs}}
                               for key, (time, outputs) in self.actions.items()), key=lambda entry: entry["action"]),
            "no_result": sorted(key.hex() for key in self.no_result),
            "tags": [{"tag": tag, "objects": [self.id(n) for n in names]} for tag, names in sorted(self.names["tags"].items())],
            "roots": [{"root": r, "objects": [self.id(n) for n in names]} for r, names in sorted(self.names["roots"].items())],
            "damaged": sorted(self.damaged),
        }


def whole():
    yield "plain", Base("two packs, a journal, a tag, two roots, two results for one key; holes, zstd, blobs").build()

    s = Base("the journal ends with half of a record")
    s.tail = blob(b"torn " * 20).bytes[:100]
    yield "torn-journal", s.build()

    s = Base("the journal ends with a record whose checksum is wrong, as if its bytes had come in another order")
    s.tail = blob(b"torn " * 20, crc=5).bytes
    yield "torn-journal-checksum", s.build()

    s = Base("a journal is shorter than its header, another has nothing but the header")
    s.files["journals/00000000000000aa"] = head(2, 0xAA)[:20]
    s.files["journals/00000000000000ab"] = head(2, 0xAB)
    yield "short-journals", s.build()

    s = Base("a journal was being sealed: it has table and trailer, and its name still").build()
    made = pack(2, s.journal, NUMBER)
    s.files[JOURNAL] = made
    yield "half-sealed-journal", s

    s = Base("an index of both packs, and of one that is gone").build()
    packs = {path[6:]: made for path, made in s.files.items() if path.startswith("packs/")}
    gone = pack(2, [blob(b"gone")])
    s.files["index/0000000000000001"] = index(packs | {name_of(gone): gone})
    yield "index", s

    s = Base("of two results for a key in one journal the last counts, whatever its time; of two in two files the one with the greater time")
    s.journal.append(action(KEY, 1500, [(b"config", s.records["blob"], 6)]))
    s.catalog.append(action(OTHER_KEY, 3000, [(b"x", s.records["hole"], 16384)]))
    s.journal.append(action(OTHER_KEY, 2999, []))
    s.actions = {KEY: (1500, [("config", "blob")]), OTHER_KEY: (3000, [("x", "hole")])}
    yield "results", s.build()

    s = Base("a time in the far future, and a result with no outputs")
    s.journal += [action(KEY, 2**64 - 1, [(b"layer", s.records["hole"], 16384)]), action(OTHER_KEY, 0, [])]
    s.actions = {KEY: (2**64 - 1, [("layer", "hole")]), OTHER_KEY: (0, [])}
    yield "result-times", s.build()

    s = Base("the newest result names an object that is not there: then there is no result")
    s.journal.append(action(KEY, 3000, [(b"layer", blob(b"not there"), 9)]))
    s.journal.append(action(OTHER_KEY, 3000, [(b"layer", s.records["hole"], 16385)]))
    s.actions, s.no_result = {}, [KEY, OTHER_KEY]
    yield "results-without-objects", s.build()

    s = Base("names that are no names of this format, and things that are no files, are ignored")
    foreign = pack(2, [blob(b"foreign")])
    made = journal(0xABCDEFABCDEFABCD, [blob(b"foreign too")])
    s.records |= {"foreign": blob(b"foreign"), "foreign_too": blob(b"foreign too")}
    s.files |= {f"packs/{name_of(foreign).upper()}": foreign, f"packs/{name_of(foreign)}.old": foreign, "packs/README": b"?",
                "journals/ABCDEFABCDEFABCD": made, "journals/1": made, "index/README": b"?", "index/a": b"?", "journals/+123456789abcdef": made,
                "tags/.hidden": b"?", "tags/-x": b"?", "tags/a b": b"?", "tags/directory/x": b"?", "new/x": b"?",
                "roots/.hidden": b"?", "roots/" + "x" * 129: b"?"}
    yield "foreign-names", s.lose("foreign", "foreign_too").build()

    s = Base("the file of the version and nothing else")
    s.data, s.catalog, s.journal, s.records, s.actions, s.names = [], [], [], {}, {}, {"tags": {}, "roots": {}}
    yield "empty", s.build()

    s = Base("lists that are valid, but not as the content would be cut; and a record that is a list and a blob")
    text, part = chunk(TEXT), chunk(TEXT[:1000])
    for name, parts in {"parts": [(96, part), (0, text), (0, part)], "zero_chunk": [(0, chunk(bytes(4096)))]}.items():
        encoded, made = b"", b""
        for hole, piece in parts:
            encoded += struct.pack("<QI", hole, len(piece.payload)) + piece.key
            made += bytes(hole) + piece.payload
        setattr(s, name, made + bytes(100))
        s.records[name] = of_list(struct.pack("<Q", len(made) + 100) + encoded)
    s.data += [part, chunk(bytes(4096))]
    s.catalog += [s.records["parts"], s.records["zero_chunk"], thing(s.long_blob)[0]]
    s.data += thing(s.long_blob)[1]
    yield "other-lists", s.build()

    s = Base("a damaged copy of each of some records, and sound ones in another pack")
    bad = [Record(r.kind, r.key, r.payload, crc=1) for r in (chunk(NOISE), thing(s.both)[0], blob(s.blob))]
    s.pack(pack(2, bad + [action(KEY, 9999, [], crc=1)]), damaged=True)
    yield "copies", s.build()

    s = Base("a feature in \"compatible\" and members that nobody knows")
    s.format = json.dumps(FORMAT | {"compatible": ["later"], "x": {}}).encode()
    yield "compatible-feature", s.build()

    s = Base("only version and format")
    s.format = b'{"format":"vmfab-store","version":1}'
    yield "short-format", s.build()

    s = Base("a feature in \"read_only_compatible\": reading goes on")
    s.format = json.dumps(FORMAT | {"read_only_compatible": ["later"]}).encode()
    yield "read-only-feature", s.build()
