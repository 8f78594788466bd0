"""The step `regions` by the flow, on a Dask cluster that loses a worker: the same bytes as without any of it."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stages.store import Store
from tests.flows.test_kills import command_line, descendants

pytestmark = [
    pytest.mark.flow,
    pytest.mark.skipif(importlib.util.find_spec("prefect_dask") is None, reason="pip install 'orl-pipeline[dask]'"),
]
COPIES = 30  # of eight photos, so that there are shards enough to lose one


class Killer(threading.Thread):
    """Kills a worker of the cluster once there is a shard; notes which files the shards ever were."""

    def __init__(self, artifacts: Path) -> None:
        super().__init__(daemon=True)
        self.killed: int | None = None
        self.files: dict[str, set[int]] = defaultdict(set)
        self.ended = threading.Event()
        self._artifacts = artifacts

    def run(self) -> None:
        while not self.ended.is_set():
            for shard in self._artifacts.glob("regions/*.partial/scratch/[0-9]*"):
                try:
                    self.files[shard.name].add(shard.stat().st_mtime_ns)
                except FileNotFoundError:  # the step is done with it
                    continue
            if self.files and self.killed is None:
                workers = [process for process in descendants(os.getpid()) if _is_worker(process)]
                self.killed = workers[0]
                os.kill(self.killed, signal.SIGKILL)
            time.sleep(0.02)


def _is_worker(process: int) -> bool:
    try:
        parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return False
    return "flows.sharded" in command_line(parent) and "spawn_main" in command_line(process)


@pytest.fixture(scope="module")
def many_photos(photos_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 photos of at most 160 pixels a side, no two alike."""
    folder = tmp_path_factory.mktemp("many")
    for path in photos_dir.rglob("*.jpg"):
        with Image.open(path) as photo:
            for number in range(COPIES):
                side = 160 - number
                photo.resize((side, side)).save(folder / f"{path.stem}-{number:02d}.jpg")
    return folder


def test_a_cluster_that_loses_a_worker_makes_the_same_regions(
    prefect_server: None, artifacts: Path, many_photos: Path
) -> None:
    from flows.pipeline import orl_pipeline

    photos = ["dataset.format=folder", f"dataset.root={many_photos}", "regions.min_side=16", "run.workers=2"]

    def made(**options: Any) -> dict[str, str]:
        overrides = [*photos, *options.pop("overrides", [])]
        state = orl_pipeline("coco", overrides, until="regions", return_state=True, **options)
        assert state.is_completed(), state.message
        artifact = Store(artifacts).latest("coco")["regions"]
        return {file["name"]: file["sha256"] for file in artifact.manifest["files"]}

    here = made()
    killer = Killer(artifacts)
    killer.start()
    try:
        there = made(overrides=["run.engine=dask"], force=["regions"])
    finally:
        killer.ended.set()
        killer.join()
    assert there == here
    assert killer.killed is not None
    assert len(killer.files) > 2
    assert all(len(times) == 1 for times in killer.files.values()), "a shard that was whole was made again"
