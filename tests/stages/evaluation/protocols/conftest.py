"""Fixtures of the tests of protocols."""

from tests.stages.evaluation.tasks.conftest import stripes

__all__ = ["stripes"]
