"""From a name and overrides to a `Config`: YAML files, `extends`, `--set section.field=value`, and helpful errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from stages.config.tiny import shrunk
from stages.config.tree import Config

CONFIG_FOLDERS = (Path("configs"), Path(__file__).parents[2] / "configs")


class ConfigError(ValueError):
    """A configuration that can't be used; the message names the field, the value, the rule and the remedy."""


def load_config(name: str, overrides: Iterable[str] = (), *, tiny: bool = False) -> Config:
    """The configuration `name` (a file, or the stem of one in configs/) with `section.field=value` overrides.

    `tiny` shrinks it to a rehearsal first, so that an override has the last word.
    """
    tree = _read(find_config(name))
    if tiny:
        tree = shrunk(validated(tree, name)).model_dump(mode="json")
    for override in overrides:
        _override(tree, override)
    return validated(tree, name)


def find_config(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"config '{name}': there is no such file")
    for folder in CONFIG_FOLDERS:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = config_names()
    raise ConfigError(f"config '{name}' is unknown.{_did_you_mean(name, known)} There are: {', '.join(known)}.")


def config_names() -> list[str]:
    return sorted({path.stem for folder in CONFIG_FOLDERS for path in folder.glob("*.yaml")})


def validated(tree: Mapping[str, Any], name: str) -> Config:
    """Raises ConfigError where pydantic raises ValidationError."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise ConfigError("\n".join([f"config '{name}' can't be used:", *(f"  {line}" for line in lines)])) from None


def _read(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    path = path.resolve()
    if path in children:
        chain = " -> ".join(child.name for child in (*children, path))
        raise ConfigError(f"config '{path}' extends itself: {chain}. Remove one of these `extends`.")
    try:
        tree = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"config '{path}' is not valid YAML: {error}") from None
    except OSError as error:
        raise ConfigError(f"config '{path}' can't be read: {error.strerror}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"config '{path}' holds a {type(tree).__name__}; it must be a mapping of sections.")
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    return _merged(_read(path.parent / str(parent), (*children, path)), tree)


def _merged(base: dict[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def _override(tree: dict[str, Any], override: str) -> None:
    field, equals, text = override.partition("=")
    keys = field.strip().split(".")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"override '{override}': '{text}' is not a YAML value; put quotes around it") from None
    if not equals or (len(keys) == 1 and not isinstance(value, dict)):
        raise ConfigError(f"override '{override}': write section.field=value, such as retrieval.neighbors=20")
    for key in keys[:-1]:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[keys[-1]] = value


def _explain(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "the whole"
    if item["type"] == "extra_forbidden":
        return f"{field}: there is no such field.{_hint(item['loc'])}"
    rule = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{field}: is missing; write it in the file or give --set {field}=VALUE"
    if not isinstance(item["input"], str | int | float | bool | None.__class__):
        return f"{field}: {rule}"
    return f"{field} = {item['input']!r}: {rule}"


def _hint(location: tuple[Any, ...]) -> str:
    """Where the field may be meant to stand: deeper down, or under a name like it."""
    section, word = _section(location[:-1]), str(location[-1])
    for name, kind in _sections(section).items():
        if word in kind.model_fields:
            return f" It belongs to {name}: {'.'.join(map(str, (*location[:-1], name, word)))}"
    return _did_you_mean(word, section.model_fields)


def _section(location: tuple[Any, ...]) -> type[BaseModel]:
    section: type[BaseModel] = Config
    for part in location:
        if not isinstance(part, int):  # the place in a list of sections
            section = _sections(section)[part]
    return section


def _sections(section: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields of a section that are sections themselves."""
    found = {}
    for name, field in section.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[name] = kind
    return found


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else f" Known: {', '.join(known)}." if known else ""
