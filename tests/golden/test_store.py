"""Goldens come out again, and agree with exact rational arithmetic and with 50 digits."""

import json
from fractions import Fraction

import mpmath
import pytest
import torch

from lingspec.golden import ENTRIES, check, store
from lingspec.golden.store import record

ATTENTION = [e for e in ENTRIES if e.name.startswith("lightning_attention")]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_a_golden_comes_out_as_stored(entry):
    assert check(entry) is None


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_a_golden_that_differs_by_one_bit_is_noticed_where_bits_are_promised(
    entry, tmp_path, monkeypatch
):
    monkeypatch.setattr(store, "DATA", tmp_path)
    file = record(entry, "a copy")
    body = json.loads(file.read_text())
    tensor = next(iter(body["tensors"].values()))
    was = float.fromhex(tensor["hex"][0])
    size = 2.0**-50 if entry.agreement == "bits" else 1e-9
    tensor["hex"][0] = (was + size * max(1.0, abs(was))).hex()
    file.write_text(json.dumps(body))
    assert "element 0" in check(entry)


def test_a_missing_golden_is_a_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "DATA", tmp_path)
    assert check(ENTRIES[0]).endswith("is not stored")


@pytest.mark.statement("LIN-1", "LIN-2", "LIN-12")
@pytest.mark.parametrize("entry", ATTENTION, ids=lambda e: e.name)
def test_attention_goldens_agree_with_50_digits(entry):
    packed = "packed" in entry.name
    exact = entry.agreement == "bits"
    lengths = [3, 0, 1, 5] if packed else [9, 9]
    decay = [0.0, -1e4, 0.0] if exact else [-0.25, -0.0625, -1.5]
    unit = 1.0 if exact else 0.125
    B, T = (1, 9) if packed else (2, 9)
    q, k = (unit * store.integers((B, T, 3, 5), n) for n in (1, 2))
    v, S0 = (
        unit * store.integers((B, T, 3, 4), 3),
        unit * store.integers((len(lengths), 3, 5, 4), 4),
    )
    if not packed:
        q, k, v = (x.reshape(1, B * T, *x.shape[2:]) for x in (q, k, v))
    got = {n: [float.fromhex(x) for x in t["hex"]] for n, t in json.loads(
        (store.DATA / f"{entry.name}.json").read_text())["tensors"].items()}  # fmt: skip
    o, state = independent(q[0], k[0], v[0], S0, decay, lengths)
    close = 0 if exact else 1e-12
    assert max(abs(Fraction(a) - b) for a, b in zip(got["o"], o, strict=True)) <= close
    assert (
        max(abs(Fraction(a) - b) for a, b in zip(got["final_state"], state, strict=True)) <= close
    )


def independent(q, k, v, S0, decay, lengths):
    """The recurrence in rational arithmetic, exp to 45 digits; nothing of the reference."""
    mpmath.mp.dps = 50
    factors = [
        Fraction(str(mpmath.nstr(mpmath.exp(g), 45))) if g > -1e3 else Fraction(0) for g in decay
    ]
    o, states, t = [], [], 0
    for n, length in enumerate(lengths):
        S = [[[Fraction(x) for x in row] for row in head] for head in S0[n].tolist()]
        for _ in range(length):
            for h, g in enumerate(factors):
                S[h] = [
                    [
                        g * S[h][a][b] + Fraction(k[t, h, a].item()) * Fraction(v[t, h, b].item())
                        for b in range(4)
                    ]
                    for a in range(5)
                ]
                for b in range(4):
                    o.append(sum(Fraction(q[t, h, a].item()) * S[h][a][b] for a in range(5)) / 2)
            t += 1
        states += [x for head in S for row in head for x in row]
    return o, states


@pytest.mark.statement("DECAY-1")
def test_slopes_agree_with_powers_of_two():
    stored = json.loads((store.DATA / f"{ENTRIES[0].name}.json").read_text())["tensors"]
    got = [float.fromhex(x) for x in stored["heads 64, layer 0 of 80, origin 0"]["hex"]]
    want = torch.tensor([-(2.0 ** (-(h + 1) / 8)) * 1.00001 for h in range(64)])
    assert torch.allclose(torch.tensor(got), want, rtol=3 * 2.0**-24, atol=0)  # three roundings
