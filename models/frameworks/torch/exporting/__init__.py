"""Formats that torch writes: each module is a `models.exports.formats.Writer`."""
