"""What an operation asks of a machine, as amounts that each take their time: a device's rates.

Time is taken to be a sum of amounts, each times a rate of the device: starting the operator, its
multiply-accumulate pairs, the elements it reads and writes, its weights. The parts of a network
that are no operation of it, a picture taken in and predictions decoded, are amounts too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from flyweight.profiling.fusion import CONVOLUTIONS
from flyweight.profiling.operation import FLOAT_BYTES, NetworkCost, Operation

# amounts by name, such as `depthwise macs`
Work = dict[str, float]

# Maps that together are larger than a core's cache leave it between two operators.
CACHE_BYTES = 1 << 20
# channels that one instruction handles on the widest units in use
LANES = 8
IMAGE_CHANNELS = 3
BOX_VALUES = 4


def operation_work(operation: Operation) -> Work:
    """Amounts of an operation that runs by itself."""
    if operation.kind in CONVOLUTIONS:
        return _convolution_work(operation)
    written = math.prod(operation.output_shape)
    read = sum(map(math.prod, operation.input_shapes))
    kind = operation.kind
    amounts: Work = {"starts": 1.0, "read": read, "written": written}
    if kind in ("add", "mul") and len(set(operation.input_shapes)) > 1:
        kind = f"{kind} of a vector"
    if kind == "concat":
        kind = f"concat of {'rows' if len(operation.output_shape) == 3 else 'maps'}"
        amounts = {"starts": 1.0, "parts": len(operation.inputs), "written": written}
    elif operation.geometry is not None:
        amounts["taps"] = written * math.prod(operation.geometry.kernel_hw)
    elif operation.macs:
        amounts = {"starts": 1.0, "macs": operation.macs, "weights": operation.weight_bytes}
    elif read == written:
        del amounts["read"]
    return {f"{kind} {name}": float(amount) for name, amount in amounts.items()}


def fused_work(operation: Operation) -> Work:
    """Amounts of an operation that runs inside a convolution."""
    return {f"{operation.kind} inside": float(math.prod(operation.output_shape))}


def surrounding_work(cost: NetworkCost) -> Work:
    """Amounts of a run that are no operation's: its start, its input, decoding of its rows."""
    elements = math.prod(cost.input_shape)
    image = cost.input_shape[1] == IMAGE_CHANNELS
    work: Counter[str] = Counter({"runs": 1.0, "picture" if image else "map": float(elements)})
    for index in cost.outputs:
        shape = cost.operations[index].output_shape
        rows = len(shape) == 3
        kind = "boxes" if shape[-1] == BOX_VALUES else "scores"
        work[f"decoded {kind}" if rows else "output"] += math.prod(shape)
        work["decodings"] += rows
    return dict(work)


def _convolution_work(operation: Operation) -> Work:
    geometry = operation.geometry
    assert geometry is not None
    read = sum(map(math.prod, operation.input_shapes))
    written = math.prod(operation.output_shape)
    taps = math.prod(geometry.kernel_hw)
    weights = operation.weight_bytes / FLOAT_BYTES
    family = convolution_family(operation)
    amounts: Work = {
        "starts": 1.0,
        "macs": operation.macs,
        "read": read,
        "written": written,
        "weights": weights,
    }
    if family == "depthwise":
        stride = max(geometry.stride_hw)
        amounts[f"macs, {max(geometry.kernel_hw)}x at stride {min(stride, 2)}"] = operation.macs
        amounts["rows"] = math.prod(operation.output_shape[:3])
        del amounts["macs"]
    else:
        amounts["full lanes"] = _macs_of_full_lanes(operation, taps)
        if family == "grouped":
            amounts["groups"] = geometry.groups
        elif taps > 1:
            amounts["gathered"] = taps * read / math.prod(geometry.stride_hw)
            if max(geometry.stride_hw) > 1:
                amounts["strided macs"] = operation.macs
    spilled = max(0.0, FLOAT_BYTES * (read + written) - CACHE_BYTES)
    work = {f"{family} {name}": float(amount) for name, amount in amounts.items()}
    return work | {"convolution spilled": spilled}


def convolution_family(operation: Operation) -> str:
    """Convolutions of one family are run by one kind of kernel."""
    geometry = operation.geometry
    assert geometry is not None
    if operation.kind != "conv2d":
        return operation.kind
    if operation.depthwise:
        return "depthwise"
    if geometry.groups > 1:
        return "grouped"
    if operation.input_shapes[0][1] <= IMAGE_CHANNELS + 1:
        return "stem"
    return "pointwise" if geometry.kernel_hw == (1, 1) else "dense"


def _macs_of_full_lanes(operation: Operation, taps: int) -> float:
    """Multiply-accumulate pairs, had each group whole vectors of channels on both sides."""
    geometry = operation.geometry
    assert geometry is not None
    batch, written, height, width = operation.output_shape
    sides: Sequence[int] = (operation.input_shapes[0][1], written)
    lanes = math.prod(LANES * math.ceil(side / geometry.groups / LANES) for side in sides)
    return float(batch * lanes * geometry.groups * taps * height * width)
