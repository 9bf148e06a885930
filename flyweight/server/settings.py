"""What a server allows, and how it spends the machine: one frozen record of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from flyweight.core.errors import InputError
from flyweight.core.image import MAX_PIXELS

# The names that this machine has for itself alone. A page of another site whose name is bound to
# 127.0.0.1 (DNS rebinding) sends its own name as Host, and is refused.
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class ServerSettings:
    """Limits and timing of a server.

    Attributes:
        max_batch: pictures of one run of the network; files of a fixed batch decide it themselves.
            On a CPU a run of several costs no less for each (`benchmarks/serving.py`).
        deadline_ms: how long a picture that is ready waits for others that are being decoded.
        queue: pictures that are accepted and not yet answered; beyond it requests get 503.
        max_bytes: of a request's body.
        max_bytes_at_once: of all bodies held at the same time.
        max_pixels: of a picture, read from its header before it is decoded.
        max_pictures: of a request.
        timeout_s: from a request's headers to its answer.
        decoders: threads that decode and resize pictures.
        api_keys: any one of them opens the server; none: no key is asked for.
        allowed_hosts: names (without ports) that a request's `Host` may have; None allows any.
    """

    max_batch: int = 1
    deadline_ms: float = 2.0
    queue: int = 64
    max_bytes: int = 20_000_000
    max_bytes_at_once: int = 200_000_000
    max_pixels: int = 50_000_000
    max_pictures: int = 16
    timeout_s: float = 30.0
    decoders: int = 2
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    allowed_hosts: tuple[str, ...] | None = LOOPBACK_HOSTS

    def __post_init__(self) -> None:
        least = {name: 1 for name in ("max_batch", "queue", "max_bytes", "max_pixels", "decoders")}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise InputError(f"{name} is {getattr(self, name)}", fix=f"give {smallest} or more")
        if not self.deadline_ms >= 0 or not self.timeout_s > 0:
            raise InputError(
                f"deadline_ms {self.deadline_ms:g} and timeout_s {self.timeout_s:g} are no times",
                fix="give numbers above 0",
            )
        if not 1 <= self.max_pictures <= self.queue:
            raise InputError(
                f"a request of {self.max_pictures} pictures never fits a queue of {self.queue}",
                fix="raise the queue or lower the pictures of a request",
            )
        if self.max_bytes_at_once < self.max_bytes:
            raise InputError(
                f"a body of {self.max_bytes} bytes never fits {self.max_bytes_at_once} at once",
                fix="raise max_bytes_at_once or lower max_bytes",
            )
        if self.max_pixels > MAX_PIXELS:
            raise InputError(
                f"{self.max_pixels} pixels are over the {MAX_PIXELS} that are ever decoded",
                fix="lower max_pixels, or raise FLYWEIGHT_MAX_PIXELS",
            )
        if any(not key for key in self.api_keys):
            raise InputError("an API key is empty", fix="give a key, or none")
