"""What the HTTP service offers, as an OpenAPI document and as a page for people.

The page is made here and needs no script, from another host or at all.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

from detente import __version__
from detente.labels import LABELS
from detente.languages import LANGUAGES
from detente.wire import NAME_CHARACTERS, Limits

Schema = Mapping[str, Any]

_PROBLEM_STATUS = {
    "400": "The body is not a JSON object.",
    "408": "The body did not come in time.",
    "413": "The body is larger than this server takes; the answer says how large it may be.",
    "415": "The body is not declared as application/json.",
    "422": "Something in the body cannot be read, or is over a limit; the answer says where.",
    "500": "The server failed.",
    "503": "The queue is full; Retry-After says when to come back.",
    "504": "There was no answer in time.",
}


def document(limits: Limits, *, needs_token: bool) -> dict[str, Any]:
    """Returns the OpenAPI 3.1 document of a server with these limits.

    Args:
        limits: How much one request may ask for.
        needs_token: Whether clients have to send a bearer token.
    """
    told: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "detente",
            "version": __version__,
            "summary": "How a sentence talks about a state: critical, neutral or conciliatory.",
        },
        "paths": {
            "/predict": {"post": _predict(limits)},
            "/read": {"post": _read()},
            "/health": {"get": _get("health", "Whether the process lives.", _object("status"))},
            "/ready": {"get": _ready()},
            "/metrics": {"get": _get("metrics", "Figures for Prometheus.", None)},
        },
        "components": {"schemas": _schemas(limits)},
    }
    if needs_token:
        told["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, method in (("/predict", "post"), ("/read", "post"), ("/metrics", "get")):
            operation = told["paths"][path][method]
            operation["security"] = [{"token": []}]
            operation["responses"]["401"] = _problem("There is no token, or a wrong one.")
    return told


def page(told: Mapping[str, Any]) -> str:
    """Returns an OpenAPI document as HTML."""
    parts = []
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{method.upper()} {html.escape(path)}</h2>")
            parts.append(f"<p>{html.escape(operation['summary'])}</p>")
            examples = _examples(operation)
            parts += [
                f"<h3>{html.escape(name)}</h3><pre>{html.escape(json.dumps(value, indent=1))}</pre>"
                for name, value in examples.items()
            ]
            statuses = "".join(
                f"<tr><td>{status}</td><td>{html.escape(response['description'])}</td></tr>"
                for status, response in operation["responses"].items()
            )
            parts.append(f"<table>{statuses}</table>")
    shapes = html.escape(json.dumps(told["components"]["schemas"], indent=1))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>detente</title><style>'
        "body{font:16px sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
        "pre{background:#eee;padding:.5em;overflow:auto}td{padding:0 1em 0 0}</style>"
        f"<h1>detente {html.escape(told['info']['version'])}</h1>"
        f"<p>{html.escape(told['info']['summary'])} "
        'For programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"{''.join(parts)}<h2>Shapes</h2><pre>{shapes}</pre></html>"
    )


def _examples(operation: Mapping[str, Any]) -> dict[str, Any]:
    content = operation.get("requestBody", {"content": {}})["content"]
    examples = content.get("application/json", {}).get("examples", {})
    return {name: example["value"] for name, example in examples.items()}


def _predict(limits: Limits) -> dict[str, Any]:
    text, target = "We thank Ankara for its patience.", "Turkey"
    examples = {
        "one statement": {"text": text, "target": target},
        "many statements": {
            "statements": [
                {"text": text, "target": target},
                {"text": "Tehran called the offer a trap.", "target": "USA", "source": "Iran"},
            ]
        },
        "text-embeddings-inference, one pair": {"inputs": [text, target]},
        "text-embeddings-inference, many pairs": {"inputs": [[text, target]]},
    }
    answers = [_ref(name) for name in ("Prediction", "Predictions", "Labels", "LabelsOfMany")]
    return _post(
        "predict",
        f"The tone of at most {limits.statements} statements toward their targets.",
        {"anyOf": [_ref("Statement"), _ref("Statements"), _ref("Inputs")]},
        examples,
        {"anyOf": answers},
    )


def _read() -> dict[str, Any]:
    example = {"text": "Peru was generous. Chile refused.", "source": "KEN"}
    return _post(
        "read",
        "Every state that a text names, and the tone of each sentence toward it.",
        _ref("Document"),
        {"a document": example},
        _ref("Predictions"),
    )


def _ready() -> dict[str, Any]:
    shape = _object("ready", "model", "waiting")
    operation = _get("ready", "Whether requests are answered.", shape)
    operation["responses"]["503"] = _json("Not now.", shape)
    return operation


def _post(
    name: str, summary: str, asked: Schema, examples: Mapping[str, Any], answer: Schema
) -> dict[str, Any]:
    responses = {"200": _json("The answer.", answer)}
    responses |= {status: _problem(says) for status, says in _PROBLEM_STATUS.items()}
    responses["503"]["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    content = {
        "schema": asked,
        "examples": {title: {"value": value} for title, value in examples.items()},
    }
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": responses,
    }


def _get(name: str, summary: str, answer: Schema | None) -> dict[str, Any]:
    response = (
        _json("The answer.", answer)
        if answer
        else {"description": "The answer.", "content": {"text/plain": {"schema": {}}}}
    )
    return {"operationId": name, "summary": summary, "responses": {"200": response}}


def _json(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problem(description: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    return {"description": description, "content": content}


def _string(most: int) -> dict[str, Any]:
    """Returns the shape of a text: not blank, and without NUL."""
    pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"
    return {"type": "string", "minLength": 1, "maxLength": most, "pattern": pattern}


def _object(*required: str) -> dict[str, Any]:
    return {"type": "object", "required": list(required)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(limits: Limits) -> dict[str, Any]:
    text = _string(limits.text_characters)
    name = _string(NAME_CHARACTERS)
    many = {"minItems": 1, "maxItems": limits.statements}
    pair = {"type": "array", "prefixItems": [text, name], "minItems": 2, "maxItems": 2}
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    label = {"enum": list(LABELS)}
    labels = {
        "type": "array",
        "minItems": len(LABELS),
        "maxItems": len(LABELS),
        "items": {
            "type": "object",
            "required": ["label", "score"],
            "properties": {"label": label, "score": probability},
        },
    }
    prediction = {
        "type": "object",
        "required": ["text", "target", "label", "score", *(f"p_{each}" for each in LABELS)],
        "properties": {
            "model": {"type": "string"},
            "text": {"type": "string"},
            "target": {"type": "string"},
            "source": {"type": "string"},
            "label": label,
            "score": {"type": "number", "minimum": -1, "maximum": 1},
            **{f"p_{each}": probability for each in LABELS},
            "start": {"type": "integer", "description": "First character, in a document."},
            "end": {"type": "integer", "description": "The character after the last."},
            "tokens_cut": {"type": "integer", "description": "Tokens that were not read."},
        },
    }
    return {
        "Statement": {
            "type": "object",
            "required": ["text", "target"],
            "properties": {"text": text, "target": name, "source": {"anyOf": [name, _NULL]}},
            "additionalProperties": False,
        },
        "Statements": {
            "type": "object",
            "required": ["statements"],
            "properties": {"statements": {"type": "array", "items": _ref("Statement"), **many}},
            "additionalProperties": False,
        },
        "Inputs": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "inputs": {"anyOf": [pair, {"type": "array", "items": pair, **many}]},
                "truncate": {
                    "type": ["boolean", "null"],
                    "description": "If false, a pair that is too long is refused.",
                },
                "raw_scores": {"enum": [False, None], "description": "Not offered."},
            },
        },
        "Document": {
            "type": "object",
            "required": ["text"],
            "properties": {
                "text": _string(limits.document_characters),
                "source": {"anyOf": [name, _NULL]},
                "language": {
                    "enum": [*LANGUAGES, None],
                    "description": "Of the text; told by its script where it is left out.",
                },
            },
            "additionalProperties": False,
        },
        "Prediction": prediction,
        "Predictions": {
            "type": "object",
            "required": ["model", "predictions"],
            "properties": {
                "model": {"type": "string"},
                "predictions": {"type": "array", "items": _ref("Prediction")},
            },
        },
        "Labels": labels,
        "LabelsOfMany": {"type": "array", "items": _ref("Labels")},
        "Problem": {
            "type": "object",
            "required": ["title", "status", "detail"],
            "properties": {
                "status": {"type": "integer"},
                **{
                    each: {"type": "string"}
                    for each in (
                        "type", "title", "detail", "where", "got", "expected", "fix", "error"
                    )
                },
            },
        },
    }  # fmt: skip


_NULL = {"type": "null"}
