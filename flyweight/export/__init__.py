"""Files for runtimes, each run and compared with the torch model before it is kept.

`flyweight.export` is both this room and, by the contract of the Python side, a function. Importing
the room binds its name in the package over the function's, so the room itself can be called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableRoom(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from flyweight.api import export

        return export(*arguments, **options)


sys.modules[__name__].__class__ = _CallableRoom
