"""Starts a training step, in one process or in many: `python -m stages.launch PROCESSES REQUEST.json`.

PROCESSES is the number that train together on this machine, 0 for one a GPU. A single one is this very process, as if
`stages.execute` had been called; many are started by `torch.distributed.run`. The exit status means the same.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import torch

from stages.execute import FAILED, RESUMABLE
from stages.execute import main as execute
from stages.process import GRACE_SECONDS, die_with_parent, never_outlive_parent


def main() -> NoReturn:
    processes, request = int(sys.argv[1]) or max(1, torch.cuda.device_count()), sys.argv[2]
    if processes == 1:
        sys.argv = ["stages.execute", request]
        execute()
    die_with_parent()
    never_outlive_parent(GRACE_SECONDS)
    sys.exit(_launch(processes, request))


def _launch(processes: int, request: str) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as run

    try:
        run(["--standalone", f"--nproc-per-node={processes}", "-m", "stages.execute", request])
    except SignalException:
        return RESUMABLE  # it has passed the signal on, and the processes have saved what they had
    except ChildFailedError as error:
        failures = [failure.exitcode for failure in error.failures.values()]
        return RESUMABLE if RESUMABLE in failures else FAILED
    return 0


if __name__ == "__main__":
    main()
