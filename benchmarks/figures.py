"""Write the README's figures from `benchmarks/results/*.json`, between its two markers.

python benchmarks/figures.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from machine import RESULTS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
Lines = list[str]


def main() -> None:
    """Replace what stands between the markers."""
    lines = machine_line()
    for name, section in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            lines += ["", *section(json.loads(path.read_text(encoding="utf-8")))]
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    README.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}", encoding="utf-8")


def machine_line() -> Lines:
    """What the figures were measured on, as the newest result tells it."""
    files = [RESULTS / f"{name}.json" for name in SECTIONS]
    newest = max(filter(Path.is_file, files), key=lambda path: path.stat().st_mtime)
    machine = json.loads(newest.read_text(encoding="utf-8"))["machine"]
    versions = machine["versions"]
    shown = ", ".join(
        f"{name} {versions[name]}"
        for name in ("torch", "onnxruntime", "openvino")
        if versions.get(name)
    )
    sets = ", ".join(machine["instruction_sets"])
    return [f"On {machine['cores']} cores of an {machine['cpu']} ({sets}), {shown}; medians."]


def bccd(result: dict[str, Any]) -> Lines:
    """Training on a small real data set."""
    lines = [
        f"**Training on real pictures**: BCCD, 205 photos of blood cells, `{result['model']}` from "
        f"ImageNet weights, {result['epochs']} epochs, best weights chosen on `val`, AP on `test` "
        "(`benchmarks/bccd.py`):",
        "",
        "| default boxes | seeds | AP | AP50 |",
        "|---|---|---|---|",
    ]
    for anchors in ("published", "fit"):
        if anchors in result:
            found = result[anchors]["test"]
            lines.append(
                f"| `--anchors {anchors}` | {found['seeds']} | {spread(found, 'AP')} "
                f"| {spread(found, 'AP50')} |"
            )
    return lines


def cards(result: dict[str, Any]) -> Lines:
    """A second real data set."""
    split = "test" if result["test"] else "val"
    return [
        f"The same detector on photos of playing cards with fitted boxes, {result['epochs']} "
        f"epochs in {result['minutes']:.0f} minutes: AP {result[split]['AP']:.3f}, AP50 "
        f"{result[split]['AP50']:.3f} on `{split}` (`benchmarks/cards.py`)."
    ]


def detectors(result: dict[str, Any]) -> Lines:
    """The larger real data set, every detector trained there."""
    lines = [
        "Detectors on 3,000 photos of six classes of VOC 2012 at 224 px, few epochs on one core, "
        "AP on `val` (`benchmarks/detectors.py`; those on BCCD are in "
        "[docs/detectors.md](docs/detectors.md)):",
        "",
        "| detector | backbone | from | epochs | AP | AP50 |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        figures = row["metrics"]
        start = "ImageNet" if row["pretrained"] == "imagenet" else "random weights"
        lines.append(
            f"| {row['name']} | {row['backbone']} | {start} | {row['epochs']} "
            f"| {figures['AP']:.3f} | {figures['AP50']:.3f} |"
        )
    return lines


def spread(found: dict[str, Any], name: str) -> str:
    """Mean, and standard deviation where there are several runs."""
    deviation = found[f"{name}_std"]
    return f"{found[name]:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


def exported(result: dict[str, Any]) -> Lines:
    """What exporting costs."""
    lines = [
        f"**Exported**: seed 0 of the `--anchors fit` runs above on the {result['images']} test "
        "images (`benchmarks/exported.py`):",
        "",
        "| | AP | points lost |",
        "|---|---|---|",
    ]
    return lines + [
        f"| {name} | {row['AP']:.3f} | {row.get('AP_loss_points', 0.0):.2f} |"
        for name, row in result["rows"].items()
    ]


def predictor(result: dict[str, Any]) -> Lines:
    """From a JPEG file to boxes."""
    lines = [
        "**From a 640×480 JPEG to boxes**: `ssdlite320_mobilenet_v3_large`, 91 classes, the same "
        f"weights, {result['threads']} threads, in turns (`benchmarks/predictor.py`):",
        "",
        "| | ms | times torchvision | network alone, ms | import and open, s | memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        start = row.get("startup", {})
        cells = [
            f"{row['end_to_end_ms']:.1f}",
            f"{row.get('times_torchvision', 1.0):.1f}×",
            f"{row['network_ms']:.1f}" if "network_ms" in row else "",
            f"{start['import_and_open_s']:.2f}" if start else "",
            f"{start['peak_mb']:.0f}" if start else "",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def input_pipeline(result: dict[str, Any]) -> Lines:
    """From JPEG files to augmented inputs."""
    lines = [
        "**Input pipeline**: JPEG files of BCCD to augmented 320×320, one core "
        "(`benchmarks/input_pipeline.py`):",
        "",
        "| | images/s a core |",
        "|---|---|",
    ]
    return lines + [
        f"| {name} | {row['images_per_second_core']:.0f} |" for name, row in result["rows"].items()
    ]


def training_step(result: dict[str, Any]) -> Lines:
    """Images a second of the loop."""
    setting = result["settings"]
    lines = [
        f"**Training step** at 320×320, batch {setting['batch']}, {setting['threads']} threads, in "
        "turns: `ssdlite320_mobilenet_v3_large` beside torchvision's; *default* is "
        "`ssdlite320_mobilenet_v2` from ImageNet (`benchmarks/training_step.py`):",
        "",
        "| | images/s | ratio |",
        "|---|---|---|",
    ]
    return lines + [
        f"| {name} | {row['images_per_second']:.1f} | {row['ratio']:.2f} |"
        for name, row in result["rows"].items()
    ]


def evaluation(result: dict[str, Any]) -> Lines:
    """COCO AP."""
    size = (
        f"{result['images']} images × {result['detections_per_image']} detections × "
        f"{result['classes']} classes"
    )
    return [
        f"**Evaluation**: {size} in {result['flyweight_s']:.1f} s, pycocotools "
        f"{result['pycocotools_s']:.0f} s, same figures (`benchmarks/evaluation.py`)."
    ]


def folding(result: dict[str, Any]) -> Lines:
    """What folding BatchNorm buys."""
    first = next(iter(result["ms"].values()))
    return [
        f"**Folding BatchNorm**: `{result['model']}` at 300×300 with its norms and as the deploy "
        f"network, {result['threads']} threads, in turns; boxes differ by "
        f"{result['largest_box_difference_px']:.0e} px (`benchmarks/folding.py`):",
        "",
        "| | ms | times |",
        "|---|---|---|",
        *(f"| {name} | {ms:.1f} | {first / ms:.2f}× |" for name, ms in result["ms"].items()),
    ]


def device_model(result: dict[str, Any]) -> Lines:
    """Predicted milliseconds of networks that nobody has timed."""
    lines = [
        "**Device model**: a calibration of some minutes predicts the milliseconds of detectors "
        "that it has not seen (`benchmarks/device_model.py`, which lists them):",
        "",
        "| runtime | networks | median error | largest error |",
        "|---|---|---|---|",
    ]
    return lines + [
        f"| {runtime} | {len(found['networks'])} | {found['median_absolute_error']:.1%} "
        f"| {found['largest_absolute_error']:.1%} |"
        for runtime, found in result.items()
        if isinstance(found, dict) and "networks" in found
    ]


def design(result: dict[str, Any]) -> Lines:
    """A search to a budget, and what became of its promises."""
    trained = {row["preset"]: row for row in result["trained"]}
    again = "median_absolute_error_again" in result
    epochs = next(iter(trained.values()))["epochs"]
    lines = [
        f'**Designed to a budget**: `flyweight design --budget "{result["budget"]}" --head '
        f"{result['head']}` for {result['data']} on this machine ({result['runtime']}): the best "
        f"of each backbone, and AP on `test` of three that were trained for {epochs} epochs from "
        "random weights (`benchmarks/design.py`)"
        + ("; predicted again with a calibration of a quieter hour:" if again else ":"),
        "",
        "| backbone | α | px | MMACs | predicted, ms | again, ms | measured, ms | capacity | AP |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["recommended"]:
        each, run = row["candidate"], trained.get(row["preset"])
        cells = [
            each["backbone"],
            f"{each['width']:g}",
            str(each["size"]),
            f"{row['mmacs']:.0f}",
            f"{row['predicted_ms']:.1f}",
            f"{row['predicted_again_ms']:.1f}" if "predicted_again_ms" in row else "",
            f"{row['measured_ms']:.1f}" if "measured_ms" in row else "",
            f"{row['capacity']:.3f}",
            f"{run['test']['AP']:.3f}" if run else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def compression(result: dict[str, Any]) -> Lines:
    """What is left of a trained detector at half its MACs and in int8."""
    lines = [
        "**Compressed**: `ssdlite320_mobilenet_v2` pruned to half its MACs, fine-tuned with itself "
        "as teacher, trained for int8 and quantised; one run each, AP on `test`, milliseconds of "
        "one picture from array to boxes (`benchmarks/compression.py`; every stage and the "
        "intervals are in [docs/compression.md](docs/compression.md)):",
        "",
        "| data | | AP | AP50 | MMACs | MB | ms, OpenVINO | ms, ONNX Runtime |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for data, rows in result["ledgers"].items():
        for row in (each for each in rows if each["stage"] in ("start", "fine-tuned", "int8")):
            lines.append(
                f"| {data} | {row['stage']} | {row['AP']:.3f} | {row['AP50']:.3f} "
                f"| {row['macs'] / 1e6:.0f} | {row['mb']:.1f} "
                f"| {row['runtimes']['openvino']:.1f} | {row['runtimes']['onnxruntime']:.1f} |"
            )
    return lines


SECTIONS = {
    "bccd": bccd,
    "cards": cards,
    "detectors_voc6": detectors,
    "exported": exported,
    "predictor": predictor,
    "compression": compression,
    "folding": folding,
    "input_pipeline": input_pipeline,
    "training_step": training_step,
    "evaluation": evaluation,
    "device_model": device_model,
    "design": design,
}

if __name__ == "__main__":
    main()
