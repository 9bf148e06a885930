"""`flyweight bench`: how long model files take on this machine, side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flyweight.cli.options import Debug, Json, Runtime, Threads
from flyweight.cli.output import progress_bar, result

if TYPE_CHECKING:
    from rich.console import Console


SCORE = 0.05
SAMPLE_SIZE_HW = (720, 960)

Files = Annotated[
    list[Path],
    typer.Argument(help="Exported files or .safetensors.", metavar="FILE..."),
]
ImageOption = Annotated[
    Path | None, typer.Option(help="A picture. (default: a sample scene)", metavar="FILE")
]
Repeats = Annotated[int, typer.Option(min=1, help="Runs of each; the median counts.")]


@dataclass(frozen=True)
class Measured:
    """One file under measurement: its network alone, and a picture file to detections."""

    file: Path
    runtime: str
    precision: str
    network: Callable[[], object]
    end_to_end: Callable[[], object]


def bench(
    files: Files,
    image: ImageOption = None,
    runtime: Runtime = None,
    threads: Threads = None,
    repeats: Repeats = 50,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Time model files side by side: medians of the network and from picture file to boxes.

    The files take turns, so that whatever else the machine does hits all of them alike.
    """
    with result(as_json=json) as show, tempfile.TemporaryDirectory() as scratch:
        from flyweight.evaluation.latency import describe_machine, median_milliseconds

        picture = image if image is not None else _sample_picture(Path(scratch))
        measured = [prepare(file, picture, runtime=runtime, threads=threads) for file in files]
        calls: dict[str, Callable[[], object]] = {}
        for index, entry in enumerate(measured):
            calls[f"{index} network"] = entry.network
            calls[f"{index} end to end"] = entry.end_to_end
        with progress_bar("timing", unit="rounds") as progress:
            times = median_milliseconds(calls, repeats=repeats, progress=progress)
        rows = [
            {
                "file": str(entry.file),
                "runtime": entry.runtime,
                "precision": entry.precision,
                "network_ms": round(times[f"{index} network"], 3),
                "end_to_end_ms": round(times[f"{index} end to end"], 3),
                "images_per_second": round(1000 / times[f"{index} end to end"], 1),
            }
            for index, entry in enumerate(measured)
        ]
        machine = describe_machine() | {"threads": threads or "all cores"}
        source = "a drawn scene" if image is None else str(image)
        content = {"machine": machine, "image": source, "repeats": repeats, "rows": rows}
        show(content, lambda console: _render(console, content))


def prepare(
    file: Path, picture: Path, *, runtime: str | None = None, threads: int | None = None
) -> Measured:
    """Open `file` for measurement on the picture file `picture`."""
    from flyweight.api import load
    from flyweight.core.image import read_image
    from flyweight.core.manifest import CHECKPOINT_SUFFIX

    predictor: Any = load(file, threads=threads, runtime=runtime)
    pixels, _ = predictor.preprocessing.apply(read_image(picture))
    if file.suffix == CHECKPOINT_SUFFIX:
        return _prepare_checkpoint(file, predictor, pixels, picture)
    from flyweight.runtime.predictor import stack_inputs
    from flyweight.runtime.session import precision_of

    session = predictor.session
    batch = stack_inputs([pixels], session.batch or 1)
    return Measured(
        file=file,
        runtime=session.runtime,
        precision=precision_of(predictor.manifest),
        network=lambda: session.run(batch),
        end_to_end=lambda: predictor.predict(picture, score=SCORE),
    )


def _prepare_checkpoint(file: Path, detector: Any, pixels: Any, picture: Path) -> Measured:
    import torch

    from flyweight.core.image import read_image

    images = torch.from_numpy(pixels[None])
    detector = detector.to(memory_format=torch.channels_last).eval()
    at_size = detector.at_size(pixels.shape[:2])

    def network() -> object:
        with torch.inference_mode():
            return at_size(images)

    def end_to_end() -> object:
        image = read_image(picture, min_size_hw=detector.preprocessing.decode_size_hw)
        return detector.predict_batch([image])[0].above(SCORE)

    return Measured(file, "torch", "fp32", network, end_to_end)


def _sample_picture(folder: Path) -> Path:
    from flyweight.core.image import write_image
    from flyweight.data.scenes import draw_scene

    image, _ = draw_scene(0, size_hw=SAMPLE_SIZE_HW)
    path = folder / "scene.jpg"
    write_image(path, image)
    return path


def _render(console: Console, content: dict[str, Any]) -> None:
    from rich.table import Table

    machine = content["machine"]
    table = Table(
        title=f"medians of {content['repeats']} runs, milliseconds",
        caption=f"{machine['processor']}, {machine['cores']} cores, threads: {machine['threads']}",
    )
    table.add_column("file", style="bold")
    table.add_column("runtime")
    table.add_column("precision")
    for column in ("network", "end to end", "images/s"):
        table.add_column(column, justify="right")
    for row in content["rows"]:
        table.add_row(
            row["file"],
            row["runtime"],
            row["precision"],
            f"{row['network_ms']:.2f}",
            f"{row['end_to_end_ms']:.2f}",
            f"{row['images_per_second']:.1f}",
        )
    console.print(table)
