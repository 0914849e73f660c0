"""`runtime serve --cors`: which other pages a browser lets read the answers."""

from collections.abc import Iterator

import pytest
from support.command_line import call
from support.running_server import RunningServer

pytest.importorskip("starlette", reason="the extra serve is not installed")

SHOP, OTHER = "https://shop.example", "https://other.example"
ALLOWED = "access-control-allow-origin"


@pytest.fixture(scope="module")
def cors_server() -> Iterator[RunningServer]:
    with RunningServer("-m", "lenet", "--cors", SHOP, "--cors", "http://localhost:5173") as server:
        yield server


def test_a_named_origin_may_read_answers_and_errors_and_another_may_not(cors_server):
    """Lost otherwise: a shop's page cannot use the server, or every page of the web can."""
    picture = cors_server.ask("GET", "/examples/bag.png").body
    for path, body, status in (("/predict", picture, 200), ("/predict", b"x", 415), ("/nothing", b"", 404)):
        answer = cors_server.ask("POST", path, body, {"Origin": SHOP})

        assert (answer.status, answer.headers[ALLOWED]) == (status, SHOP)
        assert "Origin" in answer.headers["vary"]
        assert ALLOWED not in cors_server.ask("POST", path, body, {"Origin": OTHER}).headers
    assert "inference-header-content-length" in answer.headers["access-control-expose-headers"]


def test_a_preflight_allows_binary_tensors_and_nothing_that_is_not_taken(cors_server):
    """Lost otherwise: a browser never sends the request itself."""
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "inference-header-content-length",
    }
    path = "/v2/models/lenet/infer"
    allowed = cors_server.ask("OPTIONS", path, headers=asked | {"Origin": SHOP})

    assert (allowed.status, allowed.headers[ALLOWED]) == (200, SHOP)
    assert cors_server.ask("OPTIONS", path, headers=asked | {"Origin": OTHER}).status == 400
    assert (
        cors_server.ask(
            "OPTIONS", path, headers=asked | {"Origin": SHOP, "Access-Control-Request-Method": "DELETE"}
        ).status
        == 400
    )


def test_without_the_switch_no_other_page_may_read_anything(server):
    assert ALLOWED not in server.ask("GET", "/models", headers={"Origin": SHOP}).headers


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "https://Shop.example", "https://a b", ""])
def test_what_no_browser_sends_as_an_origin_is_refused(origin):
    """Lost otherwise: a server that starts, and whose page still gets nothing."""
    done = call("runtime", "serve", "--cors", origin)

    assert done.exit_code == 2
    assert "is not an origin; expected scheme://host[:port]" in done.stderr
