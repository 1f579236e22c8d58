"""Jobs and how they run."""
