"""What is asked of an evaluation: refused before anything runs where it can't be carried out."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.evaluate import prepare_evaluation

SMALL = "small=random:conv4"


@pytest.mark.parametrize(
    ("encoders", "suite", "protocols", "overrides", "message"),
    [
        ([SMALL], "scenes", ["kn"], [], "no protocol kn"),
        ([SMALL, "small=random:resnet18"], "scenes", None, [], "called 'small'"),
        ([SMALL], "scenes", None, ["knn.neighbor=3"], "Did you mean neighbors"),
        ([SMALL], "sceens", None, [], "Did you mean scenes"),
        (["demo/nothing"], "scenes", None, [], "there is no encoder.safetensors in demo/nothing"),
        ([SMALL], "voc", None, ["dataset.root=/nowhere"], "/nowhere does not exist.*VOCtrainval_06-Nov-2007.tar"),
        ([SMALL], "coco", None, [], "data/coco/train2017 does not exist.*cocodataset.org"),
    ],
)
def test_what_cannot_be_done(
    encoders: list[str],
    suite: str,
    protocols: list[str] | None,
    overrides: list[str],
    message: str,
    artifacts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        prepare_evaluation(encoders, suite, protocols, overrides, tiny=False)


def test_the_suite_is_named_by_its_file(artifacts: Path) -> None:
    name, settings, planned = prepare_evaluation([SMALL], "scenes", ["knn"], ["run.seed=4"], tiny=True)
    assert name == "evaluate-scenes-tiny"
    assert planned.plan.nodes["knn.small"].seed == settings.run.seed == 4
    assert planned.plan.nodes["features_test.small"].arguments["encoder"]["seed"] == 4
