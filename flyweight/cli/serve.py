"""`flyweight serve`: an exported file behind HTTP."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flyweight.cli.options import Debug, Json, Runtime
from flyweight.cli.output import note, result

if TYPE_CHECKING:
    import socket

KEY_VARIABLE = "FLYWEIGHT_API_KEY"
IDLE_S = 30.0

Model = Annotated[
    Path, typer.Argument(help="An exported file: .onnx, .xml, .tflite, .param.", metavar="FILE")
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of one run of the network.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Runs of the network at once. (default: cores / threads)"),
]
Decoders = Annotated[
    int | None, typer.Option(min=1, help="Threads that decode pictures. (default: cores)")
]
Batch = Annotated[
    int, typer.Option(min=1, help="Pictures of one run at most, where the file takes any number.")
]
Deadline = Annotated[
    float, typer.Option(min=0, help="Milliseconds that a picture waits for others of its run.")
]
Queue = Annotated[int, typer.Option(min=1, help="Pictures at work or waiting; beyond it: 503.")]
MaxBytes = Annotated[int, typer.Option(min=1, help="Of a request.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Of a picture, by its header.")]
MaxPictures = Annotated[int, typer.Option(min=1, help="Of a request.")]
Timeout = Annotated[float, typer.Option(min=0.01, help="Seconds of a request.")]
Grace = Annotated[float, typer.Option(min=0, help="Seconds to finish in when it is stopped.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        help=f"API keys, one a line; or the environment's {KEY_VARIABLE} holds one.",
        metavar="FILE",
    ),
]
AllowedHost = Annotated[
    list[str] | None,
    typer.Option(help="A name that requests may call this server by, behind a proxy. May repeat."),
]
AllowAnyone = Annotated[
    bool, typer.Option("--allow-anyone", help="Listen beyond this machine without an API key.")
]
ShareModel = Annotated[
    bool,
    typer.Option(
        "--share-model/--keep-model",
        help="Let the page run the file in the browser, or only the server.",
    ),
]


def serve(
    file: Model,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    runtime: Runtime = None,
    threads: Threads = 1,
    workers: Workers = None,
    decoders: Decoders = None,
    batch: Batch = 1,
    deadline_ms: Deadline = 2.0,
    queue: Queue = 64,
    max_bytes: MaxBytes = 20_000_000,
    max_pixels: MaxPixels = 50_000_000,
    max_pictures: MaxPictures = 16,
    timeout_s: Timeout = 30.0,
    grace_s: Grace = 30.0,
    api_key_file: KeyFile = None,
    allowed_host: AllowedHost = None,
    allow_anyone: AllowAnyone = False,
    share_model: ShareModel = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Serve a detector over HTTP until it is stopped."""
    # Read by OpenCV when it is loaded: a second net under the server's own look at headers.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(max_pixels))
    with contextlib.ExitStack() as open_until_the_end:
        with result(as_json=json) as show:
            from flyweight.runtime.load import load_predictor
            from flyweight.runtime.session import available_cores
            from flyweight.server.app import create_app
            from flyweight.server.serve import address, listen, run
            from flyweight.server.settings import ServerSettings

            keys = read_keys(api_key_file)
            at_once = workers or max(1, available_cores() // threads)
            predictors = [
                load_predictor(file, threads=threads, runtime=runtime) for _ in range(at_once)
            ]
            listening = open_until_the_end.enter_context(listen(host, port))
            settings = ServerSettings(
                max_batch=batch,
                deadline_ms=deadline_ms,
                queue=queue,
                max_bytes=max_bytes,
                max_bytes_at_once=max(10 * max_bytes, ServerSettings.max_bytes_at_once),
                max_pixels=max_pixels,
                max_pictures=min(max_pictures, queue),
                timeout_s=timeout_s,
                decoders=decoders or available_cores(),
                api_keys=keys,
                allowed_hosts=_hosts(listening, allowed_host, keys, allow_anyone=allow_anyone),
            )
            app = create_app(predictors, settings, model_path=file, share_model=share_model)
            own_host, own_port = listening.getsockname()[:2]
            content = {
                "url": address(listening),
                "host": own_host,
                "port": own_port,
                "model": str(file),
                "runtime": predictors[0].session.runtime,
                "batch": predictors[0].session.batch or batch,
                "threads": threads,
                "workers": at_once,
                "needs_key": bool(keys),
            }
            show(content, lambda console: console.print(f"{file} at {content['url']}"))
        note("stop it with Ctrl-C")
        run(app, listening, idle_s=IDLE_S, grace_s=grace_s)
    note("stopped: everything that was accepted has been answered")


def read_keys(file: Path | None) -> tuple[str, ...]:
    """The keys in `file`, one a line, or the environment's; none where there is neither.

    Raises:
        InputError: the file is missing or holds no key, or the variable is empty.
    """
    from flyweight.core.errors import InputError

    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("the API keys cannot be read", where=file) from error
        keys = tuple(line.strip() for line in lines if line.strip())
        if not keys:
            raise InputError("the file holds no API key", where=file, fix="write one a line")
        return keys
    key = os.environ.get(KEY_VARIABLE)
    if key is not None and not key.strip():
        raise InputError(f"{KEY_VARIABLE} is empty", fix="give a key, or unset it")
    return () if key is None else (key.strip(),)


def _hosts(
    listening: socket.socket,
    allowed: list[str] | None,
    keys: tuple[str, ...],
    *,
    allow_anyone: bool,
) -> tuple[str, ...] | None:
    """The names that requests may use; None for any, beyond this machine.

    Raises:
        InputError: others than this machine could ask, and no key is wanted from them.
    """
    from flyweight.core.errors import InputError
    from flyweight.server.serve import is_loopback
    from flyweight.server.settings import LOOPBACK_HOSTS

    names = tuple(name.lower() for name in allowed or ())
    if is_loopback(listening):
        return LOOPBACK_HOSTS + names
    if not keys and not allow_anyone:
        raise InputError(
            "whoever reaches this address could use the server",
            where="--host",
            fix="give --api-key-file, or --allow-anyone if that is meant",
        )
    if not keys:
        note("warning: no API key is asked for, and others than this machine can reach it")
    return LOOPBACK_HOSTS + names if names else None
