"""MLServer: two workers, adaptive batches of up to 32 that wait 1 ms, the least it takes."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from model import IS_IMAGE, Model


class Bench(MLModel):
    async def load(self) -> bool:
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (given,) = payload.inputs
        if IS_IMAGE:
            data = [one.decode() if isinstance(one, bytes) else one for one in list(given.data)]
            samples = [self.model.sample(one) for one in data]
        else:
            samples = list(NumpyCodec.decode_input(given).astype("float32"))
        labels = self.model.labels(samples)
        output = ResponseOutput(name="label", shape=[len(labels), 1], datatype="INT64", data=labels)
        return InferenceResponse(model_name=self.name, outputs=[output])
