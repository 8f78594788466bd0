"""How fast and how faithful stage 3 is, part by part: `python -m benchmarks.correspondence`."""
