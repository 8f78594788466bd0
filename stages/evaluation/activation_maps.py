"""Step `activation_maps`: where encoders look, side by side on the same photos (as Xie et al. 2021, ORL, figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from PIL import Image
from torch import Tensor

from stages.data.catalog import Catalog, Roots
from stages.evaluation.encoders import open_backbone
from stages.evaluation.pictures import evenly_spread
from stages.learning.backbones import Backbone
from stages.learning.devices import resolve_device
from stages.report import Report

PICTURE_FILE, MAPS_FILE = "activation_maps.png", "activation_maps.npz"
Method = Literal["contribution", "energy", "attention"]

_INCHES = 2.4  # height of a photo in the picture
_SHOWN_SIDE = 480  # longer side of a photo in the picture; pixels
_OPACITY = 0.55
_SUGGESTED = 8


def run(
    *,
    out: Path,
    report: Report,
    encoders: Mapping[str, Mapping[str, Any]],
    test: Path,
    test_root: Roots,
    photos: Sequence[str],
    number: int,
    method: Method,
    size: int,
    device: str,
) -> None:
    """Writes `activation_maps.png`, a row a photo and a column an encoder, and `activation_maps.npz`: `photos` (P,) and
    `encoders` (E,), names, and `maps_0` to `maps_E-1`, each (P, h, w) float32 as the network gave them.

    Args:
        encoders: label -> arguments of `open_backbone`.
        photos: names in the catalog `test`; none: `number` of them, evenly spread.
        method: see `activation_map`.
        size: side of the square to which a photo is squeezed for the network; pixels.

    Raises:
        ValueError: an unknown photo or method, or a network that takes no images of that size or has no such map.
    """
    if method not in get_args(Method):
        raise ValueError(f"method '{method}' is unknown: choose one of {', '.join(get_args(Method))}.")
    catalog = Catalog(test, test_root)
    numbers = _numbers(catalog, photos) if photos else evenly_spread(len(catalog), number).tolist()
    pictures, squeezed = zip(*(_picture(catalog, each, size) for each in numbers), strict=True)
    pixels = torch.from_numpy(np.stack(squeezed)).permute(0, 3, 1, 2)
    place = resolve_device(device)

    maps: dict[str, np.ndarray] = {}
    for label, encoder in encoders.items():
        backbone = open_backbone(**encoder).to(place).eval()
        rows = [activation_map(backbone, each[None].to(place), method) for each in pixels]
        maps[label] = torch.cat(rows).float().cpu().numpy()
        report.progress(len(maps), len(encoders), "encoders")
    arrays: dict[str, Any] = {f"maps_{place}": each for place, each in enumerate(maps.values())}
    names = np.array([catalog.name(each) for each in numbers])
    with (out / MAPS_FILE).open("wb") as file:
        np.savez(file, photos=names, encoders=np.array(list(maps)), **arrays)
    draw(pictures, maps, out / PICTURE_FILE)


@torch.inference_mode()
def activation_map(backbone: Backbone, images: Tensor, method: Method) -> Tensor:
    """How much each place of the last feature map f (N, C, h, w) matters. Returns (N, h, w), of any scale.

    The paper does not say how its maps were made. These need no labels, and the first two no certain architecture:

    * "contribution": <f_p, y> / |y| with y the mean of f over places, the embedding that retrieval and frozen
      classifiers use. Its mean over places is |y|: it is what each place adds to the embedding's length (the
      decomposition of Stylianou et al. 2019, arXiv:1901.00536, of a photo's similarity with itself). It is the default,
      because it means the same for all networks, those too whose places all have one norm, after a layer norm.
    * "energy": sum over channels of f_p squared (Zagoruyko & Komodakis 2017, arXiv:1612.03928, section 3.1).
    * "attention": how much the class token of a vision transformer attends to each patch in the last block, mean over
      heads (Caron et al. 2021, DINO, figure 1).

    Args:
        images: (N, 3, H, W) uint8 RGB, where the backbone is.
    """
    if method == "attention":
        return _class_attention(backbone, images)
    features = backbone(images).float()
    if method == "energy":
        return features.square().sum(dim=1)
    embedding = features.mean(dim=(2, 3), keepdim=True)
    return (features * torch.nn.functional.normalize(embedding, dim=1)).sum(dim=1)


def _class_attention(backbone: Backbone, images: Tensor) -> Tensor:
    net = backbone.net
    block = getattr(net, "blocks", [None])[-1]
    attention: Any = getattr(block, "attn", None)
    if not getattr(net, "has_class_token", False) or not all(
        hasattr(attention, a) for a in ("qkv", "q_norm", "k_norm")
    ):
        raise ValueError(
            f"{backbone.name} has no class token that attends to patches: say method=contribution, which all networks "
            "have, or leave it out."
        )
    seen: list[Tensor] = []
    hook = attention.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    try:
        net.forward_features(backbone.normalise(images))
    finally:
        hook.remove()
    tokens = seen[0]  # (N, T, C)
    count, length, _ = tokens.shape
    qkv = attention.qkv(tokens).reshape(count, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key = attention.q_norm(qkv[0]), attention.k_norm(qkv[1])  # (N, heads, T, C / heads)
    weights = (attention.scale * query[:, :, :1] @ key.transpose(-2, -1)).softmax(dim=-1).mean(dim=1)  # (N, 1, T)
    height, width = net.patch_embed.dynamic_feat_size(tuple(images.shape[-2:]))
    return weights[:, 0, net.num_prefix_tokens :].reshape(count, height, width)


def _numbers(catalog: Catalog, wanted: Sequence[str]) -> list[int]:
    """Numbers of the photos with these names."""
    left = set(wanted)
    found = {catalog.name(each): each for each in range(len(catalog)) if catalog.name(each) in left}
    unknown = [name for name in wanted if name not in found]
    if unknown:
        known = ", ".join(catalog.name(each) for each in range(min(_SUGGESTED, len(catalog))))
        raise ValueError(
            f"there is no photo {', '.join(unknown)} in {catalog.root}. Names are relative to that folder, such as "
            f"{known}."
        )
    return [found[name] for name in wanted]


def _picture(catalog: Catalog, number: int, size: int) -> tuple[Image.Image, np.ndarray]:
    """A photo as it is shown to people, and (size, size, 3) uint8 as it is shown to networks."""
    photo = Image.fromarray(catalog.pixels(number))
    squeezed = np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR))
    photo.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.LANCZOS)
    return photo, squeezed


def draw(pictures: Sequence[Image.Image], maps: Mapping[str, np.ndarray], path: Path) -> None:
    """The photos, and over each the maps of the encoders, from the least (dark) to the most (bright) of that map.

    Args:
        pictures: P photos of any size, RGB.
        maps: label -> (P, h, w).
    """
    width = _INCHES * max(picture.width / picture.height for picture in pictures)
    canvas = Canvas(figsize=(width * (1 + len(maps)), _INCHES * len(pictures) + 0.3), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots(len(pictures), 1 + len(maps), squeeze=False)
    for row, picture in enumerate(pictures):
        axes[row, 0].imshow(picture)
        for axis, of_photos in zip(axes[row, 1:], maps.values(), strict=True):
            heat = Image.fromarray(of_photos[row].astype(np.float32)).resize(picture.size, Image.Resampling.BICUBIC)
            axis.imshow(picture.convert("L"), cmap="gray", vmin=0, vmax=255)
            axis.imshow(np.asarray(heat), cmap="inferno", alpha=_OPACITY)
    for axis, title in zip(axes[0], ["photo", *maps], strict=True):
        axis.set_title(title, fontsize=10)
    for axis in axes.ravel():
        axis.set_axis_off()
    canvas.savefig(path, dpi=110)
