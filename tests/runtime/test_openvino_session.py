"""What OpenVINO is told about threads."""

from __future__ import annotations

import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed")

from flyweight.runtime import openvino_session
from flyweight.runtime.openvino_session import compile_settings


@pytest.mark.parametrize(("threads", "pinned"), [(1, False), (3, False), (4, True), (8, True)])
def test_threads_are_pinned_only_where_they_take_all_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int, pinned: bool
) -> None:
    """Two networks of one thread each would be pinned to the same core."""
    import openvino

    monkeypatch.setattr(openvino_session, "available_cores", lambda: 4)
    core = openvino.Core()
    parameter = openvino.opset13.parameter([1], openvino.Type.f32)
    model = openvino.Model([openvino.opset13.relu(parameter)], [parameter])
    compiled = core.compile_model(model, "CPU", compile_settings(threads))
    assert compiled.get_property("ENABLE_CPU_PINNING") is pinned
