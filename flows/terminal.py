"""What a run shows in the terminal: one line a step, a bar while it works, nothing else."""

from __future__ import annotations

import threading
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

console = Console(highlight=False)
_NAME_WIDTH = 19


class Terminal:
    """Bars where there is a terminal; plain lines where the output goes to a file or to a log."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._bars: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Terminal:
        if console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, name: str) -> None:
        if not console.is_terminal:
            console.print(f"  {name:<{_NAME_WIDTH}} ...")

    def progress(self, name: str, done: int, total: int, unit: str, figures: dict[str, Any]) -> None:
        shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
        with self._lock:
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(f"{name:<{_NAME_WIDTH}}", total=total, unit=unit, figures="")
            self._progress.update(self._bars[name], completed=done, total=total, unit=unit, figures=shown)

    def say(self, text: str, level: str = "INFO") -> None:
        style = {"WARNING": "yellow", "ERROR": "red"}.get(level, "dim")
        console.print(f"    [{style}]{escape(text)}[/]", soft_wrap=True)

    def end(self, name: str, outcome: str, detail: str) -> None:
        with self._lock:
            if name in self._bars:
                self._progress.remove_task(self._bars.pop(name))
        style = {"made": "green", "cached": "cyan", "failed": "red"}.get(outcome, "yellow")
        console.print(f"  {name:<{_NAME_WIDTH}} [{style}]{outcome:<7}[/] [dim]{escape(detail)}[/]", soft_wrap=True)


# The bars of this process: there is one terminal.
terminal = Terminal()
