"""Imported by the server process from which data workers are forked, and by nobody else: see `stages.data.workers`."""

import signal

# What workers need, loaded once: its memory is shared, and compiled code is ready.
import stages.data.loading
import stages.data.pixels
import stages.data.region_counts  # noqa: F401 - imported to be there when a worker starts

# Blocked rather than ignored: what is forked inherits that from its first moment on, and PyTorch's handlers in the
# workers do not undo it.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
