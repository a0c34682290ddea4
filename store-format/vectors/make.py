#!/usr/bin/python3
"""Makes the test vectors in v1/ anew, with nothing of vmfab: `make.py`. What it makes is checked in."""

import json
import shutil
from pathlib import Path

import chunking_cases

HERE = Path(__file__).parent / "v1"


def chunking():
    lines = [json.dumps(case, separators=(",", ":")) for case in chunking_cases.cases()]
    (HERE / "chunking.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    chunking()
