"""`lingspec model`: what a configuration comes to, in numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from lingspec.conformance.runner.host import TargetRefused
from lingspec.reference.accounting import KIMI_K2, LING_1T, Ling, account
from lingspec.reference.config import PRESETS, ConfigError, LingConfig

__all__ = ["config_of", "model"]

CONTEXTS = (4096, 32768, 131072, 262144, 1048576)
PEERS = (LING_1T, KIMI_K2)


def model(what: str, *, as_json: bool, plot: Path | None) -> int:
    """`lingspec model`."""
    config = config_of(what)
    sizes = account(what, config)
    if plot and not plot.absolute().parent.is_dir():
        raise TargetRefused("usage", f"no folder {plot.parent}")
    if plot:
        _plot(sizes, plot)
    click.echo(json.dumps(_data(sizes), indent=1) if as_json else "\n".join(_lines(sizes)))
    return 0


def config_of(what: str) -> LingConfig:
    """A preset, or what a file says."""
    try:
        return LingConfig.preset(what) if what in PRESETS else LingConfig.from_json(what)
    except ConfigError as wrong:
        if what not in PRESETS and not Path(what).exists():
            text = f"no preset and no file {what!r}; there are {', '.join(PRESETS)}"
            raise TargetRefused("usage", text) from None
        raise TargetRefused("usage", str(wrong)) from wrong


def _lines(sizes: Ling) -> Iterator[str]:
    c = sizes.config
    yield f"{sizes.name}: {_widths(c)}"
    yield ""
    yield f"layers      {_layer_map(c)}"
    kinds = f"{sizes.lightning_layers} Lightning (L), {sizes.mla_layers} MLA (M)"
    yield f"            {kinds}; lower case: with a dense MLP, not experts"
    yield ""
    yield from _parameters(sizes)
    yield ""
    yield from _caches(sizes)
    yield ""
    yield from _work(sizes)


def _widths(config: LingConfig) -> str:
    """The sizes that name a model."""
    heads = f"{config.num_attention_heads} heads of {config.head_dim}"
    return f"{config.num_hidden_layers} layers, {config.hidden_size} wide, {heads}"


def _parameters(sizes: Ling) -> Iterator[str]:
    yield f"{'parameters':<20}{'all':>20}{'one token meets':>20}"
    for part, count in sizes.parameters.most_common():
        yield f"  {part:<18}{count:>20,}{sizes.active[part]:>20,}"
    apart = "   without mtp" if sizes.parameters["mtp"] else ""
    yield f"  {'total':<18}{sizes.total:>20,}{sizes.active_total:>20,}{apart}"
    yield f"  {'bf16':<18}{_bytes(2 * sizes.total):>20}{_bytes(2 * sizes.active_total):>20}"


def _caches(sizes: Ling) -> Iterator[str]:
    states = f"{sizes.lightning_layers} x {_bytes(sizes.state_bytes)} of float32 states"
    yield f"cache of one sequence in bf16; for {sizes.name} with {states}"
    yield f"{'tokens':>10}" + "".join(f"{m.name:>20}" for m in (sizes, *PEERS))
    yield f"{'each':>10}" + "".join(f"{_bytes(m.row_bytes):>20}" for m in (sizes, *PEERS))
    for n in CONTEXTS:
        held = (sizes.cache_bytes(n), *(p.cache_bytes(n) for p in PEERS))
        yield f"{n:>10,}" + "".join(f"{_bytes(x):>20}" for x in held)


def _work(sizes: Ling) -> Iterator[str]:
    products = f"{sizes.projection_flops():.4g} in products with weights"
    yield f"FLOPs of one token of {sizes.name}: {products}; in attention, beside others,"
    for kind, absorbed in (("prefill", False), ("decode", True)):
        yield f"{kind:>10}" + "".join(f"{m.name:>20}" for m in (sizes, *PEERS))
        for n in CONTEXTS:
            each = (
                m.absorbed_flops(n) if absorbed else m.attention_flops(n) for m in (sizes, *PEERS)
            )
            yield f"{n:>10,}" + "".join(f"{x:>20.4g}" for x in each)


def _flops(sizes: Ling, context: int, *, absorbed: bool) -> int:
    attention = sizes.absorbed_flops(context) if absorbed else sizes.attention_flops(context)
    return sizes.projection_flops() + attention


def _layer_map(config: LingConfig) -> str:
    """One letter a layer, a blank between groups."""
    letters = [
        (kind if config.is_moe(i) else kind.lower())
        for i in range(config.num_hidden_layers)
        for kind in ("M" if config.is_mla(i) else "L")
    ]
    size = config.layer_group_size
    return " ".join("".join(letters[n : n + size]) for n in range(0, len(letters), size))


def _bytes(count: int) -> str:
    value, units = float(count), ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units:
        if value < 1024 or unit == units[-1]:
            return f"{value:,.6g} {unit}"
        value /= 1024
    raise AssertionError


def _data(sizes: Ling) -> dict[str, Any]:
    c = sizes.config
    return {
        "schema": "lingspec.model/1", "name": sizes.name,
        "layers": ["mla" if c.is_mla(i) else "lightning" for i in range(c.num_hidden_layers)],
        "experts": [c.is_moe(i) for i in range(c.num_hidden_layers)],
        "parameters": dict(sizes.parameters), "active": dict(sizes.active),
        "total": sizes.total, "activeTotal": sizes.active_total,
        "cacheBytesPerToken": {m.name: m.row_bytes for m in (sizes, *PEERS)},
        "stateBytesPerLayer": sizes.state_bytes,
        "stateBytesPerSequence": sizes.lightning_layers * sizes.state_bytes,
        "contexts": [
            {
                "tokens": n,
                "cacheBytes": {m.name: m.cache_bytes(n) for m in (sizes, *PEERS)},
                "prefillFlops": _flops(sizes, n, absorbed=False),
                "decodeFlops": _flops(sizes, n, absorbed=True),
                "attentionFlops": {
                    m.name: {"prefill": m.attention_flops(n), "decode": m.absorbed_flops(n)}
                    for m in (sizes, *PEERS)
                },
            }
            for n in CONTEXTS
        ],
    }  # fmt: skip


def _plot(sizes: Ling, file: Path) -> None:
    """Cache of one sequence against its length, in the format of the file's ending."""
    try:
        import matplotlib as mpl
    except ImportError as missing:
        raise TargetRefused("environment", "a plot needs the extra 'report'") from missing
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (memory, work) = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    tokens = [2**n for n in range(10, 21)]
    for one in (sizes, *PEERS):
        memory.plot(tokens, [one.cache_bytes(n) / 2**30 for n in tokens], label=one.name)
        work.plot(tokens, [one.attention_flops(n) for n in tokens], label=one.name)
    for panel, title in (
        (memory, "cache of one sequence, GiB"),
        (work, "FLOPs of attention, one token"),
    ):
        panel.set(xscale="log", yscale="log", xlabel="tokens of context", title=title)
        panel.legend(frameon=False)
    try:
        figure.savefig(file)
    except ValueError as unknown:  # an ending that is no format
        raise TargetRefused("usage", str(unknown)) from unknown
    finally:
        plt.close(figure)
