"""The command `flyweight`: its verbs, and how every error becomes one line and an exit code.

Exit codes: 0 done, 1 a check did not hold, 2 bad input, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from flyweight.cli import (
    bench,
    compress,
    convert,
    data,
    demo,
    design,
    eval,
    export,
    label,
    models,
    predict,
    pretrain,
    profile,
    serve,
    train,
)
from flyweight.cli.huge_pages import restart_with_huge_pages
from flyweight.core.errors import FlyweightError, InputError
from flyweight.core.printable import printable

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="flyweight",
    help="From labelled pictures to the smallest detector that does the job.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class InterruptedVerbError(Exception):
    """Ctrl-C, wrapped so that it reaches `main` through typer with what it has to say."""


def _verb(function: Callable[..., None]) -> Callable[..., None]:
    """The function with KeyboardInterrupt wrapped; typer would swallow its message."""

    @functools.wraps(function)
    def verb(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt as stopped:
            raise InterruptedVerbError(str(stopped)) from stopped

    return verb


VERBS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "models": models.models,
    "profile": profile.profile,
    "design": design.design,
    "pretrain": pretrain.pretrain,
    "label": label.label,
    "train": train.train,
    "eval": eval.evaluate,
    "predict": predict.predict,
    "convert": convert.convert,
    "compress": compress.compress,
    "export": export.export,
    "bench": bench.bench,
    "serve": serve.serve,
}
# Which extra brings a package that a verb misses; `train` brings all others.
EXTRAS = {
    "openvino": "compress",
    "nncf": "compress",
    "torch_pruning": "compress",
    "fastapi": "serve",
    "uvicorn": "serve",
    "starlette": "serve",
    "pydantic": "serve",
    "prometheus_client": "serve",
    "python_multipart": "serve",
}
TRAINING_VERBS = ("demo", "pretrain", "train")
DATA_VERBS: dict[str, Callable[..., None]] = {
    "check": data.check,
    "stats": data.stats,
    "convert": data.convert,
    "sample": data.sample,
}
for _name, _function in VERBS.items():
    app.command(_name)(_verb(_function))
data_app = typer.Typer(help=data.__doc__, no_args_is_help=True)
for _name, _function in DATA_VERBS.items():
    data_app.command(_name)(_verb(_function))
app.add_typer(data_app, name="data")


def _show_version(asked: bool) -> None:
    if asked:
        from flyweight import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    if arguments is None:
        restart_with_huge_pages(TRAINING_VERBS, sys.argv[1:])
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given, standalone_mode=False, prog_name="flyweight")
    except Exception as error:
        if "--debug" in given:
            traceback.print_exception(error)
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Print one line about the error; returns the exit code."""
    if isinstance(error, InputError):
        _say(f"error: {error}")
        return EXIT_BAD_INPUT
    if isinstance(error, FlyweightError):
        _say(f"failed: {error}")
        return error.exit_code
    if isinstance(error, InterruptedVerbError):
        _say(str(error) or "interrupted")
        return EXIT_INTERRUPTED
    usage = getattr(error, "format_message", None)
    if usage is not None:  # typer's usage errors; their module differs between its releases
        if not usage():  # no verb was given: the help has been shown instead
            return 0
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "flyweight"
        _say(f"error: {_one_line(usage())} (see: {command} --help)")
        return EXIT_BAD_INPUT
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        # the reader of our output has left; a second complaint at exit would be noise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    if _disk_is_full(error):
        _say("error: the disk is full; free some space and run it again")
        return EXIT_BAD_INPUT
    if isinstance(error, OSError) and error.filename:
        _say(f"error: {(error.strerror or str(error)).lower()} ({error.filename})")
        return EXIT_BAD_INPUT
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get(error.name or "", "train")
        _say(
            f"error: this needs the package '{error.name}', which is not installed; "
            f"run: pip install 'flyweight[{extra}]'"
        )
        return EXIT_BAD_INPUT
    _say(
        f"failed: unexpected {type(error).__name__}: {_one_line(str(error))}; "
        "this is a fault of Flyweight: run it again with --debug and report what it shows"
    )
    return EXIT_FAILED


def _disk_is_full(error: Exception) -> bool:
    """Native writers report it in words, as an exception of their own."""
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)


def _say(line: str) -> None:
    print(_one_line(line), file=sys.stderr, flush=True)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


if __name__ == "__main__":
    main()
