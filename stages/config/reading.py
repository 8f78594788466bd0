"""YAML files to typed sections: `extends`, `--set section.field=value`, errors that name field, value and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

Kind = TypeVar("Kind", bound=BaseModel)


class ConfigError(ValueError):
    """A configuration that can't be used; the message names the field, the value, the rule and the remedy."""


def find(name: str, folders: Sequence[Path], what: str) -> Path:
    """The file `name`, or the one of that stem in the first of `folders` that has it. `what` it is, for messages."""
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"{what} '{name}': there is no such file")
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = names(folders)
    raise ConfigError(f"{what} '{name}' is unknown.{_did_you_mean(name, known)} There are: {', '.join(known)}.")


def names(folders: Sequence[Path]) -> list[str]:
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})


def validated(kind: type[Kind], tree: Mapping[str, Any], name: str) -> Kind:
    """Raises ConfigError where pydantic raises ValidationError."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(item, kind) for item in error.errors()]
        raise ConfigError("\n".join([f"config '{name}' can't be used:", *(f"  {line}" for line in lines)])) from None


def read_tree(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The sections of a YAML file, over those of the file that it `extends`."""
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
    return merged(read_tree(path.parent / str(parent), (*children, path)), tree)


def merged(base: dict[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the fields of `top` over it, section by section."""
    result = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def override(tree: dict[str, Any], change: str) -> None:
    """Puts `section.field=value` into the tree; the value is read as YAML."""
    field, equals, text = change.partition("=")
    keys = field.strip().split(".")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"override '{change}': '{text}' is not a YAML value; put quotes around it") from None
    whole = value is None or isinstance(value, dict)  # a section as a whole, or none
    if not equals or (len(keys) == 1 and not whole):
        raise ConfigError(f"override '{change}': write section.field=value, such as retrieval.neighbors=20")
    for key in keys[:-1]:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[keys[-1]] = value


def _explain(item: Any, kind: type[BaseModel]) -> str:
    field = ".".join(str(part) for part in item["loc"]) or "the whole"
    if item["type"] == "extra_forbidden":
        return f"{field}: there is no such field.{_hint(item['loc'], kind)}"
    rule = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{field}: is missing; write it in the file or give --set {field}=VALUE"
    if not isinstance(item["input"], str | int | float | bool | None.__class__):
        return f"{field}: {rule}"
    return f"{field} = {item['input']!r}: {rule}"


def _hint(location: tuple[Any, ...], kind: type[BaseModel]) -> str:
    """Where the field may be meant to stand: deeper down, or under a name like it."""
    section, word = _section(location[:-1], kind), str(location[-1])
    for name, deeper in _sections(section).items():
        if word in deeper.model_fields:
            return f" It belongs to {name}: {'.'.join(map(str, (*location[:-1], name, word)))}"
    return _did_you_mean(word, section.model_fields)


def _section(location: tuple[Any, ...], section: type[BaseModel]) -> type[BaseModel]:
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
