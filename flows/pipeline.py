"""The flow `orl-pipeline`: a plan from photos to an evaluated backbone."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed, State

from flows import summary
from flows.engines import check_engine
from flows.nodes import RUNNER, failed_state, run_nodes
from flows.prepare import prepare, store_root
from stages.store import Store


@flow(name="orl-pipeline", task_runner=RUNNER)
def orl_pipeline(
    config: str = "demo",
    overrides: list[str] | None = None,
    until: str | None = None,
    force: list[str] | None = None,
    tiny: bool = False,
) -> State:
    """Pretrains a backbone on the objects of a folder of photos, in five cached stages.

    Args:
        config: a file, or the stem of one in configs/.
        overrides: `section.field=value`, such as `retrieval.neighbors=20`.
        until: stop after this stage or step, which is made even where the objective does without it.
        force: stages or steps that are computed again although they are up to date.
        tiny: the same steps on generated scenes with a small network: a rehearsal of under a minute.
    """
    try:
        name, settings, plan = prepare(config, overrides or (), tiny, until, force or ())
        check_engine(settings.run.engine)
        nodes = plan.until(until)
        forced = {node.name for stage in force or () for node in plan.select(stage)}
    except (ValueError, OSError) as error:
        return Failed(message=str(error))
    states = run_nodes(name, plan, nodes, settings.run, forced)
    if failed := failed_state(states):
        return failed
    store = Store(store_root())
    artifacts = {node.name: store.get(node.step, plan.keys[node.name].version) for node in nodes}
    create_markdown_artifact(summary.markdown(name, artifacts, states), key="summary", description=f"What {name} made")
    summary.show(name, artifacts, states)
    return Completed(message=f"{len(artifacts)} steps are up to date")
