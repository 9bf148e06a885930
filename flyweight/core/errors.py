"""Errors that a user can act on. The command line prints them as one line, never as a traceback."""

from __future__ import annotations

import os


class FlyweightError(Exception):
    """Base of every error that Flyweight raises on purpose."""

    exit_code = 1


class InputError(FlyweightError):
    """Something the user gave cannot be used. Exit code 2.

    Args:
        what: what is wrong, in a few words.
        where: the file, line or field it was found in.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(
        self, what: str, *, where: str | os.PathLike[str] | None = None, fix: str | None = None
    ) -> None:
        self.what = what
        self.where = None if where is None else os.fspath(where)
        self.fix = fix
        message = what
        if self.where:
            message += f" ({self.where})"
        if fix:
            message += f"; {fix}"
        super().__init__(message)


class CheckError(FlyweightError):
    """A check that Flyweight made itself does not hold (export parity, data check). Exit code 1."""

    exit_code = 1
