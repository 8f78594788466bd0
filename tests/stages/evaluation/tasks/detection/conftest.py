"""Fixtures of the tests of detectors."""

from __future__ import annotations

import pytest

from stages.data.catalog import Catalog
from tests.stages.evaluation.tasks.detection.coloured import coloured_catalog


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """8 photos of coloured squares; in the last one there is a crowd alone."""
    return coloured_catalog(tmp_path_factory.mktemp("squares"), 8, seed=0)
