"""What an artifact is made from, and the version that follows from it."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any

STEP_NAME = re.compile(r"[a-z0-9_]+")
VERSION = re.compile(r"[0-9a-f]{12}")
# Directories of the store that hold symlinks, not artifacts.
RESERVED = ("latest", "pinned")


def _json_value(value: Any, where: str) -> Any:
    """A copy made of plain JSON types, in which equal numbers are the same: 1.0 becomes 1.

    Raises:
        ValueError: naming the place of a value that JSON cannot carry.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: a key takes finite numbers only. Use null to say 'none'.")
        return int(value) if value.is_integer() else float(value)
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"{where} has the field name {name!r}: field names are strings. Quote it.")
        return {str.__str__(name): _json_value(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, PurePath):
        raise ValueError(
            f"{where} is the path {value}: paths are not part of a key, or moving a data set would recompute "
            "everything. Use a digest of what lies there, or leave it out."
        )
    raise ValueError(
        f"{where} is {value!r}, a {type(value).__name__}: a key takes null, booleans, numbers, strings, lists and "
        "mappings. Convert it first."
    )


@dataclass(frozen=True)
class Key:
    """What an artifact is made from. Two keys of equal content have the same version, on any machine.

    Attributes:
        step: the step's name, which is also the name of its directory.
        step_version: the step's `VERSION` constant, raised by hand when its code changes the result.
        config: only the config fields that change the result, as JSON values. No paths, devices or worker counts.
        inputs: input name -> version of the artifact that goes in there.

    Raises:
        ValueError: a name, version or value that does not belong in a key; the message says which.
    """

    step: str
    step_version: int
    config: Mapping[str, Any] = field(hash=False)
    inputs: Mapping[str, str] = field(hash=False)

    def __post_init__(self) -> None:
        if not STEP_NAME.fullmatch(self.step) or self.step in RESERVED:
            raise ValueError(
                f"step {self.step!r}: a step's name is made of a-z, 0-9 and _, and is not one of "
                f"{', '.join(RESERVED)}. Rename the step."
            )
        if isinstance(self.step_version, bool) or not isinstance(self.step_version, int):
            raise ValueError(f"{self.step}: step_version is {self.step_version!r}. VERSION is a whole number.")
        for name, version in self.inputs.items():
            if not STEP_NAME.fullmatch(name) or not VERSION.fullmatch(version):
                raise ValueError(
                    f"{self.step}: input {name!r} is {version!r}. Input names are made of a-z, 0-9 and _, their values "
                    "are versions: 12 hexadecimal digits. Give the `version` of an artifact."
                )
        # A deep copy, so that a later change of the caller's dictionary cannot change the key.
        object.__setattr__(self, "config", _json_value(self.config, f"{self.step}: config"))
        object.__setattr__(self, "inputs", dict(self.inputs))

    @cached_property
    def version(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the key's canonical JSON."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]

    def as_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "step_version": self.step_version,
            "config": dict(self.config),
            "inputs": dict(self.inputs),
        }
