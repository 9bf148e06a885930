"""`flyweight compress`: a detector made smaller stage by stage, and what each stage cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from flyweight.cli.options import Data, Debug, DeviceModelFile, Json
from flyweight.cli.output import note, progress_bar, result
from flyweight.core.errors import InputError

if TYPE_CHECKING:
    from flyweight.compression.prune_target import Target

IMPORTANCES = ("taylor", "magnitude", "bn_scale")
SCOPES = ("global", "layer")

Model = Annotated[Path, typer.Argument(help="A .safetensors file.", metavar="FILE")]
Out = Annotated[Path, typer.Option(help="Folder; a stage that is in it is kept.", metavar="DIR")]
Prune = Annotated[
    float | None,
    typer.Option(help="Prune channels to this share of what the model costs.", metavar="0.5"),
]
PruneTo = Annotated[
    float | None,
    typer.Option(
        help="Or to so many millions of MACs or parameters, or milliseconds.", metavar="5"
    ),
]
Unit = Annotated[str, typer.Option("--prune-unit", help="Of that cost.", metavar="macs|params|ms")]
Importance = Annotated[
    str,
    typer.Option(
        help="What a channel matters by: the loss on labelled images, or its weights.",
        metavar="taylor|magnitude|bn_scale",
    ),
]
Rounds = Annotated[
    int, typer.Option("--prune-rounds", min=1, help="taylor is measured anew in each.")
]
ImportanceImages = Annotated[int, typer.Option(min=1, help="Labelled images that taylor reads.")]
Scope = Annotated[
    str,
    typer.Option(help="All channels ranked together, or each layer alike.", metavar="global|layer"),
]
Epochs = Annotated[
    int, typer.Option(min=0, help="Of fine-tuning after pruning; 0 for none.", metavar="N")
]
Distill = Annotated[
    Path | None,
    typer.Option(
        help="Fine-tune beside the labels from this detector; FILE itself is a good one.",
        metavar="TEACHER",
    ),
]
DistillKinds = Annotated[
    str,
    typer.Option(
        "--distill-what", help="What of it, with commas.", metavar="logits|boxes|features|fgd"
    ),
]
LearningRate = Annotated[float | None, typer.Option(help="Of fine-tuning. (default: by recipe)")]
Fold = Annotated[
    bool, typer.Option("--fold", help="BatchNorm into the layers before it, as export does too.")
]
Aware = Annotated[
    int,
    typer.Option(
        "--qat", min=0, help="Epochs of training with the roundings of int8.", metavar="N"
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(help="Export in this precision.", metavar="int8|int8-weights|fp16|bf16"),
]
MaxLoss = Annotated[
    float, typer.Option(help="AP points that it may cost: int8 leaves in float what costs more.")
]
To = Annotated[str, typer.Option(help="Of the quantised file.", metavar="onnx|openvino")]
Repeats = Annotated[int, typer.Option(min=1, help="Timed runs of each stage; the median counts.")]


def compress(
    file: Model,
    data: Data,
    out: Out = Path("compressed"),
    prune: Prune = None,
    prune_to: PruneTo = None,
    prune_unit: Unit = "macs",
    importance: Importance = "taylor",
    rounds: Rounds = 3,
    importance_images: ImportanceImages = 64,
    scope: Scope = "global",
    device_model: DeviceModelFile = None,
    fine_tune: Epochs = 10,
    distill: Distill = None,
    distill_what: DistillKinds = "logits",
    lr: LearningRate = None,
    fold: Fold = False,
    qat: Aware = 0,
    quantize: Quantize = None,
    max_loss: MaxLoss = 0.5,
    to: To = "onnx",
    repeats: Repeats = 20,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a trained model smaller: prune, fine-tune, fold, quantise, in this order.

    Fine-tuning comes before folding, since folded norms no longer train, and training for int8
    (--qat) before int8 itself, which is last. Each stage leaves a file of its own in --out; the
    same command again makes only what is missing. The ledger says what each stage cost in AP on
    the test images and saved in time and size.
    """
    with result(as_json=json) as show:
        for value, choices, option in (
            (importance, IMPORTANCES, "importance"),
            (scope, SCOPES, "scope"),
        ):
            if value not in choices:
                raise InputError(
                    f"unknown {option} '{value}'", fix=f"choose {' or '.join(choices)}"
                )
        from flyweight.pipeline.compress import CompressionPlan, compress_file
        from flyweight.pipeline.compression_stages import Pruning

        plan = CompressionPlan(
            target=_target(prune, prune_to, prune_unit, device_model),
            pruning=Pruning(
                cast(Any, importance), cast(Any, scope), rounds=rounds, images=importance_images
            ),
            fine_tune=fine_tune,
            lr=lr,
            teacher=distill,
            distil=tuple(distill_what.split(",")),
            fold=fold,
            int8_epochs=qat,
            precision=quantize,
            max_loss=max_loss,
            format=to,
        )
        done = compress_file(
            file, data, out, plan, repeats=repeats, say=note, progress=progress_bar
        )
        show(done.to_dict(), lambda console: console.print(done.ledger.to_table()))


def _target(
    share: float | None, amount: float | None, unit: str, device_model: Path | None
) -> Target | None:
    """What pruning aims at; None where none was asked for."""
    from flyweight.compression.prune_target import Target
    from flyweight.profiling.device_model import DeviceModel

    if share is None and amount is None:
        return None
    if share is not None and amount is not None:
        raise InputError("--prune and --prune-to exclude each other", fix="give one of them")
    if amount is not None and unit != "ms":
        amount *= 1e6
    device = None if device_model is None else DeviceModel.load(device_model)
    return Target(share=share, amount=amount, unit=cast(Any, unit), device=device)
