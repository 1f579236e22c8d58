"""What every request passes before it reaches a route: raw ASGI, so that streams stay streams."""
