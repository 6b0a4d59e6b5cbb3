"""What we claim about speed, runnable: `python -m benchmarks`. See docs/performance.md."""
