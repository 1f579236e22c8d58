"""Mixed load for a long time."""
