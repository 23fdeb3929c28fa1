"""Your own images: from one folder and a table of labels to the folders that `--data` reads.

    python own_images.py labels.csv photos
    mnas search --data ./photos --target-latency 5ms --trials 12 --out runs/photos

`labels.csv` has a header and two columns, `file` (relative to the table) and `label`. Each image is copied to
photos/<label>/; mnas then splits every class into training, validation and test by itself. Where you have a split of
your own, give it as photos/train/<label>/, photos/val/<label>/ and photos/test/<label>/ instead.
With 300 images of three classes this prints:

    300 images of 3 classes: eight 100, nine 100, seven 100
    next: mnas search --data photos --target-latency 5ms

The search prints the accuracy on the test split, which nothing else touches; the names of the classes are in the
metadata of the exported ONNX file (deploy_onnx.py shows them).
"""

import argparse
import csv
import shutil
from collections import Counter
from pathlib import Path


def read_labels(table: Path) -> list[tuple[Path, str]]:
    """Image and label of each row."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SystemExit(f"error: {table} cannot be read as a table: {error}") from None
    if not rows or not {"file", "label"} <= set(rows[0]):
        raise SystemExit(
            f"error: {table} needs a header with the columns file and label, and a row for each image."
        )
    for number, row in enumerate(rows, 2):
        label = row["label"] or ""
        if not label or label != Path(label).name or label.startswith("."):
            raise SystemExit(
                f"error: {table}, line {number}: the label {label!r} cannot be the name of a folder."
            )
    return [(table.parent / (row["file"] or ""), row["label"]) for row in rows]


def arrange(images: list[tuple[Path, str]], out: Path) -> Counter[str]:
    """Copies each image to its class; how many each class has. Nothing is copied where one is missing."""
    if missing := [str(path) for path, _ in images if not path.is_file()]:
        raise SystemExit(f"error: {len(missing)} images are not there, {missing[0]} for example.")
    for number, (path, label) in enumerate(images):
        folder = out / label
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / f"{number:06}{path.suffix}")  # two images may have one name
    return Counter(label for _, label in images)


def main() -> None:
    """Prints how many images each class has, and what to type next."""
    parser = argparse.ArgumentParser(description="Arranges labelled images as mnas reads them.")
    parser.add_argument("table", type=Path, help="a CSV file with the columns file and label")
    parser.add_argument("out", type=Path, help="a new folder")
    options = parser.parse_args()
    if options.out.exists():
        raise SystemExit(f"error: {options.out} is there already; name a new folder.")
    counts = arrange(read_labels(options.table), options.out)
    each = ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))
    print(f"{counts.total()} images of {len(counts)} classes: {each}")
    print(f"next: mnas search --data {options.out} --target-latency 5ms")


if __name__ == "__main__":
    main()
