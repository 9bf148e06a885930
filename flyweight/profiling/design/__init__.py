"""Design to a budget: a search over detectors that nobody has built yet, and what it recommends."""
