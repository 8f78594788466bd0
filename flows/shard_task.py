"""What a worker of a cluster does with the shards of one task. Runs on any machine that sees the artifacts."""

from __future__ import annotations

import functools
import hashlib
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import stages
from stages.process import use_one_thread
from stages.shards import Shard

Result = TypeVar("Result")


class WorkerError(RuntimeError):
    """Something went wrong on a worker; the message names its machine."""


def work_through(
    work: Callable[[Shard], Result], shards: Sequence[Shard], sign: Path, code: str | None
) -> list[Result]:
    """`work(shard)` for each of `shards`, for as long as somebody waits for them.

    Args:
        sign: an empty file beside the shards that is there while the run is. Nobody can interrupt a task that a
            cluster has begun, so the task looks by itself.
        code: the `code_version` that the results have to come from; None where it can be no other.

    Raises:
        WorkerError: this machine does not see the artifacts, or has other code; or `work` failed.
        OSError: `work` failed for a reason that may pass.
    """
    host = socket.gethostname()
    if not sign.exists():
        raise WorkerError(
            f"the worker on {host} does not see {sign.parent}: all machines need the folder of artifacts on one shared "
            "file system, under the same path. Mount it there, or start the run with ORL_ARTIFACTS on one that is."
        )
    if code is not None and code != code_version():
        raise WorkerError(
            f"the worker on {host} has other code in {Path(stages.__path__[0])} than the machine that started the run: "
            "bring both to the same commit and start the workers again."
        )
    use_one_thread()
    results = []
    for shard in shards:
        if not sign.exists():
            raise WorkerError(f"the run that wanted {shard.path} has ended.")
        try:
            results.append(work(shard))
        except Exception as error:
            raise _located(error, host) from error
    return results


@functools.cache
def code_version() -> str:
    """Digest of the Python files of `stages`, as they were when this process first asked."""
    folder = Path(stages.__path__[0])
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _located(error: Exception, host: str) -> Exception:
    """The same error, saying where. What the system reports keeps its number: some of it passes, some has a remedy."""
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, f"on {host}: {error.strerror}", *([error.filename] if error.filename else []))
    return WorkerError(f"on {host}: {str(error) or type(error).__name__}")
