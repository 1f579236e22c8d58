"""Serving, side by side with other servers."""
