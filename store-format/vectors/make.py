#!/usr/bin/python3
"""Makes the test vectors in v1/ anew, with nothing of vmfab: `make.py`. What it makes is checked in."""

import json
import shutil
from pathlib import Path

import chunking_cases
from broken_cases import broken
from store_cases import whole

HERE = Path(__file__).parent / "v1"


def chunking():
    lines = [json.dumps(case, separators=(",", ":")) for case in chunking_cases.cases()]
    (HERE / "chunking.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


def stores():
    shutil.rmtree(HERE / "stores", ignore_errors=True)
    for name, case in [*whole(), *broken()]:
        root = HERE / "stores" / name
        for path, made in case.files.items():
            (root / "store" / path).parent.mkdir(parents=True, exist_ok=True)
            (root / "store" / path).write_bytes(made)
        for path, target in case.links.items():
            (root / "store" / path).parent.mkdir(parents=True, exist_ok=True)
            (root / "store" / path).symlink_to(target)
        (root / "expected.json").write_text(json.dumps(case.expected(), indent=1) + "\n")


if __name__ == "__main__":
    chunking()
    stores()
