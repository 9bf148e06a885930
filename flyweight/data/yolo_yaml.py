"""YOLO's ``data.yaml``: class names, and where each split's images are.

Conventions as Ultralytics documents them (https://docs.ultralytics.com/datasets/detect): ``path``
is the root, ``train``, ``val`` and ``test`` are folders, lists of folders or text files of image
paths. Two differences: ``path`` is relative to the folder of ``data.yaml``, and nothing outside
that folder is read.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyweight.core.errors import InputError
from flyweight.core.given_file import read_given, read_given_text
from flyweight.core.printable import MAX_CLASSES, check_class_names
from flyweight.core.yaml_file import MAX_BYTES, read_yaml
from flyweight.data.image_files import is_image_name, is_inside
from flyweight.data.records import SPLITS, split_words


@dataclass(frozen=True)
class DataYaml:
    """A checked ``data.yaml``; ``label_of`` maps the class ids in label files to labels."""

    path: Path
    class_names: tuple[str, ...]
    label_of: dict[int, int]
    sources: dict[str, tuple[Path, ...]]
    has_keypoints: bool


def find_data_yaml(root: Path) -> Path | None:
    """``data.yaml``, else the only YAML file of the folder that has ``names`` or ``train``."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return root / name
    files = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    fitting = []
    for path in files:
        text = read_given(path, most_bytes=MAX_BYTES).decode(errors="replace")
        keys = {line.split(":")[0].strip() for line in text.splitlines() if line[:1].isalpha()}
        if "train" in keys and keys & {"names", "nc"}:
            fitting.append(path)
    if len(fitting) > 1:
        raise InputError(
            f"several YAML files describe the data: {', '.join(path.name for path in fitting)}",
            where=str(root),
            fix="call the right one data.yaml",
        )
    return fitting[0] if fitting else None


def read_data_yaml(path: Path) -> DataYaml:
    """Read and check the file; every path in it must lie in its folder and exist."""
    content = _parse(path)
    class_names, label_of = _class_names(content, path)
    base = _base_folder(content, path)
    sources = {}
    for split in SPLITS:
        key = next((word for word in split_words(split) if content.get(word)), None)
        if key is None:
            continue
        value = content[key]
        entries = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, str) for entry in entries):
            raise InputError(
                f"'{key}' is not a path", where=f"{path}, {key}", fix="name a folder or a list"
            )
        # Roboflow names a test folder also where it exported none.
        if split != "test" or all(_source(entry, base, path, key).exists() for entry in entries):
            sources[split] = tuple(_existing(entry, base, path, key) for entry in entries)
    if not sources:
        raise InputError(
            "no split in data.yaml", where=path, fix="name the images' folder under 'train'"
        )
    return DataYaml(path, class_names, label_of, sources, "kpt_shape" in content)


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except ImportError as error:
        raise InputError(
            "reading data.yaml needs PyYAML", where=path, fix="pip install pyyaml"
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            "data.yaml holds no fields", where=path, fix="it needs 'names' and 'train'"
        )
    return content


def _class_names(content: dict[str, Any], path: Path) -> tuple[tuple[str, ...], dict[int, int]]:
    """Names in the order of their ids, and id → label (ids in a mapping may have gaps)."""
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    elif names is None and isinstance(content.get("nc"), int):
        count = min(content["nc"], MAX_CLASSES + 1)
        names = {number: f"class_{number}" for number in range(count)}
    where = f"{path}, names"
    if not isinstance(names, dict) or not names or not all(type(key) is int for key in names):
        raise InputError(
            "no class names", where=where, fix="list them, or give every class id its name"
        )
    for identifier, name in names.items():
        if isinstance(name, bool) or not isinstance(name, str | int | float) or name == "":
            raise InputError(
                f"class {identifier} is called {repr(name)[:40]}",
                where=where,
                fix="write names that YAML takes for something else (yes, no, on) in quotes",
            )
    identifiers = sorted(names)
    class_names = tuple(str(names[identifier]) for identifier in identifiers)
    check_class_names(class_names, where)
    doubles = [name for name, count in Counter(class_names).items() if count > 1]
    if doubles:
        raise InputError(
            f"two classes are called '{min(doubles)}'", where=where, fix="give each its own name"
        )
    return class_names, {identifier: label for label, identifier in enumerate(identifiers)}


def _base_folder(content: dict[str, Any], path: Path) -> Path:
    value = content.get("path")
    if value is None or value == "":
        return path.parent
    if not isinstance(value, str):
        raise InputError("'path' is not a path", where=f"{path}, path", fix="write path: .")
    base = path.parent / value
    _check_inside(base, path, "path", value)
    return base


def _source(entry: str, base: Path, path: Path, key: str) -> Path:
    source = base / entry
    if entry.startswith("../") and not is_inside(source, path.parent):
        # Roboflow writes ../train/images for the train/images beside data.yaml, and Ultralytics
        # reads it so.
        beside = base / entry.removeprefix("../")
        source = beside if beside.exists() else source
    _check_inside(source, path, key, entry)
    return source


def _existing(entry: str, base: Path, path: Path, key: str) -> Path:
    source = _source(entry, base, path, key)
    if not source.exists():
        raise InputError(
            f"data.yaml names '{entry}', which does not exist",
            where=f"{path}, {key}",
            fix="correct the path; it is relative to the folder of data.yaml",
        )
    return source


def _check_inside(target: Path, path: Path, key: str, value: str) -> None:
    if not is_inside(target, path.parent):
        raise InputError(
            f"data.yaml points outside its folder ('{value}')",
            where=f"{path}, {key}",
            fix="put the images beside data.yaml and write the path relative to it (path: .)",
        )


def list_images(data: DataYaml, split: str) -> list[Path]:
    """Image paths of a split: folders searched through and sorted, text files in their order."""
    images: list[Path] = []
    for source in data.sources[split]:
        if source.is_dir():
            for folder, folders, names in os.walk(source):
                folders.sort()
                images += [Path(folder, name) for name in sorted(names) if is_image_name(name)]
        elif source.suffix == ".txt":
            images += _read_list(source, data.path, split)
        else:
            raise InputError(
                f"'{source.name}' is neither a folder nor a .txt list",
                where=f"{data.path}, {split}",
                fix="name a folder of images",
            )
    return images


def _read_list(source: Path, data_yaml: Path, split: str) -> list[Path]:
    """``./a.jpg`` is relative to the list's folder, ``a/b.jpg`` to that or to data.yaml's."""
    try:
        lines = read_given_text(source).splitlines()
    except UnicodeDecodeError as error:
        raise InputError("the list is not text", where=source, fix="save it as UTF-8") from error
    images = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line:
            continue
        image = source.parent / line
        if not line.startswith("./") and not image.is_file():
            image = data_yaml.parent / line
        if not is_inside(image, data_yaml.parent):
            raise InputError(
                f"the list points outside the data set's folder ('{line}')",
                where=f"{source}, line {number}",
                fix="put the images beside data.yaml and write paths relative to it",
            )
        images.append(image)
    return images
