from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flyweight.models.detectors import checkpoint
from flyweight.training.resume import load_state

RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from pathlib import Path
from tests.training.conftest import draw_dataset, tiny_detector
from flyweight.training.loop import train
from flyweight.training.recipe import Recipe

folder = Path(sys.argv[2])
images = folder / f"images_{sys.argv[4]}"
images.mkdir()
data = draw_dataset(images, "train", 16, seed=1)
val = draw_dataset(images, "val", 3, seed=2)
recipe = Recipe(
    epochs=2, batch_size=int(sys.argv[3]), device="cpu", strategy="ddp", eval_every=1,
    clip_norm=0.0, optimizer="sgd", lr=1e-3, ema_decay=0.0, devices=2,
)
result = train(tiny_detector(), data, val, recipe, folder / "run", progress=False)
assert result.epochs == 2
assert result.metrics["AP"] is not None
"""


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """Two gloo processes, as torchrun starts them: one folder, each image evaluated once."""
    root = Path(__file__).parents[2]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = os.environ | {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        arguments = [sys.executable, "-c", RUN, str(root), str(tmp_path), "4", str(rank)]
        processes.append(subprocess.Popen(arguments, cwd=root, env=environment))
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    run = tmp_path / "run"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all("AP" in row for row in rows)
    checkpoint.load(run / "best.safetensors")
    state = load_state(run / "resume.pt")
    assert state.epoch == 2
    # 16 images, two processes with batches of 4: two steps an epoch
    assert state.step["schedule"]["last_epoch"] == 4
