"""What a process that looks after comparisons does now and again."""

from workers import comparisons


def advance(db):
    return comparisons.advance(db, max_attempts=2)
