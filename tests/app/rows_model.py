"""Requests to the model `rows` of the server `guarded` (conftest.py), which wants a key."""

import json
from typing import Any

KEY = "open-sesame"
ROW = [59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.86, 87.0]


def body(**changes: Any) -> bytes:
    return json.dumps({"model": "rows", "inputs": [ROW], "engine": "torch", **changes}).encode()
