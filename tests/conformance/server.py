"""A preview in a process of its own."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ADDRESSES = re.compile(r"(http://[^/\s]+)/v1/.*gRPC (?:at )?(\S+)", re.DOTALL)
LAST_LINE = "stop with Ctrl-C"  # of what it says once it serves


@dataclass(frozen=True)
class Server:
    """Where it listens, what it said of that, and its process."""

    rest: str
    grpc: str
    lines: list[str]
    process: subprocess.Popen[str]


@contextmanager
def preview(directory: Path, *options: str) -> Iterator[Server]:
    """Serve a directory until the block ends; then the server must end well."""
    command = [sys.executable, "-m", "keras_googlenet.cli", "serve", str(directory)]
    ports = ["--rest-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen([*command, *ports, *options], stdout=subprocess.PIPE, text=True)
    try:
        lines: list[str] = []
        while not lines or LAST_LINE not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], f"the preview ended: {lines}"
        found = ADDRESSES.search("".join(lines))
        assert found, lines
        yield Server(found[1], found[2], lines, process)
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()
