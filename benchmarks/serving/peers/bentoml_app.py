"""BentoML: two workers, adaptive batches of up to 32."""

import bentoml
from model import Model


@bentoml.service(workers=2, traffic={"timeout": 60})
class Bench:
    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000, route="/predict")
    def predict(self, input: list) -> list:
        return [{"label": label} for label in self.model.labels([self.model.sample(one) for one in input])]
