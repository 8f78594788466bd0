"""Looking at the store: listing, explaining, verifying, and what goes as garbage."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stages.store import Artifact, Key, Store, StoreError
from stages.store.inventory import ABSENT, collect, explain, garbage, listing, verify

ROOT = Path(__file__).parents[3]
AT_ONCE = timedelta(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def make(store: Store, step: str, config: dict[str, Any] | None = None, **inputs: Artifact) -> Artifact:
    key = Key(step, 1, config or {}, {name: artifact.version for name, artifact in inputs.items()})
    with store.build(key) as partial:
        (partial.path / "data.bin").write_bytes(b"0123456789" * 100)
        (partial.path / "more").mkdir()
        (partial.path / "more" / "small.bin").write_bytes(b"x")
        return partial.publish({})


def leave_unfinished(store: Store, key: Key) -> Path:
    with store.build(key, force=True) as partial:  # what is not published is what a crash leaves
        (partial.path / "half.bin").write_bytes(b"half")
    return store.path(key.step, key.version, "partial")


def names(store: Store) -> set[str]:
    return {f"{entry.step}/{entry.path.name}" for entry in store.entries()}


# --- listing


def test_an_empty_store_is_no_error(store: Store) -> None:
    assert listing(store) == []
    assert verify(store) == []
    assert garbage(store).paths == ()
    assert collect(store, garbage(store)).paths == ()


def test_the_listing_says_what_is_there_and_who_uses_it(store: Store) -> None:
    catalog = make(store, "catalog")
    used = make(store, "retrieval", {"neighbors": 10}, catalog=catalog)
    broken = make(store, "retrieval", {"neighbors": 20})
    broken.file("data.bin").unlink()
    key = Key("regions", 1, {}, {"catalog": catalog.version})
    leave_unfinished(store, key)
    store.link("coco", "retrieval", used)
    store.link("voc", "retrieval", used)
    store.pin(catalog)

    rows = {(row.step, row.version): row for row in listing(store)}
    assert len(rows) == 4
    assert [row.state for row in listing(store, "retrieval")].count("ok") == 1
    row = rows["retrieval", used.version]
    assert (row.state, row.configs, row.pinned, row.holder, row.problem) == ("ok", ("coco", "voc"), False, None, None)
    assert row.bytes == 1001 + (used.path / "manifest.json").stat().st_size
    assert row.created == used.manifest["end"]
    assert rows["catalog", catalog.version].pinned
    row = rows["retrieval", broken.version]
    assert row.state == "damaged"
    assert row.problem is not None
    assert "data.bin: expected 1000 bytes, found no such file" in row.problem
    row = rows["regions", key.version]
    assert (row.state, row.bytes, row.holder) == ("partial", 4, None)
    assert row.created is not None
    with store.build(key):
        row = next(row for row in listing(store) if row.state == "partial")
        assert row.holder is not None
        assert f"process {os.getpid()} on " in row.holder


# --- explain


def test_explain_names_the_fields_that_differ_from_the_nearest_version(store: Store) -> None:
    first, second = make(store, "catalog", {"min_side": 1}), make(store, "catalog", {"min_side": 2})
    make(store, "retrieval", {"neighbors": 5, "crop": {"side": 100, "resize": 120}}, catalog=second)
    near = make(store, "retrieval", {"neighbors": 10, "crop": {"side": 224, "resize": 256}}, catalog=first)

    def differences(config: dict[str, Any], version: int = 1, **inputs: str) -> list[tuple[str, str, Any, Any]]:
        found = explain(store, Key("retrieval", version, config, inputs or {"catalog": first.version}))
        assert found.artifact is None
        assert found.nearest == near
        return [(item.kind, item.field, item.theirs, item.ours) for item in found.differences]

    crop = {"side": 224, "resize": 256}
    assert differences({"neighbors": 20, "crop": crop}) == [("config", "retrieval.neighbors", 10, 20)]
    assert differences({"neighbors": 10, "crop": {"side": 225, "resize": 256}}) == [
        ("config", "retrieval.crop.side", 224, 225)
    ]
    assert differences({"neighbors": 10, "crop": crop, "new": True}) == [("config", "retrieval.new", ABSENT, True)]
    assert differences({"crop": crop}) == [("config", "retrieval.neighbors", 10, ABSENT)]
    assert differences({"neighbors": 10, "crop": crop}, 2) == [("code", "retrieval.VERSION", 1, 2)]
    assert differences({"neighbors": 10, "crop": crop}, catalog=second.version) == [
        ("input", "catalog", first.version, second.version)
    ]
    assert differences({"neighbors": 10, "crop": crop}, catalog=first.version, encoder="a" * 12) == [
        ("input", "encoder", ABSENT, "a" * 12)
    ]


def test_explain_tells_true_from_one(store: Store) -> None:
    make(store, "retrieval", {"fast": 1})
    found = explain(store, Key("retrieval", 1, {"fast": True}, {}))
    assert [str(item) for item in found.differences] == ["retrieval.fast: 1 there, True now"]


def test_explain_prefers_the_newest_of_equally_near_versions(store: Store) -> None:
    newest = None
    for neighbors, year in ((5, 2020), (10, 2030), (15, 2025)):
        artifact = make(store, "retrieval", {"neighbors": neighbors})
        manifest = artifact.path / "manifest.json"
        manifest.write_text(manifest.read_text().replace(f'"end": "{artifact.manifest["end"][:4]}', f'"end": "{year}'))
        newest = artifact if year == 2030 else newest
    assert explain(store, Key("retrieval", 1, {"neighbors": 20}, {})).nearest == newest


def test_explain_says_cached_first_of_its_kind_and_damaged(store: Store) -> None:
    key = Key("retrieval", 1, {"neighbors": 10}, {})
    assert explain(store, key).summary.endswith("no version of this step yet")
    leave_unfinished(store, key)
    assert explain(store, key).resumable
    artifact = make(store, "retrieval", {"neighbors": 10})
    found = explain(store, key)
    assert (found.artifact, found.problems, found.nearest, found.differences) == (artifact, (), None, ())
    assert found.summary.endswith("is cached")

    artifact.file("data.bin").write_bytes(b"short")
    found = explain(store, key)
    assert found.artifact is None
    assert [(problem.file, problem.expected, problem.found) for problem in found.problems] == [
        ("data.bin", "1000 bytes", "5 bytes")
    ]
    assert "is damaged" in found.summary


# --- verify


def test_verify_names_what_is_wrong_and_tells_its_progress(store: Store) -> None:
    sound, flipped, short = (make(store, "retrieval", {"neighbors": number}) for number in (1, 2, 3))
    assert verify(store) == []
    content = bytearray(flipped.file("data.bin").read_bytes())
    content[500] ^= 1
    flipped.file("data.bin").write_bytes(content)
    (sound.path / "more" / "extra.txt").write_text("?")
    short.file("data.bin").write_bytes(b"1")

    calls: list[tuple[int, int]] = []
    problems = {problem.path: problem for problem in verify(store, progress=lambda *call: calls.append(call))}
    assert set(problems) == {sound.path, flipped.path, short.path}
    assert problems[flipped.path].file == "data.bin"
    expected = next(file["sha256"] for file in flipped.manifest["files"] if file["name"] == "data.bin")
    assert problems[flipped.path].expected == f"SHA-256 {expected}"
    assert problems[flipped.path].found != expected
    assert problems[sound.path].file == "more/extra.txt"
    assert problems[short.path].found == "1 bytes"
    assert calls[-1] == (2002, 2002)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert [problem.path for problem in verify(store, "retrieval", flipped.version)] == [flipped.path]
    with pytest.raises(StoreError, match="has no regions"):
        verify(store, "regions")


# --- garbage


def test_what_latest_and_pins_reach_is_kept_with_all_its_inputs(store: Store) -> None:
    catalog = make(store, "catalog")
    encoder = make(store, "image_pretraining", catalog=catalog)
    used = make(store, "retrieval", catalog=catalog, encoder=encoder)
    old_catalog = make(store, "catalog", {"min_side": 9})
    pinned = make(store, "regions", catalog=old_catalog)
    unused = make(store, "regions", {"mode": "fast"}, catalog=old_catalog)
    unused_catalog = make(store, "catalog", {"min_side": 1})
    unused_too = make(store, "regions", {"mode": "fast"}, catalog=unused_catalog)
    store.link("coco", "retrieval", used)
    store.pin(pinned)

    before = names(store)
    found = garbage(store)
    assert set(found.paths) == {unused.path, unused_catalog.path, unused_too.path}
    assert found.bytes == sum(row.bytes for row in listing(store) if row.path in found.paths)
    assert set(found.why.values()) == {"neither a latest link nor a pin reaches it"}
    assert names(store) == before, "looking removes nothing"

    gone = collect(store, found)
    assert (set(gone.paths), gone.bytes) == (set(found.paths), found.bytes)
    assert set(store.artifacts()) == {catalog, encoder, used, old_catalog, pinned}
    assert garbage(store).paths == ()


def test_left_overs_go_and_recent_unfinished_work_stays(store: Store) -> None:
    catalog = make(store, "catalog")
    recent = Key("regions", 1, {"mode": "fast"}, {"catalog": catalog.version})
    leave_unfinished(store, recent)
    stale = leave_unfinished(store, Key("regions", 1, {"mode": "quality"}, {}))
    month_ago = time.time() - 30 * 86400
    for path in (stale / "half.bin", stale):
        os.utime(path, (month_ago, month_ago))
    made = make(store, "retrieval")
    store.link("coco", "retrieval", made)
    leave_unfinished(store, made.key)  # a forced run that failed: it would begin anew
    made.path.with_name(f"{made.version}.old").mkdir()
    made.path.with_name(f"{made.version}.damaged-1").mkdir()
    (made.path.parent / f"{'e' * 12}.lock").write_text("{}")
    (made.path.parent / "notes.txt").write_text("mine")

    found = garbage(store)
    assert {path.name: why for path, why in found.why.items()} == {
        stale.name: "unfinished, and nobody went on with it",
        f"{made.version}.partial": "unfinished, and made meanwhile",
        f"{made.version}.old": "replaced by a newer one",
        f"{made.version}.damaged-1": "damaged, and moved aside",
        f"{'e' * 12}.lock": "a lock that nobody holds",
    }
    collect(store, found)
    assert names(store) == {
        f"catalog/{catalog.version}",
        f"retrieval/{made.version}",
        f"regions/{recent.version}.partial",
        f"regions/{recent.version}.lock",
    }
    assert (made.path.parent / "notes.txt").exists()
    collect(store, garbage(store, keep_partials=AT_ONCE))
    collect(store, garbage(store))  # now that the unfinished work is gone, so is the need for its input
    assert names(store) == {f"retrieval/{made.version}"}


def test_nothing_that_somebody_works_on_goes_nor_what_it_is_made_from(store: Store, tmp_path: Path) -> None:
    catalog = make(store, "catalog")
    encoder = make(store, "image_pretraining", catalog=catalog)
    code = f"""
import time
from stages.store import Key, Store
key = Key("retrieval", 1, {{}}, {{"encoder": "{encoder.version}"}})
with Store({str(store.root)!r}).build(key) as partial:
    (partial.path / "half.bin").write_bytes(b"half")
    time.sleep(60)
"""
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        partial = store.path("retrieval", Key("retrieval", 1, {}, {"encoder": encoder.version}).version, "partial")
        deadline = time.monotonic() + 20
        while not (partial / "half.bin").exists():
            assert time.monotonic() < deadline, "the worker did not begin"
            time.sleep(0.01)
        assert garbage(store, keep_partials=AT_ONCE).paths == ()
    finally:
        worker.kill()
        worker.wait()
    found = garbage(store, keep_partials=AT_ONCE)
    assert {path.parent.name for path in found.paths} == {"catalog", "image_pretraining", "retrieval"}
    collect(store, found)
    assert names(store) == set()


def test_what_came_to_be_used_meanwhile_stays(store: Store) -> None:
    linked, held = make(store, "retrieval", {"neighbors": 1}), make(store, "retrieval", {"neighbors": 2})
    half = leave_unfinished(store, Key("regions", 1, {}, {}))
    found = garbage(store, keep_partials=AT_ONCE)
    assert set(found.paths) == {linked.path, held.path, half}
    store.link("coco", "retrieval", linked)
    later = time.time() + 10
    os.utime(half / "half.bin", (later, later))
    with store.lock(held.step, held.version):
        assert collect(store, found).paths == ()
    assert set(store.artifacts()) == {linked, held}
    assert half.is_dir()


def test_a_damaged_artifact_in_use_keeps_its_inputs(store: Store) -> None:
    catalog = make(store, "catalog")
    used = make(store, "retrieval", catalog=catalog)
    store.link("coco", "retrieval", used)
    used.file("data.bin").unlink()
    assert garbage(store).paths == ()
