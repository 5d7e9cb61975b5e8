"""python -m scripts.plain_server FOLDER PORT: transformers behind FastAPI, as one would write it.

What scripts.bench_server compares with: one endpoint, one pair, the pipeline.
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

app = FastAPI()


class Pair(BaseModel):
    """What is asked for."""

    text: str
    text_pair: str


@app.post("/predict")
def predict(pair: Pair) -> list[dict[str, str | float]]:
    """Returns every label with its score."""
    found: list[dict[str, str | float]] = classify({"text": pair.text, "text_pair": pair.text_pair})
    return found


@app.get("/ready")
def ready() -> bool:
    """Says that the model has been loaded."""
    return True


if __name__ == "__main__":
    classify = pipeline("text-classification", model=sys.argv[1], top_k=None)
    uvicorn.run(app, port=int(sys.argv[2]))
