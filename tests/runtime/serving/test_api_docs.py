"""`/openapi.json` and `/docs`: they say what the server really answers, and load nothing from elsewhere."""

import re
from typing import Any

import pytest
from support.running_server import RunningServer, lenet_app

pytest.importorskip("starlette", reason="the extra serve is not installed")


@pytest.fixture(scope="module")
def document(server: RunningServer) -> Any:
    return server.ask("GET", "/openapi.json").json()


def test_each_route_is_described_and_nothing_else(document):
    """Lost otherwise: a generated client without an endpoint, or with one that is not there."""
    from starlette.routing import Route

    with lenet_app() as (app, _, _):
        routes = [route for route in app.routes if isinstance(route, Route)]
    found = {(route.path, method.lower()) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    described = {
        (path, method) for path, item in document["paths"].items() for method in item if method in ("get", "post")
    }

    assert found - {("/openapi.json", "get"), ("/docs", "get")} == described


def test_the_parameters_of_predict_are_those_that_it_takes(document):
    from dataclasses import fields

    from runtime.serving.predict import PredictParams, read_params

    stated = {each["name"]: each["schema"] for each in document["paths"]["/predict"]["post"]["parameters"]}
    defaults = PredictParams()

    assert set(stated) == {field.name for field in fields(PredictParams)}
    for name, schema in stated.items():
        assert schema.get("default") == getattr(defaults, name), name
        for choice in schema.get("enum", []):
            assert getattr(read_params(f"{name}={choice}".encode()), name) == choice


def test_every_reference_leads_somewhere(server, document):
    references = set(
        re.findall(r'"\$ref": "#/components/(\w+)/(\w+)"', server.ask("GET", "/openapi.json").body.decode())
    )

    assert len(references) >= 4
    for kind, name in references:
        assert name in document["components"][kind]


def test_the_fields_of_a_prediction_are_described(server, document):
    picture = server.ask("GET", "/examples/bag.png").body
    answer = server.ask("POST", "/predict?pixels=1", picture).json()

    assert set(answer) <= set(document["components"]["schemas"]["Prediction"]["properties"])


def test_the_docs_page_shows_each_path_and_loads_nothing_from_elsewhere(server, document):
    """Lost otherwise: the page, on a machine without a network."""
    answer = server.ask("GET", "/docs")
    page = answer.body.decode()

    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.findall(r"https?://|<script|<style|\sstyle=", page)
    for target in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert server.ask("GET", target).status == 200, target
    for path in document["paths"]:
        assert f" {path}</h2>" in page
