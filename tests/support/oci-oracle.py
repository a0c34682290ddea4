"""Layers of a container image, and what a tree of them holds: written without a look at the program under test.

oci-oracle.py DIRECTORY BUSYBOX: writes 1.tar, 2.tar, ... there, and prints a line for each file of the tree below /t:
type|mode|user|group|links|size|name|content, the content as a SHA-256, a target or nothing."""

import hashlib
import io
import posixpath
import sys
import tarfile

directory, busybox = sys.argv[1:]


def info(name, kind=tarfile.REGTYPE, mode=0o644, uid=0, gid=0, target="", size=0, pax=None):
    one = tarfile.TarInfo(name)
    one.type, one.mode, one.uid, one.gid, one.linkname, one.size = kind, mode, uid, gid, target, size
    one.mtime = 1_000_000_000
    one.pax_headers = pax or {}
    return one


def folder(name, mode=0o755, **more):
    return info(name, tarfile.DIRTYPE, mode, **more), b""


def file(name, content=b"", mode=0o644, **more):
    return info(name, mode=mode, size=len(content), **more), content


def link(name, target):
    return info(name, tarfile.SYMTYPE, 0o777, target=target), b""


def hard(name, target):
    return info(name, tarfile.LNKTYPE, target=target), b""


def node(name, kind):
    return info(name, kind, 0o600), b""


LAYERS = [
    [
        folder("./"),
        folder("bin"),
        file("bin/busybox", open(busybox, "rb").read(), 0o755),
        link("bin/sh", "busybox"),
        folder("etc"),
        file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
        file("etc/group", b"root:x:0:\n"),
        folder("t"),
        folder("t/usr"),
        folder("t/usr/lib"),
        file("t/usr/lib/a", b"a of the first layer"),
        link("t/lib", "/t/usr/lib"),
        link("t/rel", "usr/lib"),
        link("t/out", "../../../../t/usr"),
        folder("t/old"),
        file("t/old/x"),
        folder("t/old/sub"),
        file("t/old/sub/y"),
        folder("t/half"),
        file("t/half/lower"),
        folder("t/half/deep"),
        file("t/half/deep/lower"),
        file("t/gone", b"gone"),
        folder("t/gone.d"),
        file("t/gone.d/x"),
        folder("t/to-file"),
        file("t/to-file/inner"),
        file("t/to-folder", b"a file"),
        folder("t/again"),
        file("t/again/lower"),
        folder("t/again2"),
        file("t/again2/lower"),
        file("t/setuid", b"s", 0o4755),
        folder("t/sticky", 0o1777),
        folder("t/setgid", 0o2775, gid=7),
        file("t/owned", b"o", 0o640, uid=1234, gid=4321),
        file("t/linked", b"one content"),
        hard("t/linked-too", "t/linked"),
        node("t/pipe", tarfile.FIFOTYPE),
        node("t/null", tarfile.CHRTYPE),
        file("t/" + "n" * 150, b"a long name"),
        file("t/ümlaut", b"", pax={"SCHILY.xattr.user.note": "kept"}),
        file("t/.wh", b"no whiteout"),
    ],
    [
        # The marker after what it must not hide, and before.
        folder("t/old"),
        file("t/old/new", b"before the marker"),
        folder("t/old/sub"),
        file("t/old/sub/new"),
        file("t/old/.wh..wh..opq"),
        file("t/old/late", b"after it"),
        file("t/half/deep/own"),
        file("t/.wh.half"),
        file("t/.wh.gone"),
        file("t/.wh.gone.d"),
        file("t/.wh.never-there"),
        file("t/no/such/folder/.wh.x"),
        file("t/.wh..wh.plnk"),
        file("t/.wh..wh.aufs"),
        file("t/to-file", b"was a folder"),
        folder("t/to-folder", 0o700),
        file("t/to-folder/inner"),
        file("t/.wh.again"),
        folder("t/again"),
        file("t/again/own"),
        folder("t/again2"),
        file("t/again2/own"),
        file("t/.wh.again2"),
        file("t/lib/b", b"through an absolute link"),
        file("t/rel/c", b"through a relative one"),
        file("t/out/d", b"through one that climbs"),
        hard("t/hard", "t/usr/lib/a"),
        hard("t/hard-through", "t/lib/a"),
        file("t/made/without/folders", b"x"),
        file("/t/absolute", b"x"),
        file("./t/dotted", b"x"),
    ],
    [
        folder("t/sticky", 0o755, uid=5),
        file("t/owned", b"newer", 0o600),
        file("t/half/deep/.wh.own"),
        file("t/twice", b"1"),
        file("t/twice", b"2"),
    ],
    [],
]


class Node:
    def __init__(self, entry, content=b""):
        self.type, self.mode = entry.type, entry.mode
        self.uid, self.gid = entry.uid, entry.gid
        self.target, self.content = entry.linkname, content


tree = {"": Node(info("", tarfile.DIRTYPE, 0o755))}


def real(path):
    """The path without links; what is not there is as it is written."""
    parts, done = [part for part in path.split("/") if part not in ("", ".")], []
    while parts:
        part = parts.pop(0)
        if part == "..":
            done = done[:-1]
            continue
        there = tree.get("/".join(done + [part]))
        if there and there.type == tarfile.SYMTYPE:
            if there.target.startswith("/"):
                done = []
            parts = [one for one in there.target.split("/") if one not in ("", ".")] + parts
        else:
            done.append(part)
    return "/".join(done)


def below(path):
    return [name for name in tree if name.startswith(path + "/")]


def remove(path):
    for name in below(path) + [path]:
        tree.pop(name, None)


def lower(path, own):
    """Removes what is there of the layers below."""
    for name in below(path) + [path]:
        if name in tree and not any(one == name or one.startswith(name + "/") for one in own):
            tree.pop(name)


for layer in LAYERS:
    own = set()
    for entry, content in layer:
        name = posixpath.normpath("/" + entry.name)[1:]
        if not name:
            continue
        parent, base = real(posixpath.dirname(name)), posixpath.basename(name)
        path = posixpath.join(parent, base)
        if base == ".wh..wh..opq":
            for one in below(parent):
                lower(one, own)
            continue
        if base.startswith(".wh..wh."):
            continue
        if base.startswith(".wh."):
            lower(posixpath.join(parent, base[4:]), own)
            continue
        above = parent
        while above and above not in tree:
            tree[above] = Node(info("", tarfile.DIRTYPE, 0o755))
            own.add(above)
            above = posixpath.dirname(above)
        there = tree.get(path)
        if there and not (there.type == entry.type == tarfile.DIRTYPE):
            remove(path)
        if entry.type == tarfile.CHRTYPE:
            continue
        if entry.type == tarfile.LNKTYPE:
            target = posixpath.normpath("/" + entry.linkname)[1:]
            target = posixpath.join(real(posixpath.dirname(target)), posixpath.basename(target))
            tree[path] = tree[target]
        else:
            tree[path] = Node(entry, content)
        own.add(path)

for number, layer in enumerate(LAYERS, 1):
    with tarfile.open(f"{directory}/{number}.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for entry, content in layer:
            archive.addfile(entry, io.BytesIO(content))

KINDS = {
    tarfile.REGTYPE: "regular file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.FIFOTYPE: "fifo",
}
for name, one in tree.items():
    if name != "t" and not name.startswith("t/"):
        continue
    kind, content, links, size = KINDS[one.type], "", "-", "-"
    if one.type == tarfile.REGTYPE:
        kind = kind if one.content else "regular empty file"
        content = hashlib.sha256(one.content).hexdigest()
        links = sum(other is one for other in tree.values())
        size = len(one.content)
    if one.type == tarfile.SYMTYPE:
        content = one.target
    print(f"{kind}|{one.mode:o}|{one.uid}|{one.gid}|{links}|{size}|/{name}|{content}")
