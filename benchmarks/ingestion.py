"""Images per second of taking in a zip archive, and of a plain torchvision loop over the same files unpacked.

    python -m benchmarks.ingestion --images 10000

Both read every JPEG, give it the same size and end with one uint8 array: what training needs. torchvision's side is
ImageFolder with its own resize, in one process, as people write it; ours also checks the archive, finds the splits
and looks for duplicates. Target: at least 1.5 times its rate on two cores.
"""

import argparse
import tempfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

from models.data.uploads import UploadOptions, ingest

CLASSES = 10
SIDE = 64


def jpegs(count: int) -> list[tuple[str, bytes]]:
    """Smooth pictures of many sizes, from 160x120 to 480x360, with their paths in class folders."""
    generator = np.random.default_rng(0)
    found = []
    for index in range(count):
        scale = generator.uniform(1, 3)
        size = round(160 * scale), round(120 * scale)
        small = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        file = BytesIO()
        small.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=88)
        found.append((f"class{index % CLASSES}/{index:06d}.jpg", file.getvalue()))
    return found


def by_tandem(archive: Path, folder: Path) -> int:
    options = UploadOptions("image-classification", size=(SIDE, SIDE), channels=3, folder=folder)
    dataset = ingest(archive, archive.name, options)
    return sum(dataset.description.splits.model_dump().values())


def by_torchvision(folder: Path) -> int:
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = v2.Compose([v2.Resize((SIDE, SIDE)), v2.PILToTensor()])
    pictures = torch.stack([picture for picture, _ in ImageFolder(str(folder), transform=steps)])
    return len(pictures)


def timed(work: Callable[[], int]) -> float:
    """Images per second."""
    began = perf_counter()
    count = work()
    return count / (perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        files = jpegs(asked.images)
        with zipfile.ZipFile(root / "images.zip", "w", zipfile.ZIP_STORED) as archive:
            for name, data in files:
                archive.writestr(name, data)
                path = root / "unpacked" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        ours, theirs = [], []
        for _ in range(asked.repeats):
            ours.append(timed(lambda: by_tandem(root / "images.zip", root)))
            theirs.append(timed(lambda: by_torchvision(root / "unpacked")))
            print(f"tandem {ours[-1]:8.0f} images/s   torchvision {theirs[-1]:8.0f} images/s", flush=True)
    print(
        f"best of {asked.repeats}: {max(ours):.0f} and {max(theirs):.0f} images/s, ratio {max(ours) / max(theirs):.2f}"
    )


if __name__ == "__main__":
    main()
