"""What Ctrl-C and a termination signal ask for."""

from __future__ import annotations

import os
import signal

import pytest

from flyweight.training.interrupt import ignore_termination, stop_on_signals


def test_a_second_ctrl_c_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        assert not stop.made
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.made
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_torchruns_echo_of_ctrl_c_is_no_insistence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal sends one to every process, torchrun another."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.made


def test_last_words_are_not_cut_short() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        ignore_termination()
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
