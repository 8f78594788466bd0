"""Fixtures of the tests of classifiers."""

from __future__ import annotations

import pytest

from stages.data.catalog import Catalog
from tests.stages.evaluation.tasks.classes import striped_catalog


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Catalog]:
    """36 photos of three classes to train on, and 18 to test on."""
    return (
        striped_catalog(tmp_path_factory.mktemp("stripes_train"), 12, seed=0),
        striped_catalog(tmp_path_factory.mktemp("stripes_test"), 6, seed=1),
    )
