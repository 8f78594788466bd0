"""Section `exchange`: files of ORL's official code."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from stages.config.section import Place, Section, runtime


class Exchange(Section):
    """JSON files of ORL's official code that are used instead of making what they hold, see docs/exchange.md."""

    neighbors: Place | None = runtime(None, description="train2017_10nn_instance.json, instead of retrieval")
    proposals: Place | None = runtime(None, description="the selective search boxes, instead of regions")
    order: Place | None = runtime(
        None,
        description="which photo is at which place of `proposals`: train2017.txt, or a file with images.file_name; "
        "null: as in `neighbors`",
    )
    correspondence: Place | None = runtime(
        None, description="the correspondence, instead of retrieval, regions, roi_features and correspondence"
    )

    @property
    def order_of_proposals(self) -> Path | None:
        return self.order or self.neighbors

    @model_validator(mode="after")
    def _fit(self) -> Exchange:
        if self.proposals is not None and self.order_of_proposals is None:
            raise ValueError(
                "`proposals` holds no names of photos: give `order`, the text file of names it was made from, or "
                "`neighbors`"
            )
        if self.order is not None and self.proposals is None:
            raise ValueError("`order` says which photo is at which place of `proposals`: give both or neither")
        if self.correspondence is not None and (self.proposals is not None or self.neighbors is not None):
            raise ValueError("`correspondence` holds neighbours and boxes, too: leave `neighbors` and `proposals` out")
        return self
