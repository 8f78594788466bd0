"""`orl ls`, `orl explain`, `orl verify`, `orl gc`, `orl pin`: what `stages.store.inventory` knows, for the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from flows.prepare import store_root
from flows.summary import size
from flows.terminal import console
from stages.plan import Plan
from stages.store import Store, inventory


def listing() -> None:
    rows = inventory.listing(Store(store_root()))
    if not rows:
        console.print(f"{store_root()} holds nothing yet. `orl run demo` fills it.", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("step", "version", "state", "size", "made (UTC)", "seconds", "used by"):
        is_number = column in ("size", "seconds")
        table.add_column(column, justify="right" if is_number else "left", no_wrap=column != "used by")
    for row in rows:
        state = f"{row.state}, in work by {row.holder}" if row.holder else row.state
        users = [*row.configs, *(["(pinned)"] if row.pinned else [])]
        table.add_row(
            row.step, row.version, state, size(row.bytes), (row.created or "")[:19].replace("T", " "),
            "" if row.seconds is None else f"{row.seconds:.1f}", ", ".join(users),
        )  # fmt: skip
    console.print(table)
    console.print(f"\n{len(rows)} versions, {size(sum(row.bytes for row in rows))}")
    for row in rows:
        if row.problem:
            console.print(f"[yellow]{escape(f'{row.step}/{row.version}: {row.problem}')}[/]", soft_wrap=True)


def explain(plan: Plan, step: str | None) -> None:
    store = Store(store_root())
    nodes = plan.nodes.values() if step is None else plan.select(step)
    for node in nodes:
        found = inventory.explain(store, plan.keys[node.name])
        version = plan.keys[node.name].version
        state, detail = _explanation(found)
        console.print(f"{node.name:<19} {version}  {state}", soft_wrap=True)
        for line in detail:
            console.print(f"{'':<19} [dim]{escape(line)}[/]", soft_wrap=True)


def _explanation(found: inventory.Explanation) -> tuple[str, list[str]]:
    if found.artifact is not None:
        return "[green]cached[/]", []
    detail = [str(problem) for problem in found.problems]
    if found.holder:
        detail.append(f"in work by {found.holder}")
    if found.resumable:
        detail.append("an earlier attempt was stopped; a run goes on from there")
    if found.nearest is not None:
        detail += [f"against {found.nearest.version}: {difference}" for difference in found.differences]
    elif not found.problems:
        detail.append("there is no version of this step yet")
    return "[yellow]damaged[/]" if found.problems else "[yellow]not cached[/]", detail


def verify() -> bool:
    """Whether something is wrong."""
    store = Store(store_root())
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("hashing", total=None)
        problems = inventory.verify(store, progress=lambda done, total: bar.update(task, completed=done, total=total))
    for problem in problems:
        console.print(f"[red]{escape(str(problem))}[/]", soft_wrap=True)
    count = len(store.artifacts())
    console.print(f"{count} artifacts verified, {len(problems)} problems" if count else "there is nothing to verify")
    return bool(problems)


def collect(dry_run: bool) -> None:
    store = Store(store_root())
    found = inventory.garbage(store)
    for path in found.paths:
        console.print(f"{path.relative_to(store.root)}  [dim]{escape(found.why[path])}[/]", soft_wrap=True)
    if not dry_run:
        found = inventory.collect(store, found)
    verb = "would be freed" if dry_run else "freed"
    console.print(f"{len(found.paths)} paths, {size(found.bytes)} {verb}")


def pin(name: str, keep: bool) -> None:
    """Raises ValueError when `name` is not STEP/VERSION, or nothing is there."""
    store = Store(store_root())
    step, slash, version = name.partition("/")
    if not slash:
        raise ValueError(f"'{name}': write STEP/VERSION as `orl ls` prints them, such as retrieval/0123456789ab")
    if keep:
        store.pin(store.get(step, version))
    else:
        store.unpin(step, version)
    console.print(f"{name} is {'pinned: `orl gc` keeps it and what it was made from' if keep else 'no longer pinned'}")
