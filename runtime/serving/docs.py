"""The API described: `/openapi.json`, and `/docs`, a page of it that needs no script and nothing from elsewhere."""

import json
from html import escape
from pathlib import Path
from typing import Any

OPENAPI = Path(__file__).with_name("openapi.json").read_text("utf-8")

_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title}: API</title>
  <link rel="icon" href="/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="/style.css">
</head>
<body>
  <header><h1>{title}: API</h1><p class="motto"><a href="/openapi.json">openapi.json</a></p></header>
  <p>{description}</p>
{operations}
</body>
</html>
"""


def docs_page() -> str:
    """Return the OpenAPI document as HTML: each operation with its parameters, bodies and status codes."""
    document = json.loads(OPENAPI)
    operations = [
        _operation(method, path, operation, item.get("parameters", []))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in ("get", "post")
    ]
    info = document["info"]
    return _PAGE.format(
        title=escape(info["title"]), description=escape(info["description"]), operations="\n".join(operations)
    )


def _operation(method: str, path: str, operation: dict[str, Any], shared: list[dict[str, Any]]) -> str:
    parameters = [*shared, *operation.get("parameters", [])]
    rows = [
        ("Body", " or ".join(operation.get("requestBody", {}).get("content", {}))),
        *((f"{each['name']} ({each['in']})", _parameter(each)) for each in parameters),
        ("Status", ", ".join(operation["responses"])),
    ]
    table = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows if text)
    about = escape(operation.get("description", ""))
    heading = f"<h2>{method.upper()} {escape(path)}</h2>"
    return f"  <section>{heading}<p>{escape(operation['summary'])}. {about}</p><table>{table}</table></section>"


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    choices = ", one of " + ", ".join(schema["enum"]) if "enum" in schema else ""
    default = f", default {json.dumps(schema['default'])}" if "default" in schema else ""
    return f"{schema['type']}{choices}{default}. {parameter['description']}"
