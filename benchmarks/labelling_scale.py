"""`flyweight label` on one process and on Ray: images a second, and memory over 100,000 pictures.

Each part writes its own half of `results/labelling_scale.json`. Both run the command itself and
look at it from outside: when each shard was written, and how much memory every process holds.

    python benchmarks/labelling_scale.py speed ../shared/data/voc6 --teacher picodet_s_320_coco.onnx
    python benchmarks/labelling_scale.py memory FOLDER [--images 100000]

`speed` takes real pictures and a published teacher. `memory` makes its own: hard links to a few
hundred small scenes, and a small detector with random weights; half way through Ray's run one of
its workers is killed. Needs `flyweight[cluster]`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from machine import RESULTS, write_result

from flyweight.core.image import write_image
from flyweight.data.formats import open_dataset
from flyweight.data.scenes import draw_scene, save_scenes
from flyweight.labeling.pseudo_labels import write_coco
from flyweight.labeling.shards import SHARD_IMAGES, read_names, read_shards
from flyweight.labeling.thresholds import ClassThreshold
from flyweight.reports.charts import Line, line_chart

NAME = "labelling_scale"
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "labelling_memory.svg"
MB = 1e6
# Input of the small teacher.
SIZE = 32
# Whose memory a process holds.
OWNERS = ("driver", "workers", "ray")
SIDES: dict[str, list[str]] = {
    "local, 1 thread": ["--threads", "1"],
    "local, 2 threads": ["--threads", "2"],
    "ray, 1 worker": ["--engine", "ray", "--workers", "1"],
    "ray, 2 workers": ["--engine", "ray", "--workers", "2"],
}

Sample = dict[str, float]


def label(
    words: Sequence[str | Path], out: Path, *, every: float, kill_at: int | None = None
) -> dict[str, Any]:
    """Run `flyweight label WORDS --out OUT` and watch it.

    Args:
        every: seconds between two looks at the memory.
        kill_at: so many finished shards on, a worker is killed once.

    Returns:
        `seconds` in all, `start_s` until the first shard, `images_per_second` from then on,
        `coco_s` of writing the COCO file, sizes in bytes, and `memory`, a sample a look.
    """
    command = [sys.executable, "-m", "flyweight", "label", *map(str, words), "--out", str(out)]
    started, memory, killed = time.time(), [], False
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        time.sleep(every)
        sample = proportional(process.pid)
        shards = len(finished(out))
        memory.append({"seconds": round(time.time() - started, 1), "shards": shards} | sample)
        if kill_at is not None and not killed and shards >= kill_at:
            killed = kill_worker(process.pid)
    if process.returncode:
        raise SystemExit(f"flyweight label ended with {process.returncode}")
    ended = time.time()
    paths = sorted(finished(out), key=lambda path: path.stat().st_mtime)
    times = [path.stat().st_mtime for path in paths]
    later = sum(len(read_names(path)) for path in paths[1:])
    annotations = out / "annotations" / "instances_train.json"
    return {
        "images": later + len(read_names(paths[0])),
        "seconds": round(ended - started, 1),
        "start_s": round(times[0] - started, 1),
        "images_per_second": round(later / (times[-1] - times[0]), 1),
        "coco_s": round(annotations.stat().st_mtime - times[-1], 2),
        "shard_bytes": sum(path.stat().st_size for path in paths),
        "coco_bytes": annotations.stat().st_size,
        "worker_killed": killed,
        "memory": memory,
    }


def finished(out: Path) -> list[Path]:
    """Shards that are whole."""
    return [path for path in (out / "shards").glob("0*") if path.is_file()]


def proportional(pid: int) -> Sample:
    """MB of a process and its descendants by owner; a page that n share counts 1 / n for each."""
    held = dict.fromkeys(OWNERS, 0.0)
    for process, owner in _family(pid):
        try:
            held[owner] += process.memory_full_info().pss / MB
        except psutil.Error:
            continue
    return {owner: round(value, 1) for owner, value in held.items()}


def kill_worker(pid: int) -> bool:
    """SIGKILL to one of the workers; whether there was one."""
    for process, owner in _family(pid):
        if owner == "workers":
            os.kill(process.pid, signal.SIGKILL)
            return True
    return False


def _family(pid: int) -> list[tuple[psutil.Process, str]]:
    members = []
    try:
        driver = psutil.Process(pid)
        members.append((driver, "driver"))
        for child in driver.children(recursive=True):
            works = " ".join(child.cmdline()).startswith("ray::MapWorker")
            members.append((child, "workers" if works else "ray"))
    except psutil.Error:
        pass
    return members


def measure_speed(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The same real pictures through every side."""
    pictures = folder / "pictures"
    pictures.mkdir()
    records = open_dataset(arguments.data, "val").records[: arguments.images]
    for record in records:
        (pictures / record.path.name).symlink_to(record.path.resolve())
    common = [
        pictures, "--teacher", arguments.teacher, "--data", arguments.data, "--split", "val",
        "--count-on", "pictures", "--no-flip", "--shard", "20",
    ]  # fmt: skip
    rows = {}
    for number, name in enumerate(arguments.sides or SIDES):
        row = label([*common, *SIDES[name]], folder / str(number), every=0.5)
        row["peak_mb"] = peak(row.pop("memory"))
        rows[name] = row
        row["coco_ms_per_image"] = time_coco(folder / str(number))
        print(f"{name:18} {row['images_per_second']:7.1f} images/s, first shard {row['start_s']} s")
    return {
        "data": arguments.data.name,
        "teacher": arguments.teacher.name,
        "file_bytes": round(float(np.mean([each.path.stat().st_size for each in records]))),
        "rows": rows,
    }


def time_coco(out: Path, *, images: int = 8000) -> float:
    """Milliseconds of one process for each picture of the COCO file, its shards read again and
    again until they are so many."""
    shards = sorted(finished(out))
    shards *= -(-images // sum(len(read_names(path)) for path in shards))
    info = json.loads((out / "annotations" / "instances_train.json").read_text())["info"]
    thresholds = [
        ClassThreshold(**each | {key: math.nan for key in ("precision", "recall")})
        for each in info["thresholds"]
    ]
    started = time.process_time()
    counts = write_coco(
        out / "again.json",
        lambda: read_shards(shards),
        thresholds,
        lambda found_by: found_by.any(axis=1, keepdims=True),
        teachers=[each["name"] for each in info["teachers"]],
        info=info,
    )
    return round((time.process_time() - started) / counts.images * 1e3, 3)


def measure_memory(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """100,000 pictures through both engines at once: memory does not mind, time is no figure."""
    pictures = generate(folder / "pictures", arguments.images)
    teacher = make_teacher(folder / "teacher.onnx")
    if not (folder / "labelled").is_dir():
        save_scenes(folder / "labelled", train=1, val=30, test=1, size_hw=(48, 64))
    common = [
        pictures, "--teacher", teacher, "--data", folder / "labelled", "--count-on", "pictures",
        "--no-flip",
    ]  # fmt: skip

    def run(name: str) -> dict[str, Any]:
        out = Path(tempfile.mkdtemp(dir=folder))
        half = arguments.images // (2 * SHARD_IMAGES) if "ray" in name else None
        row = label([*common, *SIDES[name]], out, every=arguments.every, kill_at=half)
        for figure in ("images_per_second", "start_s", "coco_s"):
            del row[figure]  # both at once: they are not those of a machine of one's own
        row |= {"peak_mb": peak(row["memory"]), "coco": out / "annotations/instances_train.json"}
        print(f"{name:18} {row['seconds']} s {row['peak_mb']}", flush=True)
        return row

    names = ("local, 1 thread", "ray, 2 workers")
    with ThreadPoolExecutor() as pool:
        rows = dict(zip(names, pool.map(run, names), strict=True))
    texts = {row.pop("coco").read_bytes() for row in rows.values()}
    # a page may be dark; the letters are
    svg = draw(rows).replace("<svg ", '<svg style="background: white" ', 1)
    PICTURE.write_text(svg + "\n", encoding="utf-8")
    return {"pictures": "64x48 JPEG", "same_coco_file": len(texts) == 1, "rows": rows}


def generate(folder: Path, images: int, *, distinct: int = 300) -> Path:
    """So many hard links to `distinct` scenes of 64 x 48, a thousand a folder, unless there."""
    if folder.is_dir():
        return folder
    sources = folder.with_name("distinct")
    sources.mkdir(parents=True)
    for number in range(distinct):
        write_image(sources / f"{number}.jpg", draw_scene(number, (48, 64))[0])
    for number in range(images):
        target = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(sources / f"{number % distinct}.jpg", target)
    return folder


def make_teacher(path: Path) -> Path:
    """A small detector with random weights that finds four boxes in every picture, unless there."""
    if path.is_file():
        return path
    import torch

    from flyweight.core.manifest import Thresholds
    from flyweight.export.onnx import export_onnx
    from flyweight.models.detectors import build

    torch.manual_seed(0)
    detector = build(
        "ssdlite320_mobilenet_v2",
        classes=("card",),
        size=SIZE,
        width=0.1,
        thresholds=Thresholds(score=0.05, candidates_per_class=4, max_detections=4),
    )
    model = detector.model
    for name, parameter in model.named_parameters():
        if "output.weight" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    scenes = np.stack([draw_scene(number, (SIZE, SIZE))[0] for number in range(32)])
    images = torch.from_numpy(scenes).permute(0, 3, 1, 2) / 255
    model.train()
    with torch.no_grad():
        for _ in range(30):  # statistics of the norms, or nothing comes through
            model(images)
    model.eval()
    export_onnx(detector, path, dynamic_batch=True)
    return path


def peak(memory: Sequence[Sample]) -> dict[str, float]:
    """Largest of each owner, and of all together."""
    largest = {owner: max(each[owner] for each in memory) for owner in OWNERS}
    together = max(sum(each[owner] for owner in OWNERS) for each in memory)
    return largest | {"together": round(together, 1)}


def draw(rows: dict[str, dict[str, Any]]) -> str:
    """Memory over time, by whose it is."""
    names = {"driver": "driver", "workers": "two workers", "ray": "Ray itself"}
    lines = []
    for side, row in rows.items():
        shown = names if "ray" in side else {"driver": "local engine"}
        minutes = [each["seconds"] / 60 for each in row["memory"]]
        for owner, name in shown.items():
            lines.append(Line(name, minutes, [each[owner] for each in row["memory"]]))
    count = max(row["images"] for row in rows.values())
    return line_chart(lines, title=f"MB held over {count:,} pictures", x_label="minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    speed = parts.add_parser("speed")
    speed.add_argument("data", type=Path, help="a labelled data set, whose val is labelled again")
    speed.add_argument("--teacher", type=Path, required=True)
    speed.add_argument("--images", type=int, default=400)
    speed.add_argument("--sides", nargs="*", choices=SIDES)
    memory = parts.add_parser("memory")
    memory.add_argument("folder", type=Path, help="for 100,000 links, twice, and 100 MB")
    memory.add_argument("--images", type=int, default=100_000)
    memory.add_argument("--every", type=float, default=5.0, help="seconds between two looks")
    arguments = parser.parse_args()
    if arguments.part == "speed":
        with tempfile.TemporaryDirectory() as folder:
            made = measure_speed(arguments, Path(folder))
    else:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        made = measure_memory(arguments, arguments.folder)
    versions = {package: metadata.version(package) for package in ("ray", "pyarrow")}
    path = RESULTS / f"{NAME}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    parts_known = {part: known[part] for part in ("speed", "memory") if part in known}
    if arguments.part == "speed" and "speed" in parts_known:
        made["rows"] = parts_known["speed"]["rows"] | made["rows"]
    result = {"packages": versions} | parts_known | {arguments.part: made}
    print(f"written to {write_result(NAME, result)}")


if __name__ == "__main__":
    main()
