"""Choose the pets that ship in partsig/data/sample, from Oxford-IIIT Pet.

Run: ``python benchmarks/make_pets_sample.py PETS`` with the folder that holds ``images`` and
``trimaps`` (or ``annotations/trimaps``), of three breeds or more.

The rule: of each of three breeds the fifty images whose names have the lowest SHA-256, less those
in which a person or somebody's mark of ownership was seen (LEFT_OUT, by eye). The middle square
of each becomes 96 x 96 pixels (Lanczos; JPEG of quality 85), that of its trimap the same by the
nearest pixel (PNG, codes as they were). All go into one zip file.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

from PIL import Image

SAMPLE = Path(__file__).parents[1] / "partsig" / "data" / "sample" / "pets.zip"
BREEDS = ("Abyssinian", "Bengal", "american_bulldog")
EACH, SIDE, QUALITY = 50, 96, 85
LEFT_OUT = {f"Abyssinian_{n}" for n in (65, 78, 94, 101, 109, 120, 149)}
LEFT_OUT |= {"Bengal_126", "american_bulldog_68", "american_bulldog_113"}


def chosen(folder: Path, breed: str) -> list[Path]:
    """Return the images of a breed that are taken."""
    files = list(folder.glob(f"{breed}_[0-9]*.jpg"))
    order = sorted(files, key=lambda path: hashlib.sha256(path.stem.encode()).digest())
    return [path for path in order[:EACH] if path.stem not in LEFT_OUT]


def square(image: Image.Image, resample: Image.Resampling) -> Image.Image:
    """Return the middle square of an image, made smaller."""
    side = min(image.size)
    left, top = ((extent - side) // 2 for extent in image.size)
    return image.resize((SIDE, SIDE), resample, (left, top, left + side, top + side))


def main(pets: Path) -> None:
    """Write pets.zip."""
    below = next(p for p in (pets / "trimaps", pets / "annotations" / "trimaps") if p.is_dir())
    with zipfile.ZipFile(SAMPLE, "w", zipfile.ZIP_STORED) as file:
        for path in sorted(p for breed in BREEDS for p in chosen(pets / "images", breed)):
            image = square(Image.open(path).convert("RGB"), Image.Resampling.LANCZOS)
            trimap = square(Image.open(below / f"{path.stem}.png"), Image.Resampling.NEAREST)
            for name, made, options in (
                (f"images/{path.stem}.jpg", image, {"format": "JPEG", "quality": QUALITY}),
                (f"trimaps/{path.stem}.png", trimap, {"format": "PNG", "optimize": True}),
            ):
                out = io.BytesIO()
                made.save(out, **options)
                file.writestr(zipfile.ZipInfo(name), out.getvalue())
    print(f"{SAMPLE}: {SAMPLE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
