"""The command `orl` as a user types it: real processes, their output and their exit status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from stages.store import Store
from stages.store.key import Key

ORL = str(Path(sys.executable).with_name("orl"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a photo step and what was made from it; only the first is linked."""
    store = Store(tmp_path / "artifacts")
    first = Key("catalog", 1, {"min_side": 32}, {})
    second = Key("retrieval", 1, {"neighbors": 5}, {"catalog": first.version})
    for key in (first, second):
        with store.build(key) as partial:
            (partial.path / "data.txt").write_text(key.step)
            partial.publish({})
    linked = store.find(first)
    assert linked is not None
    store.link("mine", "catalog", linked)
    return store.root


def orl(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ORL_ARTIFACTS": str(root)}
    done = subprocess.run([ORL, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def test_help_names_the_first_steps_without_loading_pytorch_or_prefect(root: Path) -> None:
    assert "--images DIR" in orl(root, "--help").stdout
    code = "import sys, flows.cli; flows.cli._parser(); print({'torch', 'prefect'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_ls_shows_what_is_there_and_who_uses_it(root: Path) -> None:
    shown = orl(root, "ls").stdout
    assert [line.split()[0] for line in shown.splitlines()[1:3]] == ["catalog", "retrieval"]
    assert "mine" in shown
    assert "2 versions" in shown
    assert "holds nothing yet" in orl(root / "empty", "ls").stdout


def test_verify_finds_a_changed_byte(root: Path) -> None:
    assert orl(root, "verify").returncode == 0
    next(root.glob("retrieval/*/data.txt")).write_text("retrievaL")
    done = orl(root, "verify")
    assert done.returncode == 1
    assert "data.txt" in done.stdout
    assert "1 problems" in done.stdout


def test_gc_deletes_what_nothing_uses_unless_it_is_a_dry_run_or_pinned(root: Path) -> None:
    version = next(root.glob("retrieval/*")).name
    assert f"retrieval/{version}" in orl(root, "gc", "--dry-run").stdout
    assert (root / "retrieval" / version).is_dir()
    assert orl(root, "pin", f"retrieval/{version}").returncode == 0
    assert "0 paths" in orl(root, "gc").stdout
    assert orl(root, "unpin", f"retrieval/{version}").returncode == 0
    orl(root, "gc")
    assert not (root / "retrieval" / version).exists()
    assert list(root.glob("catalog/*/manifest.json"))


@pytest.mark.parametrize("step_first", [True, False])
def test_explain_names_the_field_that_differs(root: Path, photos_dir: Path, step_first: bool) -> None:
    options = ["--images", str(photos_dir), "--set", "retrieval.neighbors=7"]
    words = ["retrieval", *options] if step_first else [*options, "retrieval"]
    shown = orl(root, "explain", "demo", *words).stdout
    assert "not cached" in shown
    assert "retrieval.neighbors: 5 there, 7 now" in shown


def test_config_prints_every_field_and_can_be_read_back(root: Path, tmp_path: Path) -> None:
    shown = orl(root, "config", "coco", "--set", "retrieval.neighbors=20").stdout
    assert "neighbors: 20" in shown
    again = tmp_path / "again.yaml"
    again.write_text(shown)
    assert orl(root, "config", str(again)).stdout == shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "dmeo"], "Did you mean demo?"),
        (["run", "demo", "--set", "retrieval.neigbors=3"], "Did you mean neighbors?"),
        (["run", "demo", "--until", "retrival"], "neither a stage nor a step"),
        (["run", "demo", "--images", "/nowhere/at/all"], "/nowhere/at/all"),
        (["run", "demo", "--tiny", "--images", "x"], "exclude each other"),
        (["pin", "retrieval"], "STEP/VERSION"),
        (["pin", "retrieval/0123456789ab"], "there is no retrieval/0123456789ab"),
        (["explain", "demo", "nothing"], "neither a stage nor a step"),
        (["explain"], "the following arguments are required: config"),
        (["rum", "demo"], "invalid choice: 'rum'"),
        (["config", "evaluation/vok"], "suite 'vok' is unknown. Did you mean voc?"),
        (["evaluate", "nothing/there", "--on", "scenes", "--out", "x"], "such as demo/object_pretraining"),
        (["export", "random:conv4", "--to", "timm", "--out", "x.pth"], "timm has no network 'conv4'"),
        (["export", "random:resnet18", "--to", "timm", "--out", "x.pth", "--tiny"], "takes an encoder"),
    ],
)
def test_mistakes_are_told_before_anything_runs(root: Path, arguments: list[str], message: str) -> None:
    done = orl(root, *arguments)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.flow
def test_a_folder_of_ones_own_with_bad_files_in_it(tmp_path: Path, photos_dir: Path) -> None:
    """Bad files are said and left out; too many stop the run with their reasons; nothing of it is a traceback."""
    photos = tmp_path / "my photos"
    shutil.copytree(photos_dir, photos)
    (photos / "notes.jpg").write_text("not a photo")
    Image.new("RGB", (8, 8)).save(photos / "icon.png")
    whole = next(photos.rglob("*.jpg")).read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    root = tmp_path / "artifacts"
    done = orl(root, "run", "demo", "--images", str(photos), "--until", "catalog")
    assert done.returncode == 1
    assert "dataset.max_rejected" in done.stderr
    assert "not an image" in done.stderr
    done = orl(root, "run", "demo", "--images", str(photos), "--until", "catalog", "--set", "dataset.max_rejected=0.5")
    assert done.returncode == 0, done.stderr
    assert "3 rejected" in done.stdout
    assert "8 photos" in done.stdout
