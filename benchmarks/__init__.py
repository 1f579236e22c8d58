"""What Tandem costs: each benchmark is a module, `python -m benchmarks.<name>`."""
