"""The Prefect API: the user's own server where one is configured, else a temporary one that dies with this process.

Prefect can start a temporary server by itself, but a killed run leaves that one behind.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from stages.process import die_with_parent

START_SECONDS = 90.0


class ServerError(OSError):
    """The temporary Prefect server did not come up."""


@contextmanager
def temporary_server(log: Path) -> Iterator[str]:
    """Starts a Prefect API server on a free loopback port and yields the address of its API."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT_SERVER_ANALYTICS_ENABLED": "0"}
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app",
               "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]  # fmt: skip
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as lines:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=lines, stderr=subprocess.STDOUT, env=environment,
            # Killed, as it may take long to stop by itself, and its database survives that.
            preexec_fn=partial(die_with_parent, signal.SIGKILL, expected_parent=os.getpid()),
            process_group=0,  # Ctrl-C is for the run, which still reports to the server while it ends
        )  # fmt: skip
    try:
        _wait_until_healthy(server, url, log)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def flush_logs() -> None:
    """Hands over the log lines that Prefect still holds, while there is a server to take them."""
    for handler in logging.getLogger("prefect.flow_runs").handlers:
        handler.flush()


def _wait_until_healthy(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerError(
                f"the temporary Prefect server ended with status {server.returncode}; {log} says why. If its database "
                "was made by a newer Prefect, `prefect server database reset -y` makes a new one."
            )
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise ServerError(f"the temporary Prefect server did not answer within {START_SECONDS:.0f} s; {log} says why.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
