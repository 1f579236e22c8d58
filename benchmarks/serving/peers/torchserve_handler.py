"""TorchServe: two workers, batches of up to 32 without a wait."""

import json

from model import Model


class Handler:
    def initialize(self, context: object) -> None:
        self.model = Model()

    def handle(self, data: "list[dict]", context: object) -> "list[dict[str, int]]":
        samples = []
        for one in data:
            body = one.get("body") or one.get("data")
            body = json.loads(body) if isinstance(body, str | bytes | bytearray) else body
            samples.append(self.model.sample(body["input"]))
        return [{"label": label} for label in self.model.labels(samples)]
