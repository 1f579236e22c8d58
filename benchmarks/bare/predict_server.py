"""What one would write by hand to serve a model: a FastAPI route with a pydantic body, torch in its thread pool.

uvicorn benchmarks.bare.predict_server:app     with the model's file in BARE_MODEL
"""

import os
from pathlib import Path

import torch
from fastapi import FastAPI
from pydantic import BaseModel

from models import catalog
from models.weights import read_weights

file = read_weights(Path(os.environ["BARE_MODEL"]))
network = catalog.implementation(file.card.model, "torch").build(file.card.model, file.card.signature)
network.load_state_dict({name: torch.tensor(array) for name, array in file.weights.items()})
network.eval()
normalisation = file.card.preprocessing.normalisation
mean, inverse_std = torch.tensor(normalisation.mean), torch.tensor(normalisation.inverse_std)


class Body(BaseModel):
    inputs: list[list[float]]


app = FastAPI()


@app.post("/predict")
def predict(body: Body) -> dict[str, list[str]]:
    with torch.inference_mode():
        logits = network((torch.tensor(body.inputs) - mean) * inverse_std)
    assert file.card.classes
    return {"labels": [file.card.classes[index] for index in logits.argmax(1).tolist()]}
