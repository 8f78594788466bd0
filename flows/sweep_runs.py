"""The runs of a sweep, and the encoders that they measured: what several runs have in common stands once."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stages.plan import Plan

BASELINE = "random"
_TRAINED = "object_pretraining"  # the encoder that a member is judged by

Figure = tuple[str, str]  # protocol and figure, as in the results.json of an evaluation


@dataclass
class Run:
    """One member with one seed.

    Attributes:
        name: under which its artifacts are linked.
        reason: of a failure.
        results: the rows of its evaluation's results.json, once there is one.
    """

    member: str
    seed: int
    name: str
    config: Path
    plan: Plan
    outcome: Literal["waiting", "done", "failed", "stopped"] = "waiting"
    reason: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.member}, seed {self.seed}"

    def encoders(self) -> dict[str, str]:
        """The encoders that its evaluation compares, and their versions."""
        return {name: self.plan.keys[name].version for name in self.plan.nodes["evaluation"].arguments["encoders"]}


@dataclass
class Row:
    """One encoder of the table: of a member, or one that several members have in common.

    Attributes:
        planned: seeds of the sweep.
        values: figure -> seed -> value.
        chance: figure -> the value of guessing, None where there is no such thing.
    """

    label: str
    planned: int
    values: dict[Figure, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    chance: dict[Figure, float | None] = field(default_factory=dict)

    def spread(self, figure: Figure) -> tuple[float, float | None] | None:
        """Mean and standard deviation (n - 1) over seeds; None for the latter with one seed, and None without any."""
        values = list(self.values.get(figure, {}).values())
        if not values:
            return None
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None

    @property
    def seeds(self) -> int:
        """How many there are values of."""
        return len({seed for values in self.values.values() for seed in values})


def table_rows(runs: Sequence[Run]) -> list[Row]:
    """Untrained encoders, those of stage 1, then the members in their order."""
    planned = len({run.seed for run in runs})
    users: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for encoder in _possible(run.plan):
            users[_identity(run.plan, encoder)].add(run.member)
    # By the members that have it, so that one network and its brothers of other seeds are one row.
    common: dict[tuple[str, tuple[str, ...]], Row] = {}
    members = {run.member: Row(run.member, planned) for run in runs}
    for run in runs:
        for result in run.results:
            encoder, figure = result["encoder"], (result["protocol"], result["figure"])
            if encoder == _TRAINED:
                row = members[run.member]
            else:
                sharers = tuple(sorted(users[_identity(run.plan, encoder)]))
                row = common.setdefault((encoder, sharers), Row(encoder, planned))
            row.values[figure][run.seed] = result["value"]
            row.chance[figure] = result["chance"]
    for (encoder, sharers), row in common.items():
        if sum(other == encoder for other, _ in common) > 1:
            row.label = f"{encoder} of {', '.join(sharers)}"
    first = sorted(common, key=lambda key: not key[0].startswith(BASELINE))
    return [*(common[key] for key in first), *members.values()]


def _possible(plan: Plan) -> list[str]:
    """The names under which the evaluation of `plan` may list encoders."""
    trained = list(plan.nodes["evaluation"].arguments["encoders"])
    return [*trained, BASELINE, *(f"{BASELINE} ({name})" for name in trained)]


def _identity(plan: Plan, encoder: str) -> str:
    """The same for the same encoder measured in the same way: by version, or untrained by architecture and seed.

    `random` is of the architecture of the first trained encoder, `random (NAME)` of that of NAME (see
    `stages.evaluation.embeddings`). The seed is among the settings of the evaluation.
    """
    key, nodes = plan.keys["evaluation"], plan.nodes
    trained = list(nodes["evaluation"].arguments["encoders"])
    photos = {name: version for name, version in key.inputs.items() if name not in trained}
    if encoder in trained:
        network: Any = key.inputs[encoder]
    else:
        like = trained[0] if encoder == BASELINE else encoder.removeprefix(f"{BASELINE} (").removesuffix(")")
        network = nodes[like].arguments["encoder"]
    return json.dumps([encoder, network, key.config, photos], sort_keys=True)
