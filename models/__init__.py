"""Architectures, data, weights and training: knows neither HTTP nor queues."""
