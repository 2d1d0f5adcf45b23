"""Show a split as one HTML page that needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurocli.core.cohort.balance import SMD_LIMIT
from neurocli.core.cohort.sampling_page import sampling_section

_WIDEST = 0.5  # SMD that fills the whole bar

_TEMPLATE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Split {{ report.split }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --line: #8884; --good: #2a7f9e; --bad: #c2492f }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.bar { display: inline-block; width: 8rem; background: var(--line) }
.bar i { display: block; height: .6rem; background: var(--good) }
.bar i.bad { background: var(--bad) }
.plot { max-width: 100%; height: auto; font-size: 12px }
.plot text { fill: currentColor } .plot .grid { stroke: var(--line) }
.plot .limit { stroke: var(--bad); stroke-dasharray: 4 3 }
.plot .way { stroke: var(--line); stroke-width: 2 }
.plot .ring { fill: none; stroke: currentColor; stroke-width: 1.5 }
.plot .axis { stroke: currentColor }
.plot .good { fill: var(--good) } .plot .bad { fill: var(--bad) }
.plot .before { fill-opacity: .12 } .plot .after { fill-opacity: .85 }
.plot .treated { fill: var(--bad); stroke: var(--bad) }
.plot .control { fill: var(--good); stroke: var(--good) }
.wide { white-space: nowrap }
small { opacity: .75 } code { font-size: .9em; overflow-wrap: anywhere }
</style></head><body>
<h1>Split {{ report.split }}</h1>
<p>{{ report.n }} people, {{ report.method }}, seed {{ report.seed }}.</p>
<table><tr><th>part</th><th class="n">people</th><th class="n">share</th></tr>
{% for part, count in report.counts.items() %}<tr><td>{{ part }}</td><td class="n">{{ count }}</td>
<td class="n">{{ "%.1f"|format(100 * count / report.n) }} %</td></tr>
{% endfor %}</table>
<h2>Leakage</h2>
<p><b>{{ report.groups.split }} groups divided</b>: {{ report.groups.n }} groups by
{{ report.groups.columns|join(", ") or "no column, everyone alone" }}; the largest holds
{{ report.groups.largest }}. {{ report.folds or "No" }} folds.</p>
{% if report.notes %}<h2>Notes</h2><ul>
{% for note in report.notes %}<li>{{ note }}</li>
{% endfor %}</ul>{% endif %}
{% if report.sampling %}{{ sampling(report.sampling) }}{% endif %}
{% if report.balance %}<h2>Balance of the parts</h2>
<p>SMD is the standardised mean difference of train against test. Continuous columns: difference
of means over sqrt((sd_train² + sd_test²) / 2). Categories: the level that differs most, over the
same with p (1 - p) for variances. Above {{ limit }} it is usually called an imbalance.</p>
<table><tr><th>column</th>{% for part in report.counts %}<th>{{ part }}</th>{% endfor %}
<th class="n">SMD</th><th></th></tr>
{% for row in report.balance %}<tr><td>{{ row.column }}<br><small>{{ row.kind }}</small></td>
{% for shown in row.parts.values() %}<td>{{ cell(shown) }}
{% if shown.n_missing %}<br><small>{{ shown.n_missing }} missing</small>{% endif %}</td>{% endfor %}
<td class="n">{{ "–" if row.smd is none else "%.3f"|format(row.smd) }}
{% if row.level is defined %}<br><small>{{ row.level }}</small>{% endif %}</td>
<td>{% if row.smd is not none %}<span class="bar"><i{% if row.smd|abs > limit %} class="bad"
{% endif %} style="width:{{ width(row.smd) }}%"></i></span>{% endif %}</td></tr>
{% endfor %}</table>{% endif %}
<p><small>Hash of the parts <code>{{ report.split_sha256 }}</code><br>
Hash of the inputs <code>{{ report.inputs.sha256 }}</code></small></p>
</body></html>
"""


def split_page(report: Mapping[str, Any]) -> str:
    """Return the page of a split report; all values are escaped.

    Args:
        report: The content of `FILE.report.json`.
    """
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=True).from_string(_TEMPLATE)
    return (
        template.render(
            report=report, limit=SMD_LIMIT, cell=_cell, width=_width, sampling=sampling_section
        )
        + "\n"
    )


def _cell(shown: Mapping[str, Any]) -> str:
    if "shares" in shown:
        shares = shown["shares"].items()
        return ", ".join(f"{level} {100 * share:.1f} %" for level, share in shares) or "–"
    if shown["mean"] is None:
        return "–"
    spread = "" if shown["sd"] is None else f" ± {shown['sd']:.4g}"
    return f"{shown['mean']:.4g}{spread}"


def _width(smd: float) -> int:
    return round(100 * min(abs(smd) / _WIDEST, 1.0))
