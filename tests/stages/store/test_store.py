"""The store: what is found is whole, what is made is made once, what crashes can be resumed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stages.store import Artifact, Busy, Damaged, DiskFull, Key, Store, StoreError, open_artifact

ROOT = Path(__file__).parents[3]

# A builder in a process of its own: it notes that it works, waits for a file named `go`, and publishes.
BUILDER = """
import sys, time
from pathlib import Path
from stages.store import Key, Store
root, wait = Path(sys.argv[1]), sys.argv[2] == "wait"
with Store(root / "store").build(Key("retrieval", 1, {"neighbors": 10}, {}), wait=wait) as partial:
    if partial.artifact is None:
        with (root / "worked").open("a") as worked:
            worked.write("x")
        (partial.path / "half.bin").write_bytes(b"half")
        while not (root / "go").exists():
            time.sleep(0.01)
        (partial.path / "rest.bin").write_bytes(b"rest")
        partial.publish({})
"""
KEY = Key("retrieval", 1, {"neighbors": 10}, {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def make(store: Store, key: Key = KEY, files: Mapping[str, bytes] | None = None, **options: Any) -> Artifact:
    with store.build(key, **options) as partial:
        if partial.artifact is None:
            for name, content in (files or {"table.bin": b"0123456789", "plots/a.png": b"png"}).items():
                (partial.path / name).parent.mkdir(parents=True, exist_ok=True)
                (partial.path / name).write_bytes(content)
            partial.publish({"images": 3})
    assert partial.artifact is not None
    return partial.artifact


def start(tmp_path: Path, wait: str = "wait") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(tmp_path), wait]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class Crash(Exception):
    """Ends the body of a `build` as an error in a step would."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_artifact_is_found_with_its_files_and_its_provenance(store: Store) -> None:
    inputs = {"catalog": "c" * 12}
    key = Key("regions", 3, {"mode": "fast", "scale": 1.0}, inputs)
    assert store.find(key) is None
    made = make(store, key, seed=7, device="cpu")

    found = store.find(key)
    assert found == made == store.get("regions", key.version)
    assert found is not None
    assert found.path == store.root / "regions" / key.version
    assert (found.step, found.version, found.inputs, found.metrics) == ("regions", key.version, inputs, {"images": 3})
    assert found.key == key
    assert found.file("table.bin").read_bytes() == b"0123456789"
    assert found.file("plots").is_dir()
    manifest = json.loads((found.path / "manifest.json").read_text())
    assert manifest["files"] == [
        {"name": "plots/a.png", "bytes": 3, "sha256": hashlib.sha256(b"png").hexdigest()},
        {"name": "table.bin", "bytes": 10, "sha256": hashlib.sha256(b"0123456789").hexdigest()},
    ]
    assert (manifest["schema"], manifest["seed"], manifest["device"], manifest["attempts"]) == (1, 7, "cpu", 1)
    assert manifest["libraries"]["numpy"]
    assert manifest["start"] <= manifest["end"]
    assert manifest["start"].endswith("+00:00")
    assert 0 <= manifest["seconds"] < 60
    assert manifest["peak_memory_bytes"] > 2**20
    assert names(found.path.parent) == [key.version], "no lock and no partial directory stay behind"


def test_a_cached_artifact_gives_no_place_to_work_in(store: Store) -> None:
    make(store)
    with store.build(KEY) as partial:
        assert partial.artifact is not None
        with pytest.raises(StoreError, match="is there already"):
            _ = partial.path


def test_readers_never_see_half_an_artifact(store: Store) -> None:
    path = store.path("retrieval", KEY.version)
    whole: list[bool] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            if path.exists():
                whole.append(store.find(KEY) is not None)

    reader = threading.Thread(target=read)
    reader.start()
    make(store, files={f"{number:03}.bin": os.urandom(1000) for number in range(200)})
    until(lambda: whole)
    done.set()
    reader.join()
    assert all(whole)


def test_work_that_failed_is_resumed(store: Store) -> None:
    with suppress(Crash), store.build(KEY) as partial:
        (partial.path / "first.bin").write_bytes(b"first")
        raise Crash
    assert store.find(KEY) is None
    with store.build(KEY) as partial:
        assert names(partial.path) == ["first.bin"]
        (partial.path / "second.bin").write_bytes(b"second")
        artifact = partial.publish({})
    assert [file["name"] for file in artifact.manifest["files"]] == ["first.bin", "second.bin"]
    assert artifact.manifest["attempts"] == 2


def test_the_time_of_killed_attempts_counts(tmp_path: Path, store: Store) -> None:
    builder = start(tmp_path)
    half = store.path("retrieval", KEY.version, "partial") / "half.bin"
    until(half.exists)
    builder.kill()
    builder.communicate()
    os.utime(half, (time.time() + 1000, time.time() + 1000))
    manifest = make(store).manifest
    assert manifest["attempts"] == 2
    assert manifest["seconds"] == pytest.approx(1000, abs=30)


def test_a_builder_that_is_killed_leaves_no_lock(tmp_path: Path, store: Store) -> None:
    builder = start(tmp_path)
    until((store.path("retrieval", KEY.version, "partial") / "half.bin").exists)
    assert store.is_held("retrieval", KEY.version)
    os.kill(builder.pid, signal.SIGKILL)
    builder.communicate()
    assert store.find(KEY) is None
    assert not store.is_held("retrieval", KEY.version)
    (tmp_path / "go").touch()
    again = start(tmp_path, "refuse")
    assert again.communicate()[1] == ""
    assert store.find(KEY) is not None
    assert (tmp_path / "worked").read_text() == "xx"


def test_of_two_processes_one_works_and_the_other_gets_the_artifact(tmp_path: Path, store: Store) -> None:
    builders = [start(tmp_path) for _ in range(3)]
    until((tmp_path / "worked").exists)
    time.sleep(0.5)  # for the others to come to the lock; the result must not depend on it
    (tmp_path / "go").touch()
    for builder in builders:
        builder.communicate(timeout=30)
        assert builder.returncode == 0
    assert (tmp_path / "worked").read_text() == "x"
    assert names(store.root / "retrieval") == [KEY.version]


def test_a_lock_has_one_holder_though_each_removes_its_file(store: Store) -> None:
    inside: list[int] = []
    together: list[int] = []

    def hold() -> None:
        for _ in range(50):
            with store.lock("retrieval", KEY.version):
                inside.append(1)
                time.sleep(0.0005)
                together.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [1] * 300
    assert store.entries() == []


def test_who_does_not_wait_is_told_who_works(tmp_path: Path, store: Store) -> None:
    builder = start(tmp_path)
    until((store.path("retrieval", KEY.version, "partial") / "half.bin").exists)
    with pytest.raises(Busy, match=f"process {builder.pid} on "), store.build(KEY, wait=False):
        pass
    (tmp_path / "go").touch()
    builder.communicate()
    assert store.find(KEY) is not None


def test_who_waits_is_told_once_for_whom(tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    builder = start(tmp_path)
    until((store.path("retrieval", KEY.version, "partial") / "half.bin").exists)
    threading.Timer(0.3, (tmp_path / "go").touch).start()
    with caplog.at_level(logging.INFO), store.build(KEY) as partial:
        assert partial.artifact is not None
    builder.communicate()
    assert [record.getMessage() for record in caplog.records if "waiting" in record.getMessage()] == [
        message for message in caplog.messages if f"by process {builder.pid} on " in message
    ]
    assert sum("waiting for retrieval/" in message for message in caplog.messages) == 1


def _missing(path: Path) -> None:
    (path / "table.bin").unlink()


def _truncated(path: Path) -> None:
    (path / "table.bin").write_bytes(b"012")


def _broken_json(path: Path) -> None:
    (path / "manifest.json").write_text('{"schema": 1, "step"')


def _other_schema(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))


def _no_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def _other_key(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["key"]["config"]["neighbors"] = 11
    (path / "manifest.json").write_text(json.dumps(manifest))


def _outside(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][0]["name"] = "../../../other"
    (path / "manifest.json").write_text(json.dumps(manifest))


DAMAGES = {
    _missing: "table.bin: expected 10 bytes, found no such file",
    _truncated: "table.bin: expected 10 bytes, found 3 bytes",
    _broken_json: "manifest.json: expected JSON",
    _other_schema: "expected schema 1, found schema 99",
    _no_manifest: "expected a manifest, found No such file",
    _other_key: "expected the manifest of retrieval/",
    _outside: "expected names inside the artifact",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_artifact_is_not_used_and_is_moved_aside(
    store: Store, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = make(store).path
    for number in (1, 2):
        damage(path)
        assert store.find(KEY) is None
        assert store.artifacts() == []
        with pytest.raises(Damaged) as error:
            store.get("retrieval", KEY.version)
        assert DAMAGES[damage] in str(error.value)
        make(store)
        assert store.find(KEY) is not None
        assert (path.parent / f"{KEY.version}.damaged-{number}").is_dir()
    assert "was damaged: moved to" in caplog.text


@pytest.mark.parametrize("content", [b"[]", b"null", b"\xff\xfe", b'{"schema": 1}', b'{"schema": 1, "key": 3}', b""])
def test_no_manifest_whatever_it_says_breaks_the_reader(store: Store, content: bytes) -> None:
    (make(store).path / "manifest.json").write_bytes(content)
    assert store.find(KEY) is None


def test_force_makes_it_anew_and_keeps_the_old_one_until_then(store: Store) -> None:
    path = make(store).path
    with store.build(KEY, force=True) as partial:
        assert names(partial.path) == []
        (partial.path / "new.bin").write_bytes(b"new")
        assert store.get("retrieval", KEY.version).file("table.bin").is_file()
        partial.publish({})
    assert names(path) == ["manifest.json", "new.bin"]
    assert names(path.parent) == [KEY.version]


def test_force_that_fails_leaves_the_old_one(store: Store) -> None:
    make(store)
    for _ in range(2):
        with suppress(Crash), store.build(KEY, force=True) as partial:
            assert names(partial.path) == []
            (partial.path / "half.bin").write_bytes(b"half")
            raise Crash
    assert store.get("retrieval", KEY.version).file("table.bin").is_file()


def test_scratch_is_there_for_the_next_attempt_and_not_in_the_artifact(store: Store) -> None:
    with suppress(Crash), store.build(KEY) as partial:
        (partial.path / "scratch").mkdir()
        (partial.path / "scratch" / "checkpoint").write_bytes(b"state")
        raise Crash
    with store.build(KEY) as partial:
        assert (partial.path / "scratch" / "checkpoint").read_bytes() == b"state"
        (partial.path / "deep" / "scratch").mkdir(parents=True)
        (partial.path / "deep" / "scratch" / "kept").write_bytes(b"kept")
        artifact = partial.publish({})
    assert names(artifact.path) == ["deep", "manifest.json"]
    assert artifact.file("deep/scratch/kept").is_file()


def test_a_crash_between_the_manifest_and_the_rename_loses_nothing(store: Store) -> None:
    path = make(store).path
    path.rename(path.with_name(f"{KEY.version}.partial"))
    (path.with_name(f"{KEY.version}.partial") / "scratch").mkdir()
    assert store.find(KEY) is None
    with store.build(KEY) as partial:
        assert partial.artifact is not None
    assert names(path) == ["manifest.json", "plots", "table.bin"]


def test_a_manifest_in_unfinished_work_is_not_believed_when_files_lack(store: Store) -> None:
    path = make(store).path.rename(store.path("retrieval", KEY.version, "partial"))
    (path / "table.bin").unlink()
    with store.build(KEY) as partial:
        assert partial.artifact is None
        assert names(partial.path) == ["plots"]


def test_what_cannot_be_part_of_an_artifact_is_refused(store: Store) -> None:
    with store.build(KEY) as partial:
        with pytest.raises(StoreError, match="wrote no file"):
            partial.publish({})
        (partial.path / "table.bin").write_bytes(b"1")
        with pytest.raises(ValueError, match=r"metric recall\.at is .* a set"):
            partial.publish({"recall": {"at": {1}}})
        (partial.path / "link").symlink_to("/etc/hostname")
        with pytest.raises(StoreError, match="not a plain file"):
            partial.publish({})
        (partial.path / "link").unlink()
        (partial.path / "link").symlink_to("/tmp")
        with pytest.raises(StoreError, match="not a plain file"):
            partial.publish({})
        (partial.path / "link").unlink()
        (partial.path / "manifest.json").write_text("{}")
        with pytest.raises(StoreError, match="that name is the store's"):
            partial.publish({})
    assert store.find(KEY) is None


def test_metrics_that_are_not_finite_become_null(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with store.build(KEY) as partial:
        (partial.path / "x").write_bytes(b"x")
        partial.publish({"loss": [float("nan"), 1.5], "accuracy": 1.0})
    assert store.get("retrieval", KEY.version).metrics == {"loss": [None, 1.5], "accuracy": 1.0}
    assert "loss[0] is nan" in caplog.text


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, the device that is always full")
def test_a_full_disk_is_explained_and_the_work_is_kept(store: Store) -> None:
    def write_too_much() -> None:
        with store.build(KEY) as partial:
            (partial.path / "first.bin").write_bytes(b"first")
            Path("/dev/full").write_bytes(b"x")

    with pytest.raises(DiskFull, match=r"[\d,]+ bytes are free in .*`orl gc`"):
        write_too_much()
    with store.build(KEY) as partial:
        assert names(partial.path) == ["first.bin"]


def test_latest_links_are_relative_replaced_and_skipped_when_dangling(store: Store, tmp_path: Path) -> None:
    first, second = make(store), make(store, Key("retrieval", 1, {"neighbors": 20}, {}))
    other = make(store, Key("regions", 1, {}, {}))
    store.link("coco", "retrieval", first)
    store.link("coco", "regions", other)
    store.link("coco", "retrieval", second)
    link = store.root / "latest" / "coco" / "retrieval"
    assert os.readlink(link) == f"../../retrieval/{second.version}"
    assert names(link.parent) == ["regions", "retrieval"]
    assert store.latest("coco") == {"retrieval": second, "regions": other}
    moved = store.root.rename(tmp_path / "moved")
    assert open_artifact("retrieval", "coco", moved).path == moved / "retrieval" / second.version
    (moved / "regions" / other.version).rename(tmp_path / "gone")
    assert set(Store(moved).latest("coco")) == {"retrieval"}
    with pytest.raises(StoreError, match=r"'regions' for the config 'coco'.* there are: retrieval. .*ran: coco"):
        open_artifact("regions", "coco", moved)


def test_pins_can_be_set_and_undone(store: Store) -> None:
    artifact = make(store)
    store.pin(artifact)
    assert store.pinned() == {("retrieval", KEY.version)}
    store.unpin("retrieval", KEY.version)
    assert store.pinned() == set()
    with pytest.raises(StoreError, match="is not pinned"):
        store.unpin("retrieval", KEY.version)


@pytest.mark.parametrize("name", ["..", ".", "", "../up", "a/b", "/etc", ".hidden", "a\0b", "a b", "a\n"])
def test_names_cannot_lead_out_of_the_store(store: Store, name: str) -> None:
    artifact = make(store)
    with pytest.raises(StoreError):
        store.link(name, "retrieval", artifact)
    with pytest.raises(StoreError):
        store.link("coco", name, artifact)
    with pytest.raises(StoreError):
        store.latest(name)
    with pytest.raises(StoreError):
        store.get(name, artifact.version)
    with pytest.raises(StoreError):
        store.get("retrieval", name)
    with pytest.raises(StoreError):
        store.artifacts(name)
    with pytest.raises(StoreError):
        artifact.file(name)


def test_links_that_lead_elsewhere_are_ignored(store: Store, tmp_path: Path) -> None:
    artifact = make(store)
    stranger = make(Store(tmp_path / "other"))
    with pytest.raises(StoreError, match="is not in"):
        store.link("coco", "retrieval", stranger)
    store.link("coco", "retrieval", artifact)
    (store.root / "latest" / "coco" / "stranger").symlink_to(stranger.path)
    assert set(store.latest("coco")) == {"retrieval"}


def test_a_damaged_lock_record_does_no_harm(store: Store) -> None:
    with pytest.raises(Crash), store.build(KEY):
        raise Crash
    store.path("retrieval", KEY.version, "lock").write_bytes(b'{"pid": 1, "att')
    assert make(store).manifest["attempts"] == 1


def test_the_store_is_imported_without_heavy_libraries() -> None:
    heavy = "{'torch', 'numpy', 'pandas', 'prefect'}"
    code = f"import sys, stages.store, stages.store.inventory; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
