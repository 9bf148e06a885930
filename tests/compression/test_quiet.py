from __future__ import annotations

import logging
import sys
import warnings

import pytest

from flyweight.compression.quiet import quiet


def test_nothing_comes_through_but_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        print("chatter")
        print("more", file=sys.stderr)
        warnings.warn("careful", stacklevel=1)
        logging.getLogger("tool").warning("hm")
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ValueError), quiet():
        raise ValueError
    print("heard")
    assert capsys.readouterr().out == "heard\n"


def test_logging_is_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    with quiet():
        pass
    logging.getLogger("tool").warning("heard")
    assert "heard" in caplog.text
