"""What a policy is."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from stages.data.views import View


class Policy(Protocol):
    """Draws the views of one sample; `names` are theirs, in order. Goes to worker processes, so it must pickle."""

    names: tuple[str, ...]

    def plan(self, rng: np.random.Generator, image: int) -> dict[str, View]: ...

    def tables(self, rng: np.random.Generator, views: dict[str, View]) -> dict[str, np.ndarray]:
        """What a method is told of these views beside their pixels, such as where they show which region; by default
        nothing. Drawn from the generator that `plan` has left, so that plans do not depend on it.

        Returns:
            Arrays under names that no view has. Each has the same shape and dtype in all samples.
        """
        return {}
