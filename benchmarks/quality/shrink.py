"""A VOC development kit with smaller photos, their boxes with them, for a machine that is sent all it needs.

    python -m benchmarks.quality.shrink --data VOCdevkit --out build/voc --side 160

3,000 photos of 160 pixels are about 35 MB. Regions are searched in the small photos then, so compare results of one
size alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from stages.data.decode import decode
from stages.process import available_cores, ordered_map, pool

_QUALITY = 85


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="VOCdevkit")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--side", type=int, default=160, help="shorter side of a photo in pixels; none is enlarged")
    options = parser.parse_args(arguments)
    for year in sorted(path.parents[1] for path in options.data.glob("VOC*/ImageSets/Main")):
        print(f"{shrink(year, options.out / year.name, options.side)} photos in {options.out / year.name}")


def shrink(year: Path, out: Path, side: int) -> int:
    """Writes the photos of all splits of a year's folder, their annotations and the splits. Returns their number."""
    splits = sorted((year / "ImageSets" / "Main").glob("*.txt"))
    names = sorted({line.split()[0] for split in splits for line in split.read_text().splitlines() if line.strip()})
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for split in splits:
        (out / "ImageSets" / "Main" / split.name).write_text(split.read_text())
    with pool(available_cores()) as processes:
        tasks = ((year, out, name, side) for name in names)
        return sum(1 for _ in ordered_map(processes, _shrink_one, tasks, window=64))


def _shrink_one(task: tuple[Path, Path, str, int]) -> None:
    year, out, name, side = task
    photo = decode(year / "JPEGImages" / f"{name}.jpg")
    factor = min(1.0, side / min(photo.size))
    width, height = (max(1, round(factor * length)) for length in photo.size)
    small = photo.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    small.save(out / "JPEGImages" / f"{name}.jpg", quality=_QUALITY)
    annotation = year / "Annotations" / f"{name}.xml"
    if annotation.is_file():
        tree = ElementTree.parse(annotation)
        _scale(tree.getroot(), width / photo.width, height / photo.height, (width, height))
        tree.write(out / "Annotations" / annotation.name)


def _scale(annotation: ElementTree.Element, across: float, down: float, size: tuple[int, int]) -> None:
    """Boxes in pixels counted from 1, the last one included (VOC development kit, section 3.3): [xmin - 1, xmax)."""
    for name, length in zip(("width", "height"), size, strict=True):
        found = annotation.find(f"size/{name}")
        if found is not None:
            found.text = str(length)
    for box in annotation.iter("bndbox"):
        for name, factor, first in (("xmin", across, 1), ("ymin", down, 1), ("xmax", across, 0), ("ymax", down, 0)):
            found = box.find(name)
            if found is not None and found.text:
                found.text = f"{factor * (float(found.text) - first) + first:.3f}"


if __name__ == "__main__":
    main()
