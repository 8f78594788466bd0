"""What a run shows in the terminal: one line a step, a bar while it works, nothing else."""

from __future__ import annotations

import threading
import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

console = Console(highlight=False)
_NAME_WIDTH = 19
_SECONDS_BETWEEN_LINES = 30.0  # where there is no terminal: seldom enough for a log that is kept


class Pace:
    """How a step gets on: the time that is left, judged by what was done since this object was made."""

    def __init__(self, done: int) -> None:
        self._first, self._started = done, time.monotonic()
        self._spoke = self._started

    def left(self, done: int, total: int) -> str:
        """Such as "3 min left"; nothing before there is something to judge by."""
        if done <= self._first or done >= total:
            return ""
        seconds = (time.monotonic() - self._started) / (done - self._first) * (total - done)
        for unit, length in (("days", 172_800), ("h", 7200), ("min", 120)):
            if seconds >= length:
                return f"{seconds / {'days': 86_400, 'h': 3600, 'min': 60}[unit]:.0f} {unit} left"
        return f"{seconds:.0f} s left"

    def speaks(self, interval: float) -> bool:
        """Whether `interval` seconds have passed since this was last true, or since the start."""
        now = time.monotonic()
        if now - self._spoke < interval:
            return False
        self._spoke = now
        return True


def figures_line(figures: dict[str, Any]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


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
        self._paces: dict[str, Pace] = {}
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
        shown = figures_line(figures)
        with self._lock:
            if not console.is_terminal:
                pace = self._paces.setdefault(name, Pace(done))
                if pace.speaks(_SECONDS_BETWEEN_LINES):
                    share = f"{done}/{total} {unit} ({done / max(total, 1):.0%})"
                    said = (part for part in (share, pace.left(done, total), shown) if part)
                    console.print(f"  {name:<{_NAME_WIDTH}} {'  '.join(said)}", soft_wrap=True)
                return
            if name not in self._bars:  # a resumed step starts where it is: the time left is judged from here
                description = f"{name:<{_NAME_WIDTH}}"
                self._bars[name] = self._progress.add_task(
                    description, total=total, completed=done, unit=unit, figures=shown
                )
            self._progress.update(self._bars[name], completed=done, total=total, unit=unit, figures=shown)

    def say(self, text: str, level: str = "INFO") -> None:
        style = {"WARNING": "yellow", "ERROR": "red"}.get(level, "dim")
        console.print(f"    [{style}]{escape(text)}[/]", soft_wrap=True)

    def end(self, name: str, outcome: str, detail: str) -> None:
        with self._lock:
            if name in self._bars:
                self._progress.remove_task(self._bars.pop(name))
            self._paces.pop(name, None)
        style = {"made": "green", "cached": "cyan", "failed": "red"}.get(outcome, "yellow")
        console.print(f"  {name:<{_NAME_WIDTH}} [{style}]{outcome:<7}[/] [dim]{escape(detail)}[/]", soft_wrap=True)


# The bars of this process: there is one terminal.
terminal = Terminal()
