#!/usr/bin/env python3
"""Records the terminal session of README.md and writes it as an animated SVG.

Usage: record.py VMFAB

Every command runs for real, in a terminal of its own, with an empty home. The picture plays five
times as fast; the times that vmfab prints are those of the run. The last frame stays, and viewers
without animation show it at once.

Needs python3-pyte, and what `vmfab doctor` names.
"""

import fcntl
import os
import pty
import pathlib
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from xml.sax.saxutils import escape

import pyte

HERE = pathlib.Path(__file__).parent
COMMANDS = [
    "vmfab boot web.kdl",
    "curl http://127.0.0.1:8080",
    "vmfab ssh web -- systemctl is-active nginx",
    "vmfab build web.kdl",
]
COLUMNS, ROWS = 92, 25
# Seconds between two frames of a command, how much faster they play, and seconds before a command.
FRAME, SPEED, PAUSE = 2.0, 5, 1.2

CHARACTER, LINE, FONT, MARGIN = 8.0, 18, 13, 14
COLORS = {
    "black": "#6e7681", "red": "#ff7b72", "green": "#7ee787", "brown": "#e3b341",
    "blue": "#79c0ff", "magenta": "#d2a8ff", "cyan": "#76e3ea", "white": "#f0f6fc",
}


class Recording:
    """What the terminal shows, and when: a list of (seconds, rows)."""

    def __init__(self):
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.frames = []
        self.clock = 0.0

    def frame(self, after):
        """Appends the screen as it is, `after` seconds after the frame before."""
        rows = [self.row(number) for number in range(ROWS)]
        if not self.frames or self.frames[-1][1] != rows:
            self.clock += after / SPEED
            self.frames.append((self.clock, rows))
            return True
        return False

    def row(self, number):
        """The runs of equal style in a row: (column, text, colour, bold)."""
        runs = []
        for column in range(COLUMNS):
            cell = self.screen.buffer[number][column]
            style = (cell.fg, cell.bold)
            if runs and runs[-1][2:] == style:
                runs[-1] = (runs[-1][0], runs[-1][1] + cell.data, *style)
            else:
                runs.append((column, cell.data, *style))
        # Viewers drop spaces at the ends of a text: places count, not spaces.
        return tuple(
            (column + len(text) - len(text.lstrip()), text.strip(), *style)
            for column, text, *style in runs
            if text.strip()
        )

    def run(self, command, environment, directory):
        """Shows a command and runs it in a terminal."""
        self.stream.feed(f"\x1b[32m$\x1b[0m \x1b[1m{command}\x1b[0m\r\n".encode())
        self.clock += PAUSE if self.frames else 0
        self.frame(0)
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(directory)
            os.execvpe("bash", ["bash", "-c", command], environment)
        size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
        shown = time.monotonic()
        while True:
            readable, _, _ = select.select([terminal], [], [], FRAME)
            if readable:
                try:
                    data = os.read(terminal, 65536)
                except OSError:
                    break
                if not data:
                    break
                self.stream.feed(data)
            now = time.monotonic()
            if now - shown >= FRAME and self.frame(now - shown):
                shown = now
        self.frame(time.monotonic() - shown)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            sys.exit(f"failed: {command}\n" + "\n".join(self.screen.display))

    def svg(self):
        """The recording as one document: each text has the time in which it is seen."""
        used = 1 + max(n for n, row in enumerate(self.frames[-1][1]) if row)
        width = int(COLUMNS * CHARACTER + 2 * MARGIN)
        height = used * LINE + 2 * MARGIN
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{escape('; '.join(COMMANDS))}</title>",
            "<style>text{font:%dpx ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;"
            "fill:#c9d1d9;white-space:pre}.b{font-weight:bold}%s</style>"
            % (FONT, "".join(f".{n}{{fill:{c}}}" for n, c in COLORS.items())),
            f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        ]
        for number in range(used):
            for begin, end, row in self.spans(number):
                out.append(self.text(number, row, begin, end))
        out.append("</svg>\n")
        return "\n".join(out)

    def spans(self, number):
        """The contents of a row, with when each begins and ends; the last one has no end."""
        spans = []
        for at, rows in self.frames:
            if not spans or spans[-1][2] != rows[number]:
                if spans:
                    spans[-1][1] = at
                spans.append([at, None, rows[number]])
        return [span for span in spans if span[2]]

    def text(self, number, row, begin, end):
        y = MARGIN + number * LINE + FONT
        parts = []
        for column, text, color, bold in row:
            names = " ".join(n for n in ("b" if bold else "", color if color in COLORS else "") if n)
            style = f' class="{names}"' if names else ""
            x = f"{MARGIN + column * CHARACTER:g}"
            length = f"{len(text) * CHARACTER:g}"
            parts.append(f'<tspan x="{x}" textLength="{length}"{style}>{escape(text)}</tspan>')
        if end is None:
            hidden = f'<set attributeName="visibility" to="hidden" end="{begin:.1f}s"/>'
            return f'<text y="{y}">{"".join(parts)}{hidden if begin else ""}</text>'
        shown = f'<set attributeName="visibility" to="visible" begin="{begin:.1f}s" end="{end:.1f}s"/>'
        return f'<text y="{y}" visibility="hidden">{"".join(parts)}{shown}</text>'


def main():
    vmfab = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="vmfab-picture-") as directory:
        directory = pathlib.Path(directory)
        home = directory / "home"
        shutil.copy(HERE / "web.kdl", directory)
        environment = {
            "PATH": f"{vmfab.parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "VMFAB_HOME": str(home),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
        }

        def quietly(*words):
            subprocess.run([vmfab, "--quiet", *words], env=environment, cwd=directory, check=True)

        # The first boot of a home finds out whether KVM works. Only that is kept.
        quietly("boot", "web.kdl", "--rm")
        quietly("rm", "--force", "web")
        for kept in home.iterdir():
            if kept.name != "cache":
                shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
        for kept in (home / "cache").iterdir():
            if kept.name != "probes":
                shutil.rmtree(kept)
        recording = Recording()
        try:
            for command in COMMANDS:
                recording.run(command, environment, directory)
        finally:
            quietly("rm", "--force", "web")
        (HERE / "web.svg").write_text(recording.svg())


if __name__ == "__main__":
    main()
