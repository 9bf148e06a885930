"""A detector behind HTTP: FastAPI in front, a bounded queue and micro-batches behind; no torch."""
