"""ncnn's .param: a text of one layer a line, read strictly, since files come from strangers.

ncnn itself believes what it reads: a list that is too short or a number of the wrong kind makes it
read memory that is not its own. So the text is read here, checked (`ncnn_shapes`), and what ncnn is
given is written from that. The format: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAGIC = "7767517"
MAX_LAYERS = 20_000
MAX_TEXT = 16 * 2**20
# Keys of options are 0 to 31; that of a list is written as -23300 - key.
LIST_KEY = -23300
MAX_KEY = 31

_NAME = re.compile(r"[\w.:/+-]{1,200}", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,10}", re.ASCII)
# ncnn reads 15 characters of a number.
_NUMBER = re.compile(r"(?=.{1,15}$)[+-]?\d{1,10}(\.\d*)?([eE][+-]?\d{1,2})?", re.ASCII)
_MAX_INTEGER = 2**31 - 1


@dataclass(frozen=True)
class NcnnLayer:
    """One line.

    Attributes:
        kind: such as `Convolution`.
        name: of the layer; means nothing to ncnn.
        inputs, outputs: names of blobs.
        options: numbers as they are written, by key; a tuple is a list.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[int, str | tuple[str, ...]]

    def integer(self, key: int, default: int = 0) -> int:
        """An option that is an integer.

        Raises:
            ValueError: it is something else; ncnn would take the bits of a float for an integer.
        """
        value = self.options.get(key, str(default))
        if not isinstance(value, str):
            raise ValueError(f"option {key} of {self.name} is a list")
        return _integer(value)

    def integers(self, key: int) -> tuple[int, ...]:
        """An option that is a list of integers; ValueError where it is not."""
        values = self.options.get(key, ())
        if isinstance(values, str):
            raise ValueError(f"option {key} of {self.name} is no list")
        return tuple(_integer(value) for value in values)


def read_graph(text: str) -> tuple[NcnnLayer, ...]:
    """The layers of a .param.

    Raises:
        ValueError: the text is not one, or not whole.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"{len(text)} characters")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or lines[0] != [MAGIC] or len(lines[1]) != 2:
        raise ValueError("it does not begin as a .param does")
    layers, blobs = (_integer(word) for word in lines[1])
    if layers != len(lines) - 2 or not 0 < layers <= MAX_LAYERS:
        raise ValueError(f"{len(lines) - 2} layers, {layers} announced")
    graph = tuple(_read_layer(words) for words in lines[2:])
    if blobs != sum(len(layer.outputs) for layer in graph):
        raise ValueError(f"{blobs} blobs announced")
    return graph


def write_graph(layers: Sequence[NcnnLayer]) -> str:
    """The text of a .param; `read_graph` reads it back."""
    blobs = sum(len(layer.outputs) for layer in layers)
    lines = [MAGIC, f"{len(layers)} {blobs}"]
    for layer in layers:
        counts = f"{len(layer.inputs)} {len(layer.outputs)}"
        options = (_write_option(key, layer.options[key]) for key in sorted(layer.options))
        words = (f"{layer.kind:<24} {layer.name:<24} {counts}", *layer.inputs, *layer.outputs)
        lines.append(" ".join((*words, *options)))
    return "\n".join(lines) + "\n"


def _read_layer(words: list[str]) -> NcnnLayer:
    if len(words) < 4:
        raise ValueError(f"a line of {len(words)} words")
    inputs, outputs = _integer(words[2]), _integer(words[3])
    first_option = 4 + inputs + outputs
    if inputs < 0 or outputs < 0 or len(words) < first_option:
        raise ValueError(f"layer {words[1][:50]} is cut")
    names = (*words[:2], *words[4:first_option])
    if not all(_NAME.fullmatch(name) for name in names):
        raise ValueError("a name that no layer has")
    options: dict[int, str | tuple[str, ...]] = {}
    for word in words[first_option:]:
        key, value = _read_option(word)
        if key in options:
            raise ValueError(f"option {key} of {words[1]} twice")
        options[key] = value
    split = 4 + inputs
    return NcnnLayer(
        words[0], words[1], tuple(words[4:split]), tuple(words[split:first_option]), options
    )


def _read_option(word: str) -> tuple[int, str | tuple[str, ...]]:
    left, _, right = word.partition("=")
    key, values = _integer(left), right.split(",")
    is_list = key <= LIST_KEY
    key = LIST_KEY - key if is_list else key
    if not 0 <= key <= MAX_KEY:
        raise ValueError(f"option {key}")
    numbers = values[1:] if is_list else values
    if (is_list and _integer(values[0]) != len(numbers)) or (not is_list and len(values) != 1):
        raise ValueError(f"option {key} has {len(numbers)} numbers")
    if not all(_NUMBER.fullmatch(number) for number in numbers):
        raise ValueError(f"option {key} is no number")
    return key, tuple(numbers) if is_list else numbers[0]


def _write_option(key: int, value: str | tuple[str, ...]) -> str:
    if isinstance(value, str):
        return f"{key}={value}"
    return f"{LIST_KEY - key}={','.join((str(len(value)), *value))}"


def _integer(word: str) -> int:
    if not _INTEGER.fullmatch(word) or abs(int(word)) > _MAX_INTEGER:
        raise ValueError(f"{word[:20]!r} is no integer")
    return int(word)
