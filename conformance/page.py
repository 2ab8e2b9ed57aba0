"""The results of a run as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lingspec.conformance.runner.host import RunnerError
from lingspec.conformance.text import again

__all__ = ["page", "rendered"]

TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ r.target }}: {{ r.status }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }
 table { border-collapse: collapse; margin: .5em 0 1.5em }
 td, th { border: 1px solid #ccc; padding: .15em .6em; text-align: left; vertical-align: top }
 code { font-size: .9em; overflow-wrap: anywhere }
 .PASS { background: #d9f2d9 } .FAIL, .CRASH, .TIMEOUT, .REJECTED { background: #f6d5d5 }
 .VOID, .INCOMPLETE, .WAIVED { background: #f8edc8 } .never { color: #888 }
</style>
<h1>{{ r.target }} <span class="{{ r.status }}">{{ r.status }}</span></h1>
<p>profile {{ r.profile }}, device {{ r.device }}, seed {{ r.seed }}
{{- " drawn after the files were hashed" if r.seedDrawn }}, spec {{ r.specVersion }}
{%- if r.notCovered %}; not covered: {{ r.notCovered | join(", ") }}{% endif %}</p>
{% for problem in r.problems %}<p class="INCOMPLETE">{{ problem }}</p>
{% endfor %}
{% for p in r.parts %}
<h2>{{ p.op }} · {{ p.candidate }} · {{ p.dtype }} · {{ p.precision }} · {{ p.device }}
 <span class="{{ p.status }}">{{ p.status }}</span></h2>
<table><tr><th>law<th>cases
{% for law, counts in p.laws.items() %}<tr><td>{{ law }}<td>
{%- for status, n in counts.items() %} <span class="{{ status }}">{{ status }} {{ n }}</span>
{%- endfor %}{% if law in p.missing %} not asked {{ p.missing[law] }}{% endif %}
{% endfor %}</table>
{% for title, found in (("Findings", p.findings), ("Waived", p.waived)) if found %}
<h3>{{ title }}</h3>
<table><tr><th>law<th>what<th>where<th>got / want<th>case
{% for f in found %}<tr><td>{{ f.law }}
<td>{{ f.text }}{% if f.issue is defined %} ({{ f.issue }}){% endif %}
<td>{{ f.where }}<td>{{ f.got_want }}<td><code>lingspec replay {{ f.case }} {{ again }}</code>
{% endfor %}</table>
{% endfor %}
{% endfor %}
{% if r.waivers %}<h2>Waivers</h2>
<table><tr><th>issue<th>reason<th>owner<th>expires<th>state<th>cases
{% for w in r.waivers %}<tr><td>{{ w.issue }}<td>{{ w.reason }}<td>{{ w.owner }}<td>{{ w.expires }}
<td>{{ w.state }}<td>{{ w.waived }}
{% endfor %}</table>{% endif %}
{% for t in r.coverage %}
<h2>Coverage of {{ t.op }} · {{ t.candidate }}: {{ t.cases }} cases</h2>
<table>{% for attribute, counts in t.attributes.items() %}<tr><th>{{ attribute }}<td>
{%- for value, n in counts.items() %} {% if n %}{{ value }} ×{{ n }}{% else -%}
<span class="never">{{ value }} never</span>{% endif %}{{ "," if not loop.last }}{% endfor %}
{% endfor %}</table>
{% endfor %}
<h2>What was judged, and with what</h2>
<table>{% for s in r.subjects %}<tr><td>{{ s.name }}<td><code>{{ s.digest.sha256 }}</code>
{% endfor %}{% for name, version in r.environment.items() %}<tr><td>{{ name }}<td>{{ version }}
{% endfor %}<tr><td>required cases<td><code>{{ r.requiredCases }}</code></table>
</html>
"""


def page(results: Mapping[str, Any]) -> str:
    """The page of what results.json holds.

    Raises:
        RunnerError: the package that makes pages is not installed.
    """
    asked = results["asked"]
    how = again(asked["target"], precision=asked["precision"], backward=asked["backward"])
    return rendered(TEMPLATE, html=True, r=results, again=how)


def rendered(template: str, *, html: bool, **given: Any) -> str:
    """A page of what is given.

    Raises:
        RunnerError: the package that makes pages is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as missing:
        told = f"a page needs jinja2: {missing}; `pip install lingspec[report]`"
        raise RunnerError(told) from missing
    made = Environment(autoescape=html, undefined=StrictUndefined, keep_trailing_newline=not html)
    return made.from_string(template).render(**given)
