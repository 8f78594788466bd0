"""From a name and overrides to a `Config`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stages.config.reading import find, names, override, read_tree, validated
from stages.config.tiny import shrunk
from stages.config.tree import Config

CONFIG_FOLDERS = (Path("configs"), Path(__file__).parents[2] / "configs")


def load_config(name: str, overrides: Iterable[str] = (), *, tiny: bool = False) -> Config:
    """The configuration `name` (a file, or the stem of one in configs/) with `section.field=value` overrides.

    `tiny` shrinks it to a rehearsal first, so that an override has the last word.

    Raises:
        ConfigError: there is no such file, or it can't be used.
    """
    tree = read_tree(find(name, CONFIG_FOLDERS, "config"))
    if tiny:
        tree = shrunk(validated(Config, tree, name)).model_dump(mode="json")
    for change in overrides:
        override(tree, change)
    return validated(Config, tree, name)


def config_names() -> list[str]:
    return names(CONFIG_FOLDERS)
