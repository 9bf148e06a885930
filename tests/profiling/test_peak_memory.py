"""Which buffers are in use when, by hand."""

from __future__ import annotations

from flyweight.profiling.peak_memory import live_bytes


def test_a_buffer_is_there_from_its_first_to_its_last_use() -> None:
    #       image -> a -> b -> c -> d   with a also read by d (a shortcut)
    schedule = [["image", "a"], ["a", "b"], ["b", "c"], ["c", "a", "d"]]
    sizes = {"image": 100, "a": 10, "b": 20, "c": 30, "d": 40}
    live = live_bytes(schedule, sizes, given=["image"], kept=["d"])
    assert live == [100 + 10, 10 + 20, 10 + 20 + 30, 10 + 30 + 40]


def test_in_place_takes_no_second_buffer() -> None:
    assert live_bytes([["x", "y"], ["y", "y"]], {"x": 5, "y": 7}, given=["x"], kept=["y"]) == [
        12,
        7,
    ]


def test_the_input_is_there_before_it_is_read() -> None:
    """As in a network that makes a constant before it looks at the image."""
    assert live_bytes([["c"], ["x", "c", "y"]], {"x": 5, "y": 7, "c": 1}, given=["x"]) == [6, 13]


def test_what_leaves_the_network_stays() -> None:
    sizes = {"x": 1, "early": 10, "late": 100}
    schedule = [["x", "early"], ["x", "late"], ["late", "late"]]
    assert live_bytes(schedule, sizes, given=["x"], kept=["early", "late"]) == [11, 111, 110]
    assert live_bytes(schedule, sizes, given=["x"], kept=["late"]) == [11, 101, 100]


def test_an_input_nobody_reads_is_not_kept() -> None:
    assert live_bytes([["y"]], {"x": 5, "y": 7}, given=["x"]) == [7]
