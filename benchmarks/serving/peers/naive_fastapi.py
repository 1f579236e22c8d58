"""FastAPI with a pydantic body; torch in FastAPI's thread pool, one request at a time."""

from fastapi import FastAPI
from model import Model
from pydantic import BaseModel

model = Model()
app = FastAPI()


class Body(BaseModel):
    input: "str | list[float]"


@app.post("/predict")
def predict(body: Body) -> "dict[str, int]":
    return {"label": model.labels([model.sample(body.input)])[0]}
