"""`flyweight serve` on loopback: milliseconds and images a second against concurrency; memory.

    python benchmarks/serving.py speed MODEL.onnx [--pictures DIR] [--seconds 2]
    python benchmarks/serving.py memory MODEL.onnx [--pictures DIR] [--requests 20000]

`speed` starts one server for each way to spend the cores and asks them in turn, so that all meet
the same machine; the client is a thread a connection with raw sockets in a process of its own.
`memory` sends pictures of several kinds, broken ones and connections that end in the middle, and
reads the server's memory as it goes. In both every answer is compared with the Python predictor's
boxes. MODEL is best an export with a dynamic batch. Each writes its part of `results/serving.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from machine import RESULTS, write_result
from serving_client import Connection, Question, expectations, form, in_json, metrics, server

from flyweight.core.image import encode_image
from flyweight.data.scenes import draw_scene
from flyweight.runtime.load import load_predictor

CONCURRENCY = (1, 2, 4, 8, 16)
PICTURES = 16


@dataclass(frozen=True)
class Way:
    """A way to spend the cores.

    Attributes:
        workers, threads: runs of the network at once, and threads of each.
        batch: pictures of a run at most.
        decoders: threads that decode.
        runtime: that opens the file; by default its own.
    """

    workers: int
    threads: int
    batch: int
    decoders: int = 2
    runtime: str | None = None

    def options(self) -> list[str]:
        """The words of the command line."""
        words = {
            "--workers": self.workers,
            "--threads": self.threads,
            "--batch": self.batch,
            "--decoders": self.decoders,
        }
        chosen = [] if self.runtime is None else ["--runtime", self.runtime]
        return [*chosen, *(str(word) for pair in words.items() for word in pair)]


WAYS = (
    Way(workers=1, threads=2, batch=1),
    Way(workers=1, threads=2, batch=8),
    Way(workers=2, threads=1, batch=1),
    Way(workers=2, threads=1, batch=8),
    Way(workers=2, threads=1, batch=1, decoders=1),
    Way(workers=1, threads=2, batch=1, runtime="openvino"),
    Way(workers=2, threads=1, batch=1, runtime="openvino"),
    Way(workers=2, threads=1, batch=8, runtime="openvino"),
)


@dataclass
class Times:
    """What one client saw."""

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0


def main() -> None:
    """Measure one part and write it beside the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("speed", "memory"))
    parser.add_argument("model", type=Path)
    parser.add_argument("--pictures", type=Path, help="a folder with JPEGs; drawn scenes without")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each cell of the table")
    parser.add_argument("--ways", default="", help="which ways, such as 0,1,2; all by default")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--out", default="serving")
    options = parser.parse_args()
    pictures = read_pictures(options.pictures)
    if options.part == "speed":
        chosen = [WAYS[int(each)] for each in options.ways.split(",") if each] or list(WAYS)
        result = speed(options.model, pictures, chosen, seconds=options.seconds)
    else:
        result = memory(options.model, pictures, requests=options.requests)
    print(json.dumps(result, indent=2))
    print(write_part(options.out, options.part, result))


def write_part(name: str, part: str, result: dict[str, Any]) -> Path:
    """`results/NAME.json` with this part new, and the other as it was; other ways' rows stay."""
    path = RESULTS / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    parts = {key: content[key] for key in ("speed", "memory") if key in content}
    if part == "speed" and part in parts:
        measured = {row["way"] for row in result["rows"]}
        old = [row for row in parts[part]["rows"] if row["way"] not in measured]
        lost = result["wrong_or_lost"] + (parts[part]["wrong_or_lost"] if old else 0)
        result = result | {"rows": [*old, *result["rows"]], "wrong_or_lost": lost}
    return write_result(name, parts | {part: result})


def read_pictures(folder: Path | None) -> list[bytes]:
    """Files of pictures, all different."""
    if folder is None:
        return [encode_image(draw_scene(seed, size_hw=(480, 640))[0]) for seed in range(PICTURES)]
    return [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))[:PICTURES]]


def speed(
    model: Path, pictures: list[bytes], ways: Sequence[Way], *, seconds: float
) -> dict[str, Any]:
    """Every way at every concurrency, in turns; a row for each."""
    rows, lost = [], 0
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server(model, way.options())) for way in ways]
        # At once every file is opened in the way in which it is served.
        expected = [expectations(model, pictures, way.runtime) for way in ways]
        for clients in CONCURRENCY:
            for way, (port, pid), found in zip(ways, servers, expected, strict=True):
                questions = [
                    form([data], [each]) for data, each in zip(pictures, found, strict=True)
                ]
                before, used_s = runs(port), cpu_s(pid)
                times, spent = ask_together(port, questions, clients=clients, seconds=seconds)
                after, used_s = runs(port), cpu_s(pid) - used_s
                lost += times.wrong
                rows.append(row(way, clients, times, spent, before, after, used_s))
                print(rows[-1], file=sys.stderr, flush=True)
    return {
        "what": "one picture a request over kept connections, client and server on one machine",
        "model": load_predictor(model).manifest.model["name"],
        "picture_bytes": round(statistics.mean(map(len, pictures))),
        "seconds_a_row": seconds,
        "wrong_or_lost": lost,
        "rows": rows,
    }


def row(
    way: Way,
    clients: int,
    times: Times,
    spent: float,
    before: tuple[float, float],
    after: tuple[float, float],
    used_s: float,
) -> dict[str, Any]:
    """One cell of the table; `before` and `after` are of `runs`, `used_s` the server's CPU time."""
    milliseconds = np.array(times.seconds) * 1000
    count, pictures = after[0] - before[0], after[1] - before[1]
    return {
        "way": f"{way.runtime or 'onnxruntime'}, {way.workers} × {way.threads} threads, "
        f"batch {way.batch}, {way.decoders} decoders",
        "clients": clients,
        "p50_ms": round(float(np.percentile(milliseconds, 50)), 2),
        "p99_ms": round(float(np.percentile(milliseconds, 99)), 2),
        "images_per_s": round(len(milliseconds) / spent, 1),
        "cpu_ms": round(used_s * 1000 / len(milliseconds), 2),
        "requests": len(milliseconds),
        "mean_batch": round(pictures / count, 2),
    }


def ask_together(
    port: int, questions: Sequence[Question], *, clients: int, seconds: float
) -> tuple[Times, float]:
    """As many clients, each with the next question as soon as the last is answered."""
    times = [Times() for _ in range(clients)]
    checks: list[list[tuple[Question, tuple[int, bytes]]]] = [[] for _ in range(clients)]
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        with Connection(port) as connection:
            asked = number
            while time.perf_counter() < end:
                chosen = questions[asked % len(questions)]
                start = time.perf_counter()
                answer = connection.ask(chosen.data)
                times[number].seconds.append(time.perf_counter() - start)
                checks[number].append((chosen, answer))
                asked += 1

    start = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - start
    # Compared afterwards: it would take the server's cores.
    wrong = sum(
        not chosen.is_answered_by(*answer) for checked in checks for chosen, answer in checked
    )
    return Times([each for seen in times for each in seen.seconds], wrong), spent


def runs(port: int) -> tuple[float, float]:
    """Runs of the network so far, and pictures in them."""
    text = metrics(port)
    count = re.search(r"flyweight_batch_pictures_count (\S+)", text)
    total = re.search(r"flyweight_batch_pictures_sum (\S+)", text)
    assert count is not None
    assert total is not None
    return float(count[1]), float(total[1])


def memory(model: Path, pictures: list[bytes], *, requests: int) -> dict[str, Any]:
    """The server's resident memory while it answers `requests` of every sort."""
    expected = expectations(model, pictures, None)
    broken = form([pictures[0][: len(pictures[0]) // 2]], None)
    sorts = [
        *(form([data], [found]) for data, found in zip(pictures, expected, strict=True)),
        *(in_json([data], [found]) for data, found in zip(pictures, expected, strict=True)),
        form(pictures[:4], expected[:4]),
        broken,
    ]
    clients, step, wrong, left = 10, max(1, requests // 40), 0, 0
    samples = []
    start = time.perf_counter()
    with server(model, []) as (port, pid):
        for done in range(step, requests + 1, step):
            share = step // clients
            wrong += ask_a_number(port, sorts, clients=clients, each=share)
            left += leave_in_the_middle(port, sorts[0])
            samples.append({"requests": done, "resident_mb": resident_mb(pid)})
            print(samples[-1], file=sys.stderr, flush=True)
        text = metrics(port)
        waiting = re.search(r"^flyweight_queue_pictures (\S+)", text, re.M)
    assert waiting is not None
    settled = [each["resident_mb"] for each in samples[len(samples) // 10 :]]
    return {
        "what": "forms, JSON, four pictures at once, broken pictures, clients that leave",
        "input_hw": load_predictor(model).session.size_hw,
        "clients": clients,
        "requests": requests,
        "left_in_the_middle": left,
        "wrong_or_lost": wrong,
        "in_the_queue_afterwards": float(waiting[1]),
        "seconds": round(time.perf_counter() - start),
        "resident_mb_after_a_tenth": settled[0],
        "resident_mb_at_the_end": settled[-1],
        "resident_mb_at_most": max(settled),
        "samples": samples,
    }


def ask_a_number(port: int, sorts: Sequence[Question], *, clients: int, each: int) -> int:
    """`each` questions from every client; how many were not answered, or wrongly."""
    wrong = [0] * clients

    def client(number: int) -> None:
        with Connection(port) as connection:
            for asked in range(each):
                chosen = sorts[(asked * clients + number) % len(sorts)]
                if not chosen.is_answered_by(*connection.ask(chosen.data)):
                    wrong[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(wrong)


def leave_in_the_middle(port: int, chosen: Question) -> int:
    """Ten connections that end before the request, or before the answer."""
    for number in range(10):
        with Connection(port) as connection:
            connection.send(chosen.data if number % 2 else chosen.data[:5000])
    return 10


def cpu_s(pid: int) -> float:
    """Seconds that a process has spent on all cores; others on the machine hardly change them."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Memory of a process, MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return round(int(found[1]) * 1024 / 1e6, 1)


if __name__ == "__main__":
    main()
