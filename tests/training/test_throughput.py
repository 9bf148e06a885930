"""Images per second, against a clock that stands where it is put."""

from __future__ import annotations

import pytest

from flyweight.training import throughput
from flyweight.training.throughput import Throughput


def test_evaluation_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    speed = Throughput()
    speed.start_epoch()
    now[0] = 2.0
    assert speed.add(20) == pytest.approx(10)
    speed.end_epoch()
    now[0] = 100.0
    speed.start_epoch()
    now[0] = 104.0
    assert speed.add(20) == pytest.approx(5)
    speed.end_epoch()
    assert speed.epoch == pytest.approx(5)
    assert speed.whole == pytest.approx(40 / 6)


def test_an_epoch_without_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an interruption in the last step: only the evaluation is left."""
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: 1.0)
    speed = Throughput()
    speed.start_epoch()
    speed.end_epoch()
    assert speed.epoch == 0
    assert speed.whole == 0
