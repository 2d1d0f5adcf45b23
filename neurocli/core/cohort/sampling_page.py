"""Show how a cohort was chosen: counts, a Love plot, overlap of scores, the table behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neurocli.core.cohort.balance import SMD_LIMIT
from neurocli.core.cohort.comparison import row_name, size_of
from neurocli.core.cohort.plots import love_plot, overlap_plot

if TYPE_CHECKING:
    from markupsafe import Markup

_TEMPLATE = """<h2>Sampling and matching</h2>
<p>{{ told }}</p>
{% if facts %}<table>{% for name, value in facts %}<tr><td>{{ name }}</td>
<td class="n">{{ value }}</td></tr>
{% endfor %}</table>{% endif %}
{% if love %}<h3>Balance of {{ treated }} against {{ control }}</h3>
{{ love }}
{% if overlap %}<h3>Overlap</h3>
{{ overlap }}{% endif %}
<p>Rings: before, dots: after. SMD over the {{ denominator }}. The larger of both is drawn and
judged. VR: variance ratio, KS: largest distance of the distribution functions. Effect sizes are
those before, p values are Welch or chi-square, q is Benjamini-Hochberg over the covariates.</p>
<table><tr><th>covariate</th><th class="n">treated before</th><th class="n">after</th>
<th class="n">control before</th><th class="n">after</th><th class="n">SMD before</th>
<th class="n">after</th>
<th class="n">pooled before</th><th class="n">after</th><th class="n">VR before</th>
<th class="n">after</th><th class="n">KS before</th><th class="n">after</th>
<th class="n">effect size</th><th class="n">q</th></tr>
{% for row in rows %}<tr><td>{{ row_name(row) }}</td>
<td class="n">{{ number(row.before.mean_treated) }}</td>
<td class="n">{{ number(row.after and row.after.mean_treated) }}</td>
<td class="n">{{ number(row.before.mean_control) }}</td>
<td class="n">{{ number(row.after and row.after.mean_control) }}</td>
{% for key in ("smd", "smd_pooled", "variance_ratio", "ks") %}
<td class="n">{{ number(row.before[key], 3) }}</td>
<td class="n">{{ number(row.after and row.after[key], 3) }}</td>{% endfor %}
<td class="n wide">{{ effect(row.get("effects")) }}</td>
<td class="n wide">{{ rate((row.get("effects") or {}).get("q")) }}</td></tr>
{% endfor %}</table>{% endif %}
"""


def sampling_section(sampling: Mapping[str, Any]) -> Markup:
    """Return the part of a page that shows how people were chosen; all values are escaped.

    Args:
        sampling: The key `sampling` of a split report.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    rows = sampling.get("balance", [])
    classes = sampling.get("treatment", {})
    treated, control = classes.get("treated", ""), classes.get("control", "")
    overlap = sampling.get("overlap")
    names = [f"{classes.get('column')}={name}" for name in (treated, control)]
    environment = Environment(autoescape=True, trim_blocks=True)
    page = environment.from_string(_TEMPLATE).render(
        told=_told(sampling),
        facts=_facts(sampling),
        # The plots escape what people wrote by themselves.
        love=Markup(love_plot(rows)) if rows else "",
        overlap=Markup(overlap_plot(overlap, *names)) if overlap else "",
        treated=names[0],
        control=names[1],
        denominator=sampling.get("denominator", ""),
        rows=rows,
        row_name=row_name,
        number=_number,
        effect=_effect,
        rate=_rate,
    )
    return Markup(page)


def _told(sampling: Mapping[str, Any]) -> str:
    rows = sampling.get("balance", [])
    n = f"{sampling.get('n_after', 'all')} of {sampling.get('n_before', 'all')} people kept"
    method = sampling["method"]
    if not rows or rows[0]["after"] is None:
        return f"{method}: {n}."
    bad = [row_name(row) for row in rows if row["column"] != "distance"
           and size_of(row, "after") > SMD_LIMIT]  # fmt: skip
    if not bad:
        return f"{method}: {n}. Every covariate is balanced (|SMD| at most {SMD_LIMIT})."
    more = f" and {len(bad) - 6} more" if len(bad) > 6 else ""
    return f"{method}: {n}. Not balanced: {', '.join(bad[:6])}{more}."


def _facts(sampling: Mapping[str, Any]) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = []
    for name, n in sampling.get("treatment", {}).get("classes", {}).items():
        facts.append((f"{sampling['treatment']['column']} {name}, before", n))
    for key, name in (
        ("match", "matching"),
        ("n_treated", "treated, matched"),
        ("n_control", "controls, matched"),
        ("n_pairs", "pairs"),
        ("per_class", "kept of each class"),
        ("cells_without_a_class", "cells without a class"),
        ("effective_controls", "effective number of controls"),
    ):
        if key in sampling:
            value = sampling[key]
            facts.append((name, _number(value) if isinstance(value, float) else value))
    facts += [(f"left out: {why}", n) for why, n in sampling.get("unmatched", {}).items()]
    for key, value in sampling.get("distance", {}).items():
        if key != "unit":
            shown = "none" if value is None else _number(value)
            facts.append(
                (f"{key} distance, logits" if key != "caliper" else "caliper, logits", shown)
            )
    if "score" in sampling:
        facts.append(("score", sampling["score"]["model"]))
    return facts


def _number(value: float | None, digits: int = 0) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if digits else f"{value:.4g}"


def _rate(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _effect(effects: Mapping[str, Any] | None) -> str:
    if not effects:
        return ""
    if effects.get("g") is not None:
        low, high = effects["g_ci95"]
        return f"g {effects['g']:.3f} ({low:.3f} to {high:.3f})"
    if effects.get("cramers_v") is not None:
        return f"V {effects['cramers_v']:.3f}"
    return "–"
