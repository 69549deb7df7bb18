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
    """Where it listens, and its process."""

    rest: str
    grpc: str
    process: int


@contextmanager
def preview(directory: Path, *options: str) -> Iterator[Server]:
    """Serve a directory until the block ends; then the server must end well."""
    command = [sys.executable, "-m", "keras_googlenet.cli", "serve", str(directory)]
    ports = ["--rest-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen([*command, *ports, *options], stdout=subprocess.PIPE, text=True)
    try:
        said = ""
        while LAST_LINE not in said:
            line = process.stdout.readline()
            assert line, f"the preview ended: {said}"
            said += line
        found = ADDRESSES.search(said)
        assert found, said
        yield Server(found[1], found[2], process.pid)
    finally:
        process.terminate()
        assert process.wait(60) == 0
