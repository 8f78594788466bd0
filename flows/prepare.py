"""From what a user asked for to a plan, and where its artifacts lie."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stages.config.dataset import Dataset
from stages.config.files import load_config
from stages.config.tree import Config, Run
from stages.data.indexing import fingerprint
from stages.plan import Inside, Plan
from stages.planning import make_plan
from stages.process import available_cores
from stages.store import Store


def store_root() -> Path:
    """The folder `artifacts` of the current one, or the one that ORL_ARTIFACTS names. Absolute."""
    return Path(os.environ.get("ORL_ARTIFACTS") or "artifacts").expanduser().absolute()


def prepare(
    config: str,
    overrides: Sequence[str] = (),
    tiny: bool = False,
    until: str | None = None,
    force: Sequence[str] = (),
) -> tuple[str, Config, Plan]:
    """The name under which the results of a run are linked, its settings and its plan; see `make_plan`.

    Raises:
        ConfigError, ValueError, FileNotFoundError: the request can't be carried out; the message says why.
    """
    settings = load_config(config, overrides, tiny=tiny)
    name = Path(config).stem + ("-tiny" if tiny else "")
    return name, settings, make_plan(settings, fingerprint_of(settings.run), hashes_file(), until, force)


def hashes_file() -> Path:
    """Where the hashes of photos and files are remembered from run to run."""
    return store_root() / ".cache" / "hashes.npy"


def fingerprint_of(run: Run) -> Callable[[Dataset], str]:
    """The digest of the contents of a data set that lies on the disk."""
    workers = run.workers or available_cores()
    return lambda dataset: fingerprint(cache=hashes_file(), workers=workers, **dataset.source())


def located(value: Any, plan: Plan, store: Store) -> Any:
    """`Inside` as a path: where the artifact of that node is or will be."""
    if isinstance(value, Inside):
        key = plan.keys[value.node]
        return store.root / key.step / key.version / value.path
    if isinstance(value, dict):
        return {name: located(item, plan, store) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [located(item, plan, store) for item in value]
    return value
