"""That each part of the benchmark runs, and that its last line says what others read; how fast is not asked here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.rounds import alternate, summary
from benchmarks.training.__main__ import headlines, main


def run(capsys: pytest.CaptureFixture[str], photos: Path, *arguments: str) -> dict[str, Any]:
    main(["--quick", "--images", str(photos), *arguments])
    return json.loads(capsys.readouterr().out.splitlines()[-1])


# The peer has no other decoder of its own yet.
@pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")
def test_views_and_steps(capsys: pytest.CaptureFixture[str], photos_dir: Path, tmp_path: Path):
    threads = torch.get_num_threads()
    report = run(capsys, photos_dir, "--out", str(tmp_path / "training.json"))
    for name in ("views_vs_torchvision_pil", "views_vs_torchvision_v2", "views_vs_lightly", "step_vs_lightly_byol",
                 "step_vs_lightly_simclr", "views_float_vs_torchvision_pil", "views_copies_vs_torchvision_pil",
                 "views_device_vs_torchvision_pil"):  # fmt: skip
        assert report[name] > 0
    assert report["end_to_end"].startswith("not measured")
    assert report["photos"]["photos"] == 2
    assert report["machine"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert json.loads((tmp_path / "training.json").read_text()) == report
    assert torch.get_num_threads() == threads


def test_end_to_end(capsys: pytest.CaptureFixture[str], photos_dir: Path):
    report = run(capsys, photos_dir, "--parts", "end_to_end", "--workers", "0")
    (figures,) = report["end_to_end"].values()
    assert figures["step"]["median"] > 0
    for renderer in ("cpu", "device"):
        assert figures[renderer]["images_per_second"]["median"] > 0
        assert 0 < figures[renderer]["data_share"]["median"] < 1


def test_headlines_are_of_the_worst_case():
    def case(**times: float) -> dict[str, Any]:
        return {"times_as_fast": {pair.replace("_vs_", " vs "): {"median": value} for pair, value in times.items()}}

    found = {
        "views": {"2x224": case(ours_vs_lightly=5.0, ours_copies_vs_lightly=9.0), "2x96": case(ours_vs_lightly=4.0)},
        "steps": {"byol a": case(ours_vs_lightly=1.2), "byol b": case(ours_vs_lightly=1.1)},
    }
    assert headlines(found) == {"views_vs_lightly": 4.0, "views_copies_vs_lightly": 9.0, "step_vs_lightly_byol": 1.1}


def test_ways_take_turns():
    calls: list[str] = []
    seconds = alternate({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=2, warmup=1)
    assert "".join(calls) == "abcbcacab"
    assert {name: taken.shape for name, taken in seconds.items()} == {"a": (2,), "b": (2,), "c": (2,)}


def test_summary_gives_median_and_where_most_rounds_lie():
    assert summary(np.arange(101.0)) == {"median": 50.0, "p5": 5.0, "p95": 95.0}
