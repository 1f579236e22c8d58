"""LitServe: two workers, batches of up to 32 without a wait."""

import sys

import litserve
from model import Model


class API(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = Model()

    def decode_request(self, request: dict) -> object:
        return self.model.sample(request["input"])

    def batch(self, inputs: list) -> list:
        return inputs

    def predict(self, x: list) -> "list[int]":
        return self.model.labels(x if isinstance(x, list) else [x])

    def unbatch(self, output: "list[int]") -> "list[int]":
        return output

    def encode_response(self, output: int) -> "dict[str, int]":
        return {"label": output}


if __name__ == "__main__":
    api = API(max_batch_size=32, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    server.run(port=int(sys.argv[1]), num_api_servers=2, generate_client_file=False, log_level="warning")
