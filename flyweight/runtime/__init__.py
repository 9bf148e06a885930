"""Run an exported file without torch: sessions, the predictor, sources of pictures, latency."""
