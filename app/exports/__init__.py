"""Registered models as files for other programs: made in processes of their own, kept for who asks next."""
