"""What every section of the configuration is made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
# Absolute, so that a run means the same from any folder; `~` as in a shell.
Place = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]

_DURATION = re.compile(r"\s*(\d+(\.\d*)?([eE]\d+)?)\s*(epochs?|steps?|images?)\s*")


def _duration(text: str) -> str:
    if not _DURATION.fullmatch(text):
        raise ValueError("a duration is a number and its unit: '800 epochs', '20000 steps' or '1e6 images'")
    return text


Duration = Annotated[str, AfterValidator(_duration)]


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError("a range is two numbers above 0, the smaller one first, such as [0.5, 2]")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]


def runtime(default: Any, **rules: Any) -> Any:
    """A field that does not change the result."""
    return Field(default, json_schema_extra={"runtime": True}, **rules)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def result_fields(self) -> dict[str, Any]:
        """The fields that change the result, as JSON values: what an artifact's version is made from."""
        return self.model_dump(mode="json", exclude=runtime_fields(type(self)))

    def all_fields(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def runtime_fields(section: type[BaseModel]) -> set[str]:
    return {
        name
        for name, field in section.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("runtime")
    }
