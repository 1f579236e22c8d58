"""The OpenAPI document is valid, complete, and true."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.main import create_app
from app.schemas.dataset_predictions import DatasetPrediction
from app.schemas.jobs import Job
from app.schemas.models import Model, ModelVersion
from tests.app.serving import Running, registered, running, settings_in

METHODS = ("get", "put", "post", "delete", "patch")
EXPECTED = {
    ("post", "/jobs"), ("get", "/jobs"), ("get", "/jobs/{job_id}"), ("post", "/jobs/{job_id}/cancel"),
    ("post", "/jobs/{job_id}/retry"), ("get", "/jobs/{job_id}/metrics"), ("get", "/jobs/{job_id}/checkpoints"),
    ("get", "/jobs/{job_id}/logs"), ("get", "/jobs/{job_id}/events"),
    ("post", "/comparisons"), ("get", "/comparisons"), ("get", "/comparisons/{comparison_id}"),
    ("delete", "/comparisons/{comparison_id}"), ("post", "/comparisons/{comparison_id}/cancel"),
    ("get", "/comparisons/{comparison_id}/report"),
    ("post", "/datasets"), ("get", "/datasets"), ("get", "/datasets/{name_or_id}"),
    ("get", "/datasets/{name_or_id}/preview"), ("delete", "/datasets/{name_or_id}"), ("post", "/predict"),
    ("post", "/predictions"), ("get", "/predictions"), ("get", "/predictions/{prediction_id}"),
    ("delete", "/predictions/{prediction_id}"), ("post", "/predictions/{prediction_id}/cancel"),
    ("post", "/predictions/{prediction_id}/retry"), ("get", "/predictions/{prediction_id}/events"),
    ("get", "/predictions/{prediction_id}/logs"), ("get", "/predictions/{prediction_id}/result"),
    ("get", "/models"), ("post", "/models"), ("get", "/models/{name}"), ("delete", "/models/{name}"),
    ("patch", "/models/{name}"),
    ("get", "/models/{name}/versions/{version}"), ("patch", "/models/{name}/versions/{version}"),
    ("delete", "/models/{name}/versions/{version}"),
    ("get", "/models/{name}/versions/{version}/weights"), ("put", "/models/{name}/aliases/{alias}"),
    ("post", "/models/{name}/versions/{version}/export"), ("get", "/models/{name}/versions/{version}/engines"),
    ("delete", "/models/{name}/aliases/{alias}"),
    ("get", "/v2"), ("get", "/v2/health/live"), ("get", "/v2/health/ready"), ("get", "/v2/models/stats"),
    ("get", "/v2/models/{model}"), ("get", "/v2/models/{model}/ready"), ("get", "/v2/models/{model}/config"),
    ("get", "/v2/models/{model}/stats"), ("post", "/v2/models/{model}/infer"),
    ("get", "/v2/models/{model}/versions/{version}"), ("get", "/v2/models/{model}/versions/{version}/ready"),
    ("get", "/v2/models/{model}/versions/{version}/config"), ("get", "/v2/models/{model}/versions/{version}/stats"),
    ("post", "/v2/models/{model}/versions/{version}/infer"), ("post", "/v2/repository/index"),
    ("post", "/v2/repository/models/{model}/load"), ("post", "/v2/repository/models/{model}/unload"),
    ("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics"), ("get", "/workers"), ("get", "/architectures"),
}  # fmt: skip
CREATING = {
    ("post", "/jobs"), ("post", "/jobs/{job_id}/retry"), ("post", "/datasets"), ("post", "/models"),
    ("post", "/predictions"), ("post", "/predictions/{prediction_id}/retry"),
}  # fmt: skip


DOCUMENT: dict[str, Any] = create_app(settings_in(Path("/nowhere"))).openapi()
OPERATIONS = {
    (method, path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method in METHODS
}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def examples(media: dict[str, Any]) -> list[Any]:
    if "examples" in media:
        return [one["value"] for one in media["examples"].values()]
    return [media["example"]] if "example" in media else []


def bodies() -> Iterator[Any]:
    """Every kind of body, asked for or answered."""
    for (method, path), operation in OPERATIONS.items():
        for kind, media in operation.get("requestBody", {}).get("content", {}).items():
            yield pytest.param(kind, media, id=f"{method} {path} <- {kind}")
        for status, response in operation["responses"].items():
            for kind, media in response.get("content", {}).items():
                yield pytest.param(kind, media, id=f"{method} {path} -> {status} {kind}")


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_document_has_exactly_the_operations_of_this_version() -> None:
    assert OPERATIONS.keys() == EXPECTED


@pytest.mark.parametrize(("kind", "media"), list(bodies()))
def test_every_body_has_a_schema_and_examples_that_fit_it(kind: str, media: dict[str, Any]) -> None:
    found = examples(media)
    assert media.get("schema"), "no schema"
    assert found, "no example"
    if kind.endswith("json"):
        for example in found:
            assert example is not None
            validator(media["schema"]).validate(example)


@pytest.mark.parametrize(("method", "path"), sorted(EXPECTED))
def test_every_operation_is_described_with_its_errors(method: str, path: str) -> None:
    operation = OPERATIONS[(method, path)]
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    errors = {status: one for status, one in operation["responses"].items() if status >= "400"}
    assert {"400", "401", "500", "503"} <= errors.keys()
    assert ("422" in errors) is not path.startswith("/v2")  # the Open Inference Protocol says 400 instead
    if "{" in path:
        assert "404" in errors
    for status, response in operation["responses"].items():
        assert response["description"]
        assert "X-Request-Id" in response["headers"]
        if status >= "400":
            (media,) = response["content"].items()
            assert media[0] == "application/problem+json"
            assert media[1]["schema"] == {"$ref": "#/components/schemas/Problem"}


@pytest.mark.parametrize(("method", "path"), sorted(EXPECTED))
def test_every_parameter_is_described_with_an_example(method: str, path: str) -> None:
    for parameter in OPERATIONS[(method, path)].get("parameters", ()):
        schema = parameter["schema"]
        assert schema, parameter["name"]
        assert parameter.get("description") or parameter["name"] in ("status", "framework")
        assert "example" in parameter or "examples" in parameter or "examples" in schema, parameter["name"]


@pytest.mark.parametrize(("method", "path"), sorted(CREATING))
def test_whatever_creates_takes_an_idempotency_key(method: str, path: str) -> None:
    names = {parameter["name"].lower() for parameter in OPERATIONS[(method, path)]["parameters"]}
    assert "idempotency-key" in names
    created = OPERATIONS[(method, path)]["responses"]["201"]
    assert "Location" in created["headers"]


def test_predict_is_documented_with_all_its_content_types() -> None:
    content = OPERATIONS[("post", "/predict")]["requestBody"]["content"]
    assert content.keys() == {"application/json", "multipart/form-data", "image/png", "image/jpeg"}


def test_every_example_of_predict_is_answered(tmp_path: Path) -> None:
    content = OPERATIONS[("post", "/predict")]["requestBody"]["content"]["application/json"]
    sent = [*examples(content), *resolved(content["schema"])["examples"]]
    with running(settings_in(tmp_path)) as server:
        for dataset, architecture in (
            ("digits", "cnn"),
            ("diabetes", "mlp"),
        ):  # as a fresh server's first jobs make them
            registered(server.services, dataset=dataset, model={"architecture": architecture})
        for body in sent:
            answer = server.client.post("/predict", json=body)
            assert answer.status_code == 200, (body, answer.text)


def test_unknown_fields_are_refused_in_the_document_too() -> None:
    for name in ("JobSpec", "TrainingSpec", "PredictBody", "PredictionSpec", "AliasTarget"):
        assert DOCUMENT["components"]["schemas"][name]["additionalProperties"] is False


def test_real_answers_fit_the_document(client: httpx.Client, server: Running) -> None:
    one = registered(server.services, name="documented")
    client.put("/models/documented/aliases/champion", json={"version": 1})
    image = [[0] * 8] * 8
    wanted = {"return": ["labels", "probabilities", "logits"], "top_k": 2}
    asked = client.post("/predictions", json={"model": "documented", "dataset": "digits"}).json()["id"]
    answers = {
        ("get", "/jobs"): client.get("/jobs"),
        ("get", "/jobs/{job_id}"): client.get(f"/jobs/{one.job_id}"),
        ("get", "/jobs/{job_id}/events"): client.get(f"/jobs/{one.job_id}/events"),
        ("get", "/jobs/{job_id}/metrics"): client.get(f"/jobs/{one.job_id}/metrics"),
        ("get", "/datasets"): client.get("/datasets"),
        ("get", "/models"): client.get("/models"),
        ("get", "/models/{name}"): client.get("/models/documented"),
        ("get", "/models/{name}/versions/{version}"): client.get("/models/documented/versions/1"),
        ("post", "/predict"): client.post(
            "/predict", json={"model": "documented", "inputs": [image], "engine": "torch", **wanted}
        ),
        ("get", "/predictions"): client.get("/predictions"),
        ("get", "/predictions/{prediction_id}"): client.get(f"/predictions/{asked}"),
        ("get", "/predictions/{prediction_id}/events"): client.get(f"/predictions/{asked}/events"),
        ("post", "/predictions/{prediction_id}/cancel"): client.post(f"/predictions/{asked}/cancel"),
        ("delete", "/predictions/{prediction_id}"): client.delete(f"/predictions/{asked}"),
        ("get", "/architectures"): client.get("/architectures"),
        ("get", "/healthz"): client.get("/healthz"),
        ("get", "/workers"): client.get("/workers"),
        ("get", "/v2"): client.get("/v2"),
        ("get", "/v2/models/stats"): client.get("/v2/models/stats"),
        ("get", "/v2/models/{model}"): client.get("/v2/models/documented"),
        ("get", "/v2/models/{model}/ready"): client.get("/v2/models/documented/ready"),
        ("get", "/v2/models/{model}/config"): client.get("/v2/models/documented/config"),
        ("post", "/v2/repository/index"): client.post("/v2/repository/index"),
        ("post", "/v2/models/{model}/infer"): client.post(
            "/v2/models/documented/infer",
            json={"inputs": [{"name": "image", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": image}]},
        ),
    }
    for (method, path), answer in answers.items():
        assert answer.status_code == 200, answer.text
        media = OPERATIONS[(method, path)]["responses"]["200"]["content"]["application/json"]
        validator(media["schema"]).validate(answer.json())
    problem = client.get("/jobs/none")
    validator({"$ref": "#/components/schemas/Problem"}).validate(problem.json())


@pytest.mark.parametrize("model", [DatasetPrediction, Job, Model, ModelVersion])
def test_answers_have_examples_that_they_can_be_made_from(model: Any) -> None:
    (example,) = model.model_config["json_schema_extra"]["examples"]
    assert model.model_validate(example)


def test_the_document_and_its_page_are_served(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json()["info"]["title"] == "Tandem"
    assert "swagger-ui-bundle.js" in client.get("/docs").text
