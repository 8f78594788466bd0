"""Every shipped suite runs from its data to its outcomes as a rehearsal on generated scenes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.evaluate import prepare_evaluation
from flows.prepare import located, store_root
from stages.config.suite import load_suite, suite_names
from stages.evaluation.saved import load_outcome, merged
from stages.evaluation.suite_report import write_suite_report
from stages.execute import build, portable
from stages.report import Report
from stages.store import Store

pytestmark = pytest.mark.slow

# Each takes seconds, because catalogs and features are made once for all.
SUITES = [name for name in suite_names() if load_suite(name, tiny=True).protocols]


@pytest.mark.parametrize("name", SUITES)
def test_the_rehearsal_of_every_suite(name: str, artifacts: Path, tmp_path: Path) -> None:
    words = ["mine=random:resnet10t", "random:resnet10t"]
    _, suite, planned = prepare_evaluation(words, name, None, ["run.device=cpu", "run.workers=1"], True)
    plan, store = planned.plan, Store(store_root())
    for node in plan.nodes.values():
        arguments = portable(located(dict(node.arguments), plan, store))
        build({"target": node.target, "arguments": arguments, "seed": node.seed, "force": False,
               "key": plan.keys[node.name].as_dict(), "store": str(store.root)}, Report())  # fmt: skip
    outcomes = [
        merged({label: load_outcome(store.path(plan.nodes[node].step, plan.keys[node].version), label)
                for label, node in nodes.items()})
        for nodes in planned.outcomes.values()
    ]  # fmt: skip
    assert [outcome.protocol for outcome in outcomes] == list(suite.protocols)
    report = write_suite_report(
        outcomes, tmp_path, title=suite.title, source=suite.source, published=None, photos=16, seed=0
    )
    text = report.read_text()
    assert all(figure.title in text for outcome in outcomes for figure in outcome.figures.values())
