"""Versioned artifacts: keys, manifests, locks, and the store that finds, builds and publishes them.

Standard library only, so that a plan or a listing costs no import of PyTorch.
"""

from stages.store.key import Key
from stages.store.lock import Busy
from stages.store.manifest import Artifact, Damaged, StoreError
from stages.store.store import DiskFull, Store, open_artifact

__all__ = ["Artifact", "Busy", "Damaged", "DiskFull", "Key", "Store", "StoreError", "open_artifact"]
