"""Fixtures that several stages' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from process_pair import ProcessPair


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessPair]:
    """Starting them takes seconds, so that they live as long as the tests."""
    pair = ProcessPair(tmp_path_factory.mktemp("processes") / "store")
    yield pair
    pair.close()
