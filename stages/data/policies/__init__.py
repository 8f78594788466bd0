"""What each method is shown of one photo: which views, of which boxes. Plain numbers; see `stages.data.views`."""

from stages.data.policies.image_views import ImageViews
from stages.data.policies.masked_views import MaskedViews
from stages.data.policies.object_crops import ObjectCrops
from stages.data.policies.orl_views import OrlViews
from stages.data.policies.policy import Policy

__all__ = ["ImageViews", "MaskedViews", "ObjectCrops", "OrlViews", "Policy"]
