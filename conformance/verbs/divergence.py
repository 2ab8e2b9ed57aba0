"""What `lingspec compare` prints for people: the verdict, the worst, and where two traces part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby

from lingspec.golden.compare import Comparison
from lingspec.golden.measure import ROW, Difference
from lingspec.golden.names import parsed
from lingspec.golden.trace import Trace
from lingspec.reference.config import ConfigError, LingConfig

__all__ = ["lines"]

SHOWN = 5  # names, sequences


def lines(found: Comparison, *, everything: bool) -> Iterator[str]:
    """The comparison, a line at a time; ``everything``: with a line for each tensor."""
    yield f"{found.status:<10}  {_headline(found)}"
    for side, trace in (("A", found.a), ("B", found.b)):
        made = trace.meta.get("made_by", {})
        words = [trace.precision or "no floats", _some(len(trace), "tensor"), *made.values()]
        yield f"  {side:<10}{trace.folder}: {', '.join(words)}"
    for label, told in (("inputs", found.inputs), ("config", found.config)):
        for line in told:
            yield f"  {label:<10}{line}"
    if found.inputs:
        return
    yield f"  limit     {found.limit:.3g} for a tensor, {ROW:g} times that for one row of it"
    yield f"            {found.because}"
    yield from _table(found)
    if everything:
        yield from _each(found.differences)
    if found.first is not None:
        yield from _first(found, found.first)
    yield from _missing(found)
    if nans := [d.name for d in found.differences if d.same_nan]:
        yield f"  note      NaN at the same places of both: {_named(nans)}"


def _headline(found: Comparison) -> str:
    if found.inputs:
        return "the inputs differ, so nothing was compared"
    total, bad = len(found.differences), len(found.beyond)
    if bad:
        return f"{bad} of {_some(total, 'tensor')} beyond the limit"
    said = f"{_some(total, 'tensor')} within the limit"
    if found.config:
        return f"{said}, but the configurations differ"
    lost = len(found.missing_a) + len(found.missing_b)
    return f"{said}, {lost} only in one trace" if lost else said


def _table(found: Comparison) -> Iterator[str]:
    """The worst of each kind of tensor."""
    kinds: dict[str, list[Difference]] = {}
    for d in found.differences:
        kinds.setdefault(_kind(d.name), []).append(d)
    if not kinds:
        return
    yield ""
    yield f"    {'':<15}{'tensors':>8}{'beyond':>8}{'worst':>11}   where"
    for kind, some in kinds.items():
        bad, worst = sum(d.beyond for d in some), max(some, key=_size)
        where = f"{worst.name}{_comma(_row(worst, worst.row))}" if _size(worst)[1] else ""
        yield f"    {kind:<15}{len(some):>8}{bad:>8}{_far(worst):>11}   {where}".rstrip()
    yield ""


def _each(differences: Iterable[Difference]) -> Iterator[str]:
    for d in differences:
        mark = "beyond" if d.beyond else ""
        told = d.reason or _row(d, d.row) if _size(d)[1] else ""
        yield f"    {d.name:<36}{_far(d):>11} {mark:<8}{told}".rstrip()
    yield ""


def _first(found: Comparison, first: Difference) -> Iterator[str]:
    """Where the traces part, and what follows."""
    name, (before, after) = parsed(first.name), found.around()
    yield f"  first     {first.name}: {_said(first, found.limit)}"
    if name.layer is not None:
        yield f"  layer     {_layer(found.b, name.layer)}"
    if first.off:
        yield f"  where     {_rows(first)}"
    if first.exchange is not None:
        yield from _exchange(first)
    elif first.index or first.values != (0.0, 0.0):
        place = ",".join(map(str, first.index))
        yield f"  worst     [{place}] {first.values[0]:.7g} in A, {first.values[1]:.7g} in B"
    routed = found.routing_of(name.layer, name.call)
    if routed is not None and routed is not first:
        other = f"other experts for {_some(routed.off, 'token')}"
        yield f"  routing   of this layer: {other if routed.off else 'the same experts'}"
    if before:
        worst = max(before, key=_size)
        close = f"at most {_far(worst)} apart ({worst.name})" if _size(worst)[1] else "equal"
        yield f"  before    {_some(len(before), 'tensor')}, {close}"
    if after:
        yield f"  after     {_after(after)}"


def _said(d: Difference, limit: float) -> str:
    if d.exchange is not None:
        return f"other experts for {d.off} of {_some(d.rows, 'token')}"
    if d.reason:
        return d.reason
    if parsed(d.name).kind == "topk_idx" or limit == 0:
        return f"{_far(d)} apart"
    if d.relative > limit:
        return f"{d.relative:.2g} apart, {_times(d.relative / limit)} the limit"
    times = _times(d.row_relative / (ROW * limit))
    return f"{d.row_relative:.2g} apart in one row, {times} the limit of a row"


def _times(factor: float) -> str:
    return f"{factor:,.0f}×" if factor >= 10 else f"{factor:.2g}×"


def _exchange(d: Difference) -> Iterator[str]:
    assert d.exchange is not None
    e = d.exchange
    yield f"  experts   {_row(d, d.row)}: {_ids(e.only_a)} in A, {_ids(e.only_b)} in B"
    if e.margin_a is None or e.margin_b is None:
        return
    what = "of sigmoid(router_logits) between the exchanged experts"
    yield f"  margin    {what}: {e.margin_a:.2g} in A, {e.margin_b:.2g} in B"
    if e.tie is not None:
        who = "they, or their groups," if e.groups else "they"
        yield f"  tie       {who} were at most {e.tie:.2g} from one, if both routers have one bias"
    else:
        yield "  tie       none: their scores moved the other way, so bias or rule differ"
    if e.explained != d.off:
        yield f"            of the {_some(d.off, 'token')}, a tie can explain {e.explained}"


def _after(after: tuple[Difference, ...]) -> str:
    bad = [d for d in after if d.beyond]
    if not bad:
        return f"all {_some(len(after), 'tensor')} within the limit"
    said = f"{len(bad)} of {_some(len(after), 'tensor')} beyond the limit"
    sized = [d for d in bad if d.exchange is None]
    if sized:
        worst = max(sized, key=_size)
        said += f", the largest {worst.name} {_far(worst)}"
    flips = [d for d in bad if d.exchange is not None]
    if flips:
        tokens = sum(d.off for d in flips)
        said += f"; other experts for {_some(tokens, 'token')} in {_some(len(flips), 'layer')}"
    return said


def _missing(found: Comparison) -> Iterator[str]:
    for side, names in (("A", found.missing_a), ("B", found.missing_b)):
        if names:
            other = "B" if side == "A" else "A"
            what = f"{side} lacks {_some(len(names), 'tensor')} of {other}: {_named(names)}"
            yield f"  missing   {what}"
    if not found.differences:
        yield "  missing   the traces have no tensor in common"


def _rows(d: Difference) -> str:
    """Which rows are off: ranges of tokens of each sequence, or the first of what there is."""
    unit = d.axes[-1] if d.axes else "row"
    many = f"{d.off} of {_some(d.rows, unit)}"
    if d.off == d.rows:
        return f"all {_some(d.rows, unit)}"
    if d.axes != ("sequence", "token"):
        first = _row(d, d.off_rows[0]) or "the first"
        return f"{many}, the first is {first}"
    told = []
    for sequence, rows in groupby(d.off_rows, key=lambda row: row[0]):
        told.append(f"sequence {sequence}: {_ranges(row[1] for row in rows)}")
    more = ", …" if len(told) > SHOWN or d.off > len(d.off_rows) else ""
    return f"{many}: {'; '.join(told[:SHOWN])}{more}"


def _ranges(numbers: Iterable[int]) -> str:
    spans: list[list[int]] = []
    for n in numbers:
        if spans and n == spans[-1][1] + 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ", ".join(f"{x}" if x == y else f"{x}-{y}" for x, y in spans)


def _row(d: Difference, row: tuple[int, ...]) -> str:
    if not d.axes:
        return f"row {list(row)}" if row else ""
    return " ".join(f"{axis} {n}" for axis, n in zip(d.axes, row, strict=False))


def _layer(trace: Trace, layer: int) -> str:
    try:
        config = LingConfig.from_dict(trace.config or {})
    except (ConfigError, TypeError):  # of another engine
        return str(layer)
    kind = "MLA" if config.is_mla(layer) else "Lightning attention"
    mlp = "experts" if config.is_moe(layer) else "a dense MLP"
    return f"{layer} of {config.num_hidden_layers}: {kind}, {mlp}"


def _kind(name: str) -> str:
    of = parsed(name)
    return f"{of.of} {of.kind}" if of.of == "cache" else of.kind


def _size(d: Difference) -> tuple[bool, float]:
    """What tensors are ordered by: how far they are."""
    return d.beyond, d.relative


def _far(d: Difference) -> str:
    if d.exchange is not None:
        return _some(d.off, "token")
    if math.isinf(d.relative):
        return d.reason.partition(" ")[0]
    return f"{d.relative:.2g}"


def _ids(experts: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, experts))}" or "none"


def _named(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - SHOWN
    return ", ".join(every[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _comma(text: str) -> str:
    return f", {text}" if text else ""


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
