#!/usr/bin/python3
"""Runs reader.py on every store of the vectors, and prints what is not as expected.json says."""

import functools
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import chunking  # noqa: E402
import reader  # noqa: E402

# The stores are much alike, and b3sum is another program each time.
reader.blake3 = chunking.blake3 = blake3 = functools.cache(chunking.blake3)


def listing(path):
    """What the reader lists, and the damage it found by that."""
    store = reader.Store(path)
    lines = list(store.list())
    return lines, store.damage


def content(path, key):
    """The hash of an object's content, or None; and the errors."""
    store = reader.Store(path)
    try:
        return blake3(b"".join(store.content(bytes.fromhex(key)))).hex(), store.damage
    except reader.Damage as error:
        return None, [str(error)]


def differences(path, expected):
    try:
        lines, errors = listing(path)
    except reader.Damage as error:
        if not expected["refused"]:
            yield f"refused: {error}"
        return
    if expected["refused"]:
        yield "not refused"
        return
    listed = [{"object": entry["object"], "size": entry["size"]} for entry in expected["objects"]]
    listed += expected["actions"] + expected["tags"] + expected["roots"]
    for line in lines + listed:
        if (line in lines) != (line in listed):
            yield f"{'listed' if line in lines else 'not listed'}: {line}"
    if bool(errors) and not expected["damaged"]:
        yield f"damage: {errors}"
    for entry in expected["objects"] + [{"object": key, "content": None} for key in expected["lost"]]:
        found, more = content(path, entry["object"])
        errors += more
        if found != entry["content"]:
            yield f"content of {entry['object']}: {found}, {more}"
    for name in expected["damaged"]:
        if not any(str(path / name) in error for error in errors):
            yield f"{name} is not named in {errors}"


def main():
    vectors = sorted((HERE / "v1/stores").iterdir())
    wrong = [f"{vector.name}: {difference}" for vector in vectors
             for difference in differences(vector / "store", json.loads((vector / "expected.json").read_text()))]
    print("\n".join(wrong) or f"{len(vectors)} stores are as expected")
    return 1 if wrong or not vectors else 0


if __name__ == "__main__":
    sys.exit(main())
