"""The commands of docs/serving.md, as they stand there, against a server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flyweight.core.image import write_image
from flyweight.runtime.predictor import Predictor
from flyweight.server.app import create_app
from flyweight.server.settings import ServerSettings
from tests.docs.blocks import ROOT, blocks
from tests.server.conftest import cells_picture
from tests.server.test_serve import in_a_thread

PAGE = "docs/serving.md"
ADDRESS = "http://127.0.0.1:8000"


def curl_commands() -> list[str]:
    """Every command of the page that asks a server."""
    own = [block for block in blocks() if (block.page, block.language) == (PAGE, "sh")]
    found = [command for block in own for command in block.commands if "curl" in command]
    assert len(found) == 7
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
def test_commands(predictor: Predictor, tmp_path: Path) -> None:
    write_image(tmp_path / "photo.jpg", cells_picture((1, 2, 0), side=64))
    app = create_app(predictor, ServerSettings(api_keys=("secret",)))
    with in_a_thread(create_app(predictor)) as url, in_a_thread(app) as locked:
        for command in curl_commands():
            asked = command.replace(ADDRESS, locked if "$KEY" in command else url)
            environment = os.environ | {"KEY": "secret"}
            answer = subprocess.run(
                ["bash", "-c", asked.replace("curl ", "curl --fail -sS ")],
                cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert answer.returncode == 0, (asked, answer.stderr)
            if "/v1/detect" in command:
                images = json.loads(answer.stdout)["images"]
                assert len(images) == max(1, command.count("=@"))
                for image in images:
                    assert image["class_names"] == ["red"]
                    assert image["name"] in ("photo.jpg", "photo")


def test_the_limits_are_those_of_the_page() -> None:
    """Its table has the defaults of the command line and of the settings."""
    import inspect

    from flyweight.cli.serve import serve

    text = (ROOT / PAGE).read_text(encoding="utf-8")
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(serve).parameters.items()
    }
    units = {"": 1, " MB": 1_000_000, " million": 1_000_000}
    rows = re.findall(r"`--([a-z-]+)` (\d+)( MB| million|)", text)
    assert {name for name, *_ in rows} == {
        "max-bytes", "max-pictures", "max-pixels", "queue", "timeout-s",
    }  # fmt: skip
    for name, number, unit in rows:
        option = name.replace("-", "_")
        assert defaults[option] == int(number) * units[unit] == getattr(ServerSettings(), option)
    for name in ("max_batch", "deadline_ms"):
        assert defaults[name.removeprefix("max_")] == getattr(ServerSettings(), name)
