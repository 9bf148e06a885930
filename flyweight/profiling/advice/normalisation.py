"""GroupNorm where batches are small, BatchNorm where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flyweight.profiling.advice.advice import Advice
from flyweight.profiling.advice.context import Context, cure, listed_layers
from flyweight.profiling.advice.convolution import convolutions, part_of
from flyweight.profiling.operation import Operation

SMALL_BATCH, LARGE_BATCH = "small_batches", "norms_that_fold"
SOURCE = (
    "Wu and He 2018 (GroupNorm), figure 1, https://arxiv.org/abs/1803.08494: BatchNorm loses below "
    "16 images a device and GroupNorm does not; at 16 and more BatchNorm is as good, and it folds"
)
# Images of a training step on one device: 8 cost 0.7 points of top-1, 4 cost 2.
FEW, ENOUGH = 8, 16
FIELDS = ("norm", "backbone_norm")
NORM_OF = {"backbone": "backbone_norm", "neck": "norm", "head": "norm"}


def small_batches(context: Context) -> list[Advice]:
    """BatchNorm in a detector that trains in batches of a few images."""
    batch = context.target.batch_size
    if batch is None or batch > FEW:
        return []
    found = _batch_norms(context)
    fields = {field: "group" for field in FIELDS if _norm(context, field) == "batch"}
    offered = cure(context, _batch_norms, fields) if found else None
    if offered is None:
        return []
    finding = f"batches of {batch} are too small for the statistics of BatchNorm"
    change = "take GroupNorm; unlike BatchNorm it cannot be folded, which is its price"
    names = listed_layers(found)
    advice = Advice(SMALL_BATCH, finding, change, SOURCE, names, offered[1], offered[0])
    return [replace(advice, serves="accuracy")]


def norms_that_fold(context: Context) -> list[Advice]:
    """GroupNorm in a detector that trains in large batches: it stays in the network for good."""
    batch = context.target.batch_size
    if batch is None or batch < ENOUGH:
        return []
    found = _group_norms(context)
    fields = {field: "batch" for field in FIELDS if _norm(context, field) == "group"}
    offered = cure(context, _group_norms, fields) if found and fields else None
    if offered is None:
        return []
    names = listed_layers(found)
    finding = f"{len(names)} GroupNorms stay in the exported network, though batches of {batch} do "
    finding += "not need them"
    change = "take BatchNorm, which is folded into the convolutions"
    return [Advice(LARGE_BATCH, finding, change, SOURCE, names, offered[1], offered[0])]


def _group_norms(context: Context) -> Sequence[Operation]:
    return [each for each in context.cost.operations if each.kind == "group_norm"]


def _batch_norms(context: Context) -> Sequence[Operation]:
    """The convolutions that a BatchNorm has been folded into, by what the config says."""
    return [
        operation
        for _, operation in convolutions(context.cost)
        if _norm(context, NORM_OF.get(part_of(operation), "")) == "batch"
    ]


def _norm(context: Context, field: str) -> str:
    return str(getattr(context.config, field, ""))
