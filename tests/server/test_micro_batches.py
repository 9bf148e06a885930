"""When the network runs, over which pictures."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from flyweight.runtime.predictor import Predictor
from flyweight.server.micro_batches import Found, MicroBatches, Ready
from tests.server.conftest import GatedSession, cells_picture, wait_until


@pytest.fixture
def batches(predictor: Predictor, gated: GatedSession) -> Any:
    """`batches(**options)`: of one predictor; closed in the end."""
    made: list[MicroBatches] = []

    def make(**options: Any) -> MicroBatches:
        chosen: dict[str, Any] = {
            "max_batch": 4,
            "deadline_s": 0.0,
            "on_run": lambda count, seconds: None,
        }
        made.append(MicroBatches([predictor], **(chosen | options)))
        return made[-1]

    yield make
    gated.open.set()
    for each in made:
        each.close(wait_s=10)


def give(batches: MicroBatches, predictor: Predictor, cell: int = 0) -> Future[Found]:
    """A picture that is red in one cell of the first row."""
    future: Future[Found] = Future()
    prepared = predictor.prepare(cells_picture((0, cell, 0)))
    batches.put(Ready(prepared, 0.5, 0.0, future))
    return future


def test_what_waits_while_the_network_is_busy_goes_together(
    batches: Any, predictor: Predictor, gated: GatedSession
) -> None:
    ran: list[int] = []
    made = batches(on_run=lambda count, seconds: ran.append(count))
    gated.shut()
    made.expect(7)
    futures = [give(made, predictor)]
    assert gated.entered.wait(10)
    futures += [give(made, predictor, index % 4) for index in range(1, 7)]
    gated.open.set()
    found = [future.result(10) for future in futures]
    assert [each.batch for each in found] == [1, 4, 4, 4, 4, 2, 2]
    assert gated.batches == ran == [1, 4, 2]
    for index, each in enumerate(found):
        np.testing.assert_array_equal(each.detections.boxes_xyxy[:, 0], [index % 4 * 8])


def test_alone_it_does_not_wait(batches: Any, predictor: Predictor, gated: GatedSession) -> None:
    made = batches(deadline_s=30.0)
    made.expect(1)
    assert give(made, predictor).result(10).wait_s < 5


def test_it_waits_for_what_is_being_decoded(
    batches: Any, predictor: Predictor, gated: GatedSession
) -> None:
    made = batches(deadline_s=30.0)
    made.expect(2)
    first = give(made, predictor)
    time.sleep(0.05)
    assert not first.done()
    second = give(made, predictor)
    assert (first.result(10).batch, second.result(10).batch) == (2, 2)


def test_it_does_not_wait_for_what_will_not_come(
    batches: Any, predictor: Predictor, gated: GatedSession
) -> None:
    made = batches(deadline_s=30.0)
    made.expect(2)
    first = give(made, predictor)
    time.sleep(0.02)
    assert not first.done()
    made.expect(-1)
    assert first.result(10).batch == 1


def test_it_waits_no_longer_than_the_deadline(
    batches: Any, predictor: Predictor, gated: GatedSession
) -> None:
    made = batches(deadline_s=0.1)
    made.expect(2)
    found = give(made, predictor).result(10)
    assert found.batch == 1
    assert 0.1 <= found.wait_s < 5


def test_a_full_batch_does_not_wait(
    batches: Any, predictor: Predictor, gated: GatedSession
) -> None:
    made = batches(deadline_s=30.0, max_batch=2)
    made.expect(3)
    futures = [give(made, predictor) for _ in range(2)]
    assert [future.result(10).batch for future in futures] == [2, 2]


def test_what_is_cancelled_is_not_run(
    batches: Any, predictor: Predictor, gated: GatedSession
) -> None:
    made = batches()
    gated.shut()
    made.expect(4)
    first = give(made, predictor)
    assert gated.entered.wait(10)
    dropped, kept = give(made, predictor), give(made, predictor)
    assert dropped.cancel()
    assert not first.cancel()
    gated.open.set()
    assert (first.result(10).batch, kept.result(10).batch) == (1, 1)


def test_a_run_that_fails_tells_its_pictures_and_no_other(
    batches: Any, predictor: Predictor, gated: GatedSession
) -> None:
    made = batches()
    gated.failure = ValueError("broken")
    made.expect(2)
    with pytest.raises(ValueError, match="broken"):
        give(made, predictor).result(10)
    gated.failure = None
    assert len(give(made, predictor).result(10).detections) == 1


def test_closing_finishes_what_waits(
    batches: Any, predictor: Predictor, gated: GatedSession
) -> None:
    made = batches(max_batch=1)
    gated.shut()
    made.expect(3)
    futures = [give(made, predictor) for _ in range(3)]
    wait_until(gated.entered.is_set)
    gated.open.set()
    made.close(wait_s=10)
    assert all(future.done() for future in futures)
