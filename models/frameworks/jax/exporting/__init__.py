"""Formats that JAX writes: each module is a `models.exports.formats.Writer`."""
