"""What `flyweight profile` finds beyond the static figures, for JSON and for the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyweight.cli import profile_advice, profile_measure

if TYPE_CHECKING:
    from flyweight.models.detectors.detector import Detector
    from flyweight.profiling.advice.context import Context
    from flyweight.profiling.device_model import DeviceModel
    from flyweight.reports.page import Section


@dataclass
class Findings:
    """Collected in turn.

    Attributes:
        content: of the JSON.
        times: of each way of timing, milliseconds of each layer.
        sections: of the page.
    """

    content: dict[str, Any]
    times: dict[str, dict[str, float]] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)

    def predict(self, detector: Detector, latency: DeviceModel) -> None:
        """Milliseconds as the device model has them, of the network as it is exported."""
        from flyweight.profiling.trace import trace_detector

        cost = trace_detector(detector, folded=latency.runtime != "torch")
        prediction = latency.predict(cost)
        by_layer: dict[str, float] = {}
        for operation, spent in zip(cost.operations, prediction.by_operation, strict=True):
            by_layer[operation.layer] = by_layer.get(operation.layer, 0.0) + spent
        by_layer = {layer: spent for layer, spent in by_layer.items() if spent}
        self.content["predicted"] = {
            "runtime": latency.runtime,
            "threads": latency.threads,
            "device": latency.description,
            "unknown": list(prediction.unknown),
            "milliseconds": prediction.milliseconds,
            "by_layer": by_layer,
        }
        self.times[f"predicted, {latency.runtime}"] = by_layer

    def measure(self, detector: Detector, runtime: str, *, threads: int | None) -> None:
        """Milliseconds as the runtime's own profiler has them, and the roofline."""
        times = profile_measure.measure(detector, runtime, threads=threads)
        found = profile_measure.measure_roofline(detector, times)
        self.content["measured"] = profile_measure.measured_content(times, found)
        self.times[f"measured, {runtime}"] = times.by_layer()
        self.sections.append(profile_measure.roofline_section(found, runtime))

    def advise(self, context: Context, apply: Path | None) -> None:
        """What the rules say, and, with a file to write to, the config that comes of it."""
        from flyweight.profiling.advice.rules import advise

        rows = [each.to_dict() for each in advise(context)]
        self.content["advice"] = rows
        self.sections.append(profile_advice.advice_section(rows))
        if apply is not None:
            self.content["applied"] = profile_advice.apply_advice(context, apply)
