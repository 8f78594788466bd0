"""The recipes: each method with all the values of its paper.

Which method is trained is one field (`image_pretraining.method`, `object_pretraining.method`); what its paper says
about the optimizer, the views and the heads stands in a section of its own, so that changing the method changes all of
it.
"""

from stages.config.recipes.image_level import Byol, Densecl, Moco, Simclr
from stages.config.recipes.object_level import Crops, DetconB, DetconS, Orl
from stages.config.recipes.recipe import Optimization, Projector, Recipe

__all__ = [
    "Byol",
    "Crops",
    "Densecl",
    "DetconB",
    "DetconS",
    "Moco",
    "Optimization",
    "Orl",
    "Projector",
    "Recipe",
    "Simclr",
]
