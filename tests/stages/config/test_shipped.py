"""The files in configs/: each field that one of them names changes what is planned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from stages.config.files import CONFIG_FOLDERS, config_names, load_config
from stages.config.reading import ConfigError
from stages.config.tree import Config
from stages.planning import make_plan

# Settings that stand ready for `--set image_pretraining.method=...`, as the file says.
READY = {"demo": ("image_pretraining.simclr", "image_pretraining.moco", "image_pretraining.densecl")}


def fields_of(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from fields_of(value, f"{above}{name}.")
        elif above and value is not None:  # null takes back what a file that is extended says
            yield above + name, value


def named() -> Iterator[Any]:
    for config in config_names():
        tree = yaml.safe_load((CONFIG_FOLDERS[1] / f"{config}.yaml").read_text())
        for field, value in fields_of(tree):
            if not field.startswith(READY.get(config, ())):
                yield pytest.param(config, field, value, id=f"{config}-{field}")


def annotation(field: str) -> Any:
    kind: Any = Config
    for name in field.split("."):
        sections = [each for each in (kind, *get_args(kind)) if isinstance(each, type) and issubclass(each, BaseModel)]
        kind = sections[0].model_fields[name].annotation
    return kind


def others(field: str, value: Any, folder: Path) -> list[Any]:
    """Other values of the field, of which the first possible one is to change something."""
    kind = annotation(field)
    if get_origin(kind) is Literal:
        return [other for other in get_args(kind) if other != value]
    match value:
        case bool():
            return [not value]
        case int() | float():
            return [value + 1, value / 2]
        case list():
            return [[value[0] + 1, *value[1:]] if isinstance(value[0], int | float) else value[:1]]
        case str() if "Path" in str(kind):
            return [str(folder)]
        case str() if value.endswith("epochs"):
            return ["7 epochs"]
    return [value + "0"]


def planned(config: str, overrides: list[str]) -> dict[str, Any]:
    plan = make_plan(load_config(config, overrides), lambda dataset: str(dataset.source()), Path("hashes.npy"))
    return {name: (plan.keys[name].version, node.arguments) for name, node in plan.nodes.items()}


@pytest.mark.parametrize(("config", "field", "value"), list(named()))
def test_every_named_field_is_read(config: str, field: str, value: Any, tmp_path: Path) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    for folder in (models, elsewhere):  # a plan looks at the files that a config names
        folder.mkdir()
        (folder / "model").write_text(folder.name)
    common = [f"regions.bing.models={models}"]
    before = planned(config, common)
    for other in others(field, value, elsewhere):
        try:
            after = planned(config, [*common, f"{field}={json.dumps(other)}"])
        except (ConfigError, ValueError):
            continue  # the others do not go with this value; where they go with none, it is read to say so
        assert after != before, f"{config}.yaml says {field}, but nothing reads it"
        return
