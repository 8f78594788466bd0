"""The sections of stages 2 and 3: neighbours, regions, masks, features of regions, and pairs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.config.section import Place, Positive, Range, Section, Share, runtime

Similarity = Annotated[float, Field(ge=-1, le=1)]


class Retrieval(Section):
    neighbors: Positive = Field(10, description="K, ORL section 3.2")
    resize: Positive = Field(256, description="shorter side before the central crop; pixels")
    crop: Positive = 224
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the network; auto: bf16 where the machine has units for it"
    )
    index: Literal["auto", "exact", "ivf", "hnsw"] = Field(
        "auto", description="how neighbours are searched; auto: exact up to `exact_up_to` photos, then ivf"
    )
    exact_up_to: Positive = Field(2_000_000, description="photos up to which `auto` searches exactly")
    ivf_probes: Positive = Field(32, description="ivf: lists looked into, out of about 4 sqrt(N)")
    hnsw_links: Positive = Field(32, description="hnsw: links a photo (M)")
    hnsw_search: Positive = Field(128, description="hnsw: width of the search (efSearch)")
    recall_sample: Positive = Field(1000, description="ivf, hnsw: photos searched exactly, too, to measure the recall")
    max_similarity: Similarity | None = Field(
        None, description="photos more alike than this are near-duplicates and no neighbours; null: they are, as in ORL"
    )
    batch_size: Positive = runtime(256)
    compile: bool | None = runtime(None, description="torch.compile the network; null: where it pays")


class SelectiveSearch(Section):
    """Our own implementation (Uijlings et al. 2013, with OpenCV's strategies)."""

    mode: Literal["fast", "quality", "single"] = Field("fast", description="fast: the choice of ORL's official code")
    variant: Literal["default", "exact", "light"] = Field(
        "default", description="exact: OpenCV's texture; light: at half resolution"
    )


class OpencvSelectiveSearch(Section):
    mode: Literal["fast", "quality", "single"] = "fast"


class Bing(Section):
    models: Place | None = runtime(None, description="the folder of OpenCV's ObjNessB2W8*.yml.gz files")


class EdgeBoxes(Section):
    model: Place | None = runtime(
        None, description="OpenCV's structured-edges model (model.yml.gz); null: edges by the gradient"
    )
    alpha: float = Field(0.65, gt=0, lt=1, description="step of the sliding window, as an IoU (Zitnick & Dollar 2014)")
    beta: float = Field(0.75, gt=0, lt=1, description="IoU of its non-maximum suppression")
    max_proposals: Positive = 1000


class GridBoxes(Section):
    cells: tuple[Positive, ...] = Field((1, 2, 3, 4), description="the photo is cut into n x n boxes for each n")


class RandomBoxes(Section):
    count: Positive = 100
    scale: Range = Field((0.05, 0.8), description="area of a box, as a share of the photo")
    ratio: Range = Field((0.5, 2.0), description="width / height of a box")


class Learned(Section):
    """Clusters of the stage-1 encoder's features: label-free objects."""

    clusters: tuple[Positive, ...] = Field((4, 8, 16), description="k-means with each of these K, a photo at a time")
    side: Positive = Field(448, description="longer side at which the network sees a photo; pixels")


class Regions(Section):
    """Region proposals and the ORL filter (ORL, footnote 2; order and fallback: see docs/fidelity.md)."""

    proposals: Literal[
        "selective_search", "opencv_selective_search", "bing", "edge_boxes", "grid", "random", "ground_truth", "learned"
    ] = "selective_search"
    selective_search: SelectiveSearch = SelectiveSearch()
    opencv_selective_search: OpencvSelectiveSearch = OpencvSelectiveSearch()
    bing: Bing = Bing()
    edge_boxes: EdgeBoxes = EdgeBoxes()
    grid: GridBoxes = GridBoxes()
    random: RandomBoxes = RandomBoxes()
    learned: Learned = Learned()
    max_side: Positive | None = Field(
        None, description="search in a copy whose longer side is at most this; null: the photo as it is, as ORL does"
    )
    max_pixels: Positive = Field(
        4_000_000, description="larger photos are searched in a copy of this size, so that memory is bounded"
    )
    min_side: Positive = Field(96, description="smallest side of a box; pixels of the image that is searched")
    max_aspect: float = Field(3.0, ge=1, description="largest ratio of the sides of a box")
    max_iou: Share = Field(0.5, description="largest overlap with a box that was kept before")
    max_boxes: Annotated[int, Field(ge=1, le=32_767)] = 100  # boxes.parquet numbers them in 16 bits
    min_saliency: Share | None = Field(
        None, description="least mean saliency of a box, against cluttered backgrounds; null: no such filter, as in ORL"
    )

    @property
    def chosen(self) -> Section | None:
        """The section of the chosen proposals, None for those without settings. Nothing reads the others."""
        return getattr(self, self.proposals, None)


class FelzenszwalbMasks(Section):
    """Felzenszwalb & Huttenlocher 2004 as in scikit-image."""

    scales: tuple[Positive, ...] = Field((500, 1000, 1500), description="s; DetCon's three for COCO, 1000 for ImageNet")
    sigma: float = Field(0.8, ge=0)
    min_size: Positive | None = Field(None, description="smallest segment in pixels; null: the scale, as DetCon does")
    max_pixels: Positive = Field(
        4_000_000, description="larger photos are segmented in a copy of this size, so that memory is bounded"
    )


class GridMasks(Section):
    cells: tuple[Positive, ...] = Field(
        (5,), description="n x n squares for each n; 5 is the best of DetCon's figure 7"
    )


class SlicMasks(Section):
    segments: tuple[Positive, ...] = (100,)
    compactness: float = Field(10.0, gt=0)
    max_pixels: Positive = Field(
        4_000_000, description="larger photos are segmented in a copy of this size, so that memory is bounded"
    )


class MaskFiles(Section):
    """Masks that another program has made, such as MCG's."""

    folder: Place | None = runtime(None, description="one file a photo, see docs/masks.md")
    top: Positive = Field(16, description="masks with the highest scores that are kept (DetCon)")


class Masks(Section):
    """Segmentations of every photo. Made where a method needs them, or by `--until masks`."""

    method: Literal["felzenszwalb", "grid", "slic", "ground_truth", "files"] = Field(
        "felzenszwalb", description="the choice of DetCon's main results"
    )
    felzenszwalb: FelzenszwalbMasks = FelzenszwalbMasks()
    grid: GridMasks = GridMasks()
    slic: SlicMasks = SlicMasks()
    files: MaskFiles = MaskFiles()

    @property
    def chosen(self) -> Section | None:
        """The section of the chosen method, None for one without settings."""
        return getattr(self, self.method, None)

    @property
    def may_overlap(self) -> bool:
        """Whether a pixel may belong to several masks, or none."""
        return self.method in ("ground_truth", "files")

    @model_validator(mode="after")
    def _folder(self) -> Masks:
        if self.method == "files" and self.files.folder is None:
            raise ValueError("method 'files' needs `files.folder`, where the masks lie")
        return self


class RoiFeatures(Section):
    size: Positive = Field(224, description="side to which a RoI is resized; pixels")
    mode: Literal["crops", "feature_map"] = Field(
        "crops",
        description="crops: each RoI passes the network, as in ORL; feature_map: one pass a photo, then RoIAlign",
    )
    map_side: Positive = Field(640, description="feature_map: longer side at which the network sees a photo; pixels")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the network; auto: bf16 where the machine has units for it"
    )
    batch_size: Positive = runtime(256)
    compile: bool | None = runtime(None, description="torch.compile the network; null: where it pays")


class Correspondence(Section):
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="pairs kept with each neighbour, as a share")
    fraction_of: Literal["query_boxes", "matrix"] = Field(
        "query_boxes",
        description="of what: the photo's boxes (official code), or all pairs of boxes (the paper's words)",
    )
    mutual: bool = Field(False, description="keep a pair only if each box is the other's best match")
    unique: bool = Field(False, description="each box in at most one pair with a neighbour")
    min_similarity: Similarity | None = Field(
        None, description="keep no pair less alike; null: the best, however alike"
    )
    gallery_images: Positive = Field(24, description="photos shown in gallery.html")
