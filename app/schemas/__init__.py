"""What the API answers. `Job.of(record)` and its like turn the program's values into these."""
