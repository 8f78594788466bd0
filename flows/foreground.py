"""`orl run`: the flow in this process, with an API server of its own where the user has none."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from prefect.exceptions import TerminationSignal
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.pipeline import orl_pipeline
from flows.prepare import prepare, store_root
from flows.server import flush_logs, temporary_server
from flows.terminal import console

FAILED, INTERRUPTED = 1, 130


def run_in_foreground(config: str, overrides: list[str], until: str | None, force: list[str] | None, tiny: bool) -> int:
    """Runs the flow. Returns the exit status; what the user did wrong is told before anything starts.

    Raises:
        ValueError, OSError: the request can't be carried out.
    """
    name, settings, plan = prepare(config, overrides, tiny, until, force or ())
    nodes = plan.until(until)
    for stage in force or ():
        plan.select(stage)
    console.print(f"[bold]{name}[/]: {len(nodes)} steps, artifacts in {store_root()}", soft_wrap=True)
    if settings.dataset.format == "demo_photos":
        console.print("Your own photos instead: [bold]orl run demo --images DIR[/] takes any nested folder.")
    with reporting():
        try:
            state = orl_pipeline(config, overrides, until, force, tiny, return_state=True)
        except TerminationSignal:  # Prefect's own, while the flow runs
            return INTERRUPTED
    if state.is_completed():
        return 0
    print(f"error: {state.message}", file=sys.stderr)
    return FAILED


@contextmanager
def reporting() -> Iterator[None]:
    """For flows in this process: the user's API server or a temporary one; SIGTERM ends them like Ctrl-C."""
    # The flow then stops its children, which keep their work.
    signal.signal(signal.SIGTERM, _interrupt)
    with ExitStack() as stack:
        if get_current_settings().api.url is None:
            url = stack.enter_context(temporary_server(store_root() / "logs" / "prefect-server.log"))
            stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        try:
            yield
        finally:
            flush_logs()  # while the server still listens


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
