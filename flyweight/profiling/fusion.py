"""Which operations a runtime runs inside another: what follows a convolution costs no pass.

BatchNorm folds into the weights before it when a file is exported (Jacob et al. 2018, section 3.2);
ONNX Runtime's and OpenVINO's graph optimisers then give a convolution its activation and the sum of
a residual connection, so that neither reads or writes memory again.
"""

from __future__ import annotations

from collections import Counter

from flyweight.profiling.operation import NetworkCost

CONVOLUTIONS = frozenset({"conv2d", "conv_transpose2d", "deform_conv2d"})
# by runtime: activations that a convolution takes in; torch's eager mode fuses nothing
ACTIVATIONS = {
    "torch": frozenset[str](),
    "onnxruntime": frozenset(
        {"relu", "relu6", "hardtanh", "hardsigmoid", "hardswish", "sigmoid", "leaky_relu", "tanh"}
    ),
    "openvino": frozenset(
        {
            "relu", "relu6", "hardtanh", "hardsigmoid", "hardswish", "sigmoid", "leaky_relu",
            "tanh", "silu", "mish",
        }
    ),
}  # fmt: skip


def fused_into(cost: NetworkCost, *, runtime: str) -> tuple[int, ...]:
    """For each operation the index of the one that it runs in: its own, if it runs by itself.

    Args:
        cost: of a network; norms that are still there fold, except in torch.
        runtime: `torch`, `onnxruntime` or `openvino`.
    """
    operations = cost.operations
    readers = Counter(source for each in operations for source in each.inputs)
    readers.update(cost.outputs)
    runs_in = list(range(len(operations)))
    if runtime == "torch":
        return tuple(runs_in)
    # of each convolution whose sum with another map it takes in: there is room for one
    summed: set[int] = set()
    for index, operation in enumerate(operations):
        sources = [source for source in operation.inputs if source >= 0 and readers[source] == 1]
        heads = [runs_in[source] for source in sources]
        if operation.kind == "batch_norm" or operation.kind in ACTIVATIONS[runtime]:
            # of both terms of a sum the later one takes it in
            heads = heads if len(operation.inputs) == 1 else []
        elif operation.kind == "add" and len(set(operation.input_shapes)) == 1:
            heads = [
                head
                for source, head in zip(sources, heads, strict=True)
                if head not in summed and operations[source].kind in CONVOLUTIONS | {"batch_norm"}
            ]
        else:
            continue
        heads = [head for head in heads if operations[head].kind in CONVOLUTIONS]
        if heads:
            runs_in[index] = max(heads)
            if operation.kind == "add":
                summed.add(max(heads))
    return tuple(runs_in)
