"""Fixtures of the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.data.catalog import Catalog
from stages.report import Report
from tests.stages.learning.small_training import run


@pytest.fixture(scope="session")
def whole(photo_catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """Six steps that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    return out, run(photo_catalog, out)
