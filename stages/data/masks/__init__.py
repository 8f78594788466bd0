"""Masks of photos as data: label maps and stacks of masks, how they are stored, and `Masks`, which reads them.

Step `masks` makes them: `stages.correspondence.masks`.
"""

from stages.data.masks.storage import Masks

__all__ = ["Masks"]
