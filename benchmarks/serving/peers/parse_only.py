"""The least that a server can do: raw ASGI, the body parsed, the same answer always."""

import numpy as np
import orjson

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"11")]


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    if scope["type"] != "http":
        return
    message = await receive()
    value = orjson.loads(message["body"])["input"]
    np.asarray(value) if isinstance(value, list) else value.encode()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b'{"label":0}'})
