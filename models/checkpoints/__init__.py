"""Weights that come from elsewhere: fetched, read safely, given our names, and fitted to another number of classes."""
