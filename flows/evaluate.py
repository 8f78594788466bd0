"""`orl evaluate`: encoders side by side by the protocols of a suite, and their report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import TerminationSignal
from prefect.states import Completed, Failed, State

from flows.foreground import FAILED, INTERRUPTED, reporting
from flows.nodes import RUNNER, failed_state, run_nodes
from flows.prepare import fingerprint_of, hashes_file, located, store_root
from flows.terminal import console
from stages.config.suite import Suite, load_suite
from stages.data.catalog import Catalog
from stages.evaluation.encoders import EncoderSource
from stages.evaluation.saved import load_outcome, merged
from stages.evaluation.suite_report import write_suite_report
from stages.store import Store
from stages.suite_planning import SuitePlan, plan_suite


@flow(name="orl-evaluation", task_runner=RUNNER)
def orl_evaluation(
    encoders: list[str],
    suite: str = "voc",
    protocols: list[str] | None = None,
    overrides: list[str] | None = None,
    force: list[str] | None = None,
    tiny: bool = False,
    out: str = "evaluation",
) -> State:
    """Evaluates encoders side by side on labelled data. What was measured before is not measured again.

    Args:
        encoders: `[LABEL=]WHAT`, see `EncoderSource.of`.
        suite: a file, or the stem of one in configs/evaluation/.
        protocols: those of the suite to carry out; null: all.
        overrides: `section.field=value`, such as `dataset.root=/data/VOCdevkit`.
        force: protocols or steps that are computed again although they are up to date.
        tiny: the same protocols on generated scenes: a rehearsal.
        out: folder for results.json, report.md and the pictures.
    """
    try:
        name, settings, planned = prepare_evaluation(encoders, suite, protocols, overrides or (), tiny)
        plan = planned.plan
        forced = {node.name for step in force or () for node in plan.select(step)}
    except (ValueError, OSError) as error:
        return Failed(message=str(error))
    states = run_nodes(name, plan, list(plan.nodes.values()), settings.run, forced)
    if failed := failed_state(states):
        return failed
    store = Store(store_root())

    def made(node: str) -> Path:
        return store.get(plan.keys[node].step, plan.keys[node].version).path

    outcomes = [
        merged({label: load_outcome(made(node), label) for label, node in by_label.items()})
        for by_label in planned.outcomes.values()
    ]
    root = located(plan.nodes["catalog_test"].arguments["root"], plan, store)
    photos = len(Catalog(made("catalog_test"), root))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    report = write_suite_report(
        outcomes, folder, title=settings.title, source=settings.source, published=settings.published,
        photos=photos, seed=settings.run.seed,
        activation_maps=made("activation_maps") if "activation_maps" in plan.nodes else None,
    )  # fmt: skip
    create_markdown_artifact(report.read_text(), key="evaluation", description=f"{settings.title}: {name}")
    console.print(f"\nReport           {report}", soft_wrap=True)
    return Completed(message=f"{len(plan.nodes)} steps are up to date")


def prepare_evaluation(
    encoders: Sequence[str], suite: str, protocols: Sequence[str] | None, overrides: Sequence[str], tiny: bool
) -> tuple[str, Suite, SuitePlan]:
    """The name under which what is made is linked, the suite, and the plan.

    Raises:
        ValueError, OSError: the request can't be carried out; the message says why.
    """
    settings = load_suite(suite, overrides, tiny=tiny)
    sources: dict[str, EncoderSource] = {}
    for word in encoders:
        label, source = EncoderSource.of(word, store_root(), settings.run.seed)
        if label in sources:
            raise ValueError(f"two encoders are called '{label}': give one another label, as in other={word}")
        sources[label] = source
    name = f"evaluate-{Path(suite).stem}" + ("-tiny" if tiny else "")
    hashes = hashes_file()
    return (
        name,
        settings,
        plan_suite(settings, settings.chosen(protocols), sources, fingerprint_of(settings.run), hashes),
    )


def run_evaluation(
    encoders: list[str],
    suite: str,
    protocols: list[str] | None,
    overrides: list[str],
    force: list[str] | None,
    tiny: bool,
    out: Path,
) -> int:
    """Runs the flow in the foreground. Returns the exit status.

    Raises:
        ValueError, OSError: the request can't be carried out.
    """
    name, settings, planned = prepare_evaluation(encoders, suite, protocols, overrides, tiny)
    for step in force or ():
        planned.plan.select(step)
    console.print(
        f"[bold]{settings.title}[/] ({name}): {len(planned.plan.nodes)} steps, artifacts in {store_root()}",
        soft_wrap=True,
    )
    with reporting():
        try:
            state = orl_evaluation(
                encoders, suite, protocols, overrides, force, tiny, str(out.absolute()), return_state=True
            )
        except TerminationSignal:
            return INTERRUPTED
    if state.is_completed():
        return 0
    print(f"error: {state.message}", file=sys.stderr)
    return FAILED
