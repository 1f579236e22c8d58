"""Where datasets come from and how they are split, described, stored and read."""
