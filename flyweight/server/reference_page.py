"""The server's addresses as a page of HTML, made from its OpenAPI schema.

FastAPI's own pages load their scripts from a CDN: they would tell somebody else who is looking, and
stay blank without a network.
"""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
}
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; font-size: 1.15rem } h2 code { font-size: 1.15rem }
pre { padding: .8rem; overflow-x: auto; border: 1px solid #8886; border-radius: .4rem }
code, pre { font: .9rem/1.45 ui-monospace, monospace }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0 }
tr { border-bottom: 1px solid #8883 } th { font-weight: 600 }
"""


def reference_page(schema: dict[str, Any]) -> str:
    """All operations of an OpenAPI `schema`: what they take, what they answer, how to ask."""
    info = schema["info"]
    parts = [
        f"<h1>{escape(info.get('summary', info['title']))}</h1>",
        f"<p>Flyweight {escape(info['version'])}. The same for programs: "
        '<a href="openapi.json">openapi.json</a>.</p>',
    ]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            parts += _operation(method.upper(), path, operation)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    summary, text = operation.get("summary", ""), operation.get("description", "")
    parts = [
        f"<h2><code>{method} {escape(path)}</code> {escape(summary)}</h2>",
        f"<p>{escape(text)}</p>" if text else "",
        f"<pre>{escape(_curl(method, path))}</pre>",
    ]
    rows = [
        (f"<code>?{escape(each['name'])}=</code>", escape(each.get("description", "")))
        for each in operation.get("parameters", [])
    ]
    for status, response in sorted(operation["responses"].items()):
        details = []
        for content in response.get("content", {}).values():
            details += [
                f"<code>{escape(code)}</code>: {escape(example['value']['detail'])}"
                for code, example in content.get("examples", {}).items()
            ]
        said = "<br>".join(details) or escape(response.get("description", ""))
        rows.append((f"<code>{escape(status)}</code>", said))
    cells = "".join(f"<tr><th>{name}</th><td>{said}</td></tr>" for name, said in rows)
    parts.append(f"<table>{cells}</table>")
    answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    if "example" in answer:
        text = json.dumps(answer["example"], indent=1)
        # A list of numbers or names on one line.
        flat = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)
        parts.append(f"<pre>{escape(flat)}</pre>")
    return parts


def _curl(method: str, path: str) -> str:
    sent = " -F file=@photo.jpg" if method == "POST" else ""
    return f"curl{sent} http://127.0.0.1:8000{path}"
