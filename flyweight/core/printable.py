"""Text from strangers' files on its way to a terminal, and names that need no such care.

A class name or a file name may hold the sequences that move a terminal's cursor, write its title or
paste into its input, or that turn the reading direction of what follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from flyweight.core.errors import InputError

# C0 and C1 controls, line and paragraph separators, bidirectional overrides, half characters.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROLS = re.compile(f"[{_UNSAFE}]")
# All of them but line ends, tabs and the colours that rich writes itself.
_IN_OUTPUT = re.compile(f"(?!\n|\t|\x1b\\[[0-9;]*m)[{_UNSAFE}]")
MAX_CLASSES = 65_536
MAX_NAME = 1_000


def printable(text: str) -> str:
    """`text` with control characters as `\\x1b` or `\\u202e`: one line, and harmless."""
    return _CONTROLS.sub(_spelled, text)


def printable_output(text: str) -> str:
    """As `printable`, but lines, tabs and colours stay."""
    return _IN_OUTPUT.sub(_spelled, text)


def printable_json(text: str) -> str:
    """JSON with the control characters inside its strings as `\\u202e`; it reads back the same."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def check_class_names(names: Iterable[str], where: object) -> None:
    """Raise InputError where names of classes are too many, or one is no name."""
    known = tuple(names)
    if len(known) > MAX_CLASSES:
        raise InputError(f"{len(known)} classes, over the limit of {MAX_CLASSES}", where=str(where))
    for name in known:
        if len(name) > MAX_NAME or _CONTROLS.search(name):
            raise InputError(
                f"a class is called '{printable(name[:60])}'",
                where=str(where),
                fix="give it a name of one line, without control characters",
            )


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
