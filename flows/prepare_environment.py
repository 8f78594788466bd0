"""Prefect's settings for the command line, set before Prefect is imported; what the user set stays."""

from __future__ import annotations

import os


def prepare_environment() -> None:
    """A database of this project's own, no telemetry, and a console that belongs to our progress bars.

    `[tool.prefect]` in pyproject.toml says the same to Prefect's own commands, but only where that file is.
    """
    from flows.prepare import store_root

    home = store_root() / ".prefect"
    home.mkdir(parents=True, exist_ok=True)  # Prefect makes the last folder of the path alone
    defaults = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
