"""The page as routes of a server: its files, the model and the runtime, each by its own name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flyweight.core.manifest import Manifest
from flyweight.web_page.folder import page_config
from flyweight.web_page.onnxruntime_web import FILES, find_onnxruntime_web
from flyweight.web_page.page_files import (
    CONFIG,
    CONTENT_TYPES,
    HEADERS,
    MODEL,
    RUNTIME,
    page_files,
)

if TYPE_CHECKING:
    from fastapi import APIRouter

DETECT = "v1/detect"
# What the runtime's files are never changes under their address for long.
A_DAY = "public, max-age=86400"
EACH_TIME = "no-cache"


class Described(Protocol):
    """Whatever has a manifest, such as `flyweight.runtime.predictor.Predictor`."""

    manifest: Manifest


def page_router(
    model_path: str | os.PathLike[str],
    predictor: Described,
    *,
    onnxruntime_web: str | os.PathLike[str] | None = None,
    share_model: bool = True,
) -> APIRouter:
    """Routes of the page: `/`, its files, `/config.json`, and what runs the model in the browser.

    The page runs the model itself where the file is an .onnx and this machine has onnxruntime-web
    (`flyweight.web_page.onnxruntime_web.find_onnxruntime_web`; nothing is downloaded). It can
    always send pictures to the server's `/v1/detect` instead.

    Args:
        model_path: the exported file that the server runs.
        predictor: the server's; only its manifest is read.
        onnxruntime_web: a folder with the npm package.
        share_model: let browsers have the model file; without, the server alone runs it.
    """
    from fastapi import APIRouter
    from fastapi.responses import FileResponse, JSONResponse

    router = APIRouter(include_in_schema=False)
    files = page_files()
    path = Path(model_path)
    runtime = find_onnxruntime_web(onnxruntime_web)
    engines = ["server"]
    if share_model and runtime is not None and path.suffix.lower() == ".onnx":
        engines = ["browser", "server"]
        files |= {f"{RUNTIME}/{name}": runtime / name for name in FILES}
        files[MODEL] = path
    content = page_config(predictor.manifest, engines=engines, detect=DETECT)

    async def config() -> Any:
        return JSONResponse(content, headers={**HEADERS, "Cache-Control": EACH_TIME})

    def serve(file: Path, caching: str) -> Any:
        headers = {**HEADERS, "Cache-Control": caching}

        async def answer() -> Any:
            return FileResponse(file, media_type=CONTENT_TYPES[file.suffix], headers=headers)

        return answer

    router.add_api_route(f"/{CONFIG}", config, methods=["GET", "HEAD"])
    for name, file in files.items():
        caching = A_DAY if name.startswith(f"{RUNTIME}/") else EACH_TIME
        address = "/" if name == "index.html" else f"/{name}"
        router.add_api_route(address, serve(file, caching), methods=["GET", "HEAD"])
    return router
