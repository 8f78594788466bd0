"""A sweep: one configuration, several members that change some of its fields, and seeds to train each of them with.

title: What the losses of ORL are worth
source: Xie et al. 2021, table 5a
extends: ../coco.yaml
seeds: [0, 1, 2]
common: {object_pretraining.epochs: 200 epochs}
members:
  intra: {object_pretraining.orl.weight_inter: 0}
  both:
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator

from stages.config.files import CONFIG_FOLDERS
from stages.config.reading import ConfigError
from stages.config.section import Section

# Names become parts of the names of files and links.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAMES = "a name begins with a letter or digit and holds only these, '.', '_' and '-'."


def _plain(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(_NAMES)
    return name


def _flat(fields: Any) -> dict[str, Any]:
    """`{"a": {"b": 1}, "a.c": 2}` as `{"a.b": 1, "a.c": 2}`, so that members can be written either way."""
    found: dict[str, Any] = {}
    if fields is None:  # a member that changes nothing
        return found
    if not isinstance(fields, Mapping):
        raise ValueError("write fields and their values, such as {retrieval.neighbors: 20}")
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{deeper}": leaf for deeper, leaf in _flat(value).items()}
        else:
            found[str(name)] = value
    if any(name == "run.seed" for name in found):
        raise ValueError("run.seed is what a sweep repeats each member with: list the numbers under `seeds`")
    return found


Name = Annotated[str, AfterValidator(_plain)]
Seed = Annotated[int, Field(ge=0)]
Changes = Annotated[dict[str, Any], BeforeValidator(_flat)]


class Sweep(Section):
    """What a sweep file says. Changes are kept flat: dotted field -> value, a value being no mapping."""

    title: str | None = Field(None, description="a few words above the table")
    source: str | None = Field(None, description="which table of which paper it repeats")
    extends: Path = Field(description="the configuration that all members start from; relative to this file")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="values of run.seed")
    common: Changes = Field({}, description="changes of all members")
    members: dict[Name, Changes] = Field(min_length=1, description="name -> its changes, stronger than `common`")

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is listed twice: the same training twice says nothing about the spread")
        return seeds

    def settings(self, member: str, seed: int) -> dict[str, Any]:
        """The sections that a configuration for this member and seed has beside its `extends`."""
        tree: dict[str, Any] = {}
        for field, value in (self.common | self.members[member] | {"run.seed": seed}).items():
            *sections, name = field.split(".")
            place = tree
            for section in sections:
                if not isinstance(place.get(section), dict):
                    place[section] = {}
                place = place[section]
            place[name] = value
        return tree


def load_sweep(name: str, seeds: Sequence[int] | None = None, only: Sequence[str] | None = None) -> tuple[str, Sweep]:
    """The name and the contents of a sweep file, given its path or the stem of one in configs/ablations/.

    Args:
        seeds: instead of those of the file.
        only: members that are kept, in the order of the file; None: all.

    Raises:
        ConfigError: the file or the configuration that it extends is not there, or it says something impossible.
    """
    path = _find(name)
    try:
        fields = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"sweep '{name}' is not valid YAML: {error}") from None
    if not isinstance(fields, dict):
        raise ConfigError(f"sweep '{name}' holds no mapping: it needs `extends` and `members`.")
    if not _NAME.fullmatch(path.stem):
        raise ConfigError(f"sweep '{name}': {_NAMES} Rename the file.")
    try:
        sweep = Sweep.model_validate(fields if seeds is None else fields | {"seeds": seeds})
    except ValidationError as error:
        lines = [f"  {_explain(item)}" for item in error.errors()]
        raise ConfigError("\n".join([f"sweep '{name}' can't be used:", *lines])) from None
    unknown = [member for member in only or () if member not in sweep.members]
    if unknown:
        raise ConfigError(f"sweep '{name}' has no member {', '.join(unknown)}. It has: {', '.join(sweep.members)}.")
    base = path.parent / sweep.extends
    if not base.is_file():
        raise ConfigError(f"sweep '{name}' extends '{sweep.extends}', but there is no file {base}.")
    members = {member: changes for member, changes in sweep.members.items() if only is None or member in only}
    return path.stem, sweep.model_copy(update={"extends": base.resolve(), "members": members})


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"sweep '{name}': there is no such file")
    folders = [folder / "ablations" for folder in CONFIG_FOLDERS]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise ConfigError(f"sweep '{name}' is unknown. There are: {', '.join(known)}.")


def _explain(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{field}: a sweep has no such field. Known: {', '.join(Sweep.model_fields)}."
    if item["type"] == "missing":
        return f"{field}: is missing"
    return f"{field}: {item['msg'].removeprefix('Value error, ')}"
