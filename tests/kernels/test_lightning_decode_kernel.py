"""Laws of the lightning decode kernel."""

import importlib

import pytest
import torch
from kernel_cases import BF16, DTYPES, F32, UNIT, among_nans, assert_within, far_apart

from lingspec import reference
from lingspec.kernels import lightning_attention, lightning_decode

MODULE = importlib.import_module("lingspec.kernels.lightning_decode")


def draw(
    B=4, H=3, K=12, V=20, P=7, slots=(5, -1, 0, 3), dtype=F32, seed=0, decays=(-0.01, 0.0, -0.7)
):
    g = torch.Generator().manual_seed(seed)
    return {
        "q": torch.randn(B, H, K, generator=g).to(dtype),
        "k": torch.randn(B, H, K, generator=g).to(dtype),
        "v": torch.randn(B, H, V, generator=g).to(dtype),
        "log_decay": torch.tensor([decays[h % len(decays)] for h in range(H)]),
        "state_pool": torch.randn(P, H, K, V, generator=g),
        "slots": torch.tensor(slots, dtype=torch.int32 if seed % 2 else torch.int64),
        "scale": 0.37,
    }


def assert_agrees(call):
    """o and the pool: a product, a sum and a read of K terms, float32, and the rounding of o."""
    wide = {
        n: x.double() if torch.is_tensor(x) and x.is_floating_point() else x
        for n, x in call.items()
    }
    wide["state_pool"] = wide["state_pool"].clone()
    want = reference.lightning_decode(**wide)
    before, used = call["state_pool"].clone(), call["slots"][call["slots"] >= 0].long()
    live = call["slots"] >= 0
    A = (
        before[used].double().abs()
        + (call["k"][..., None] * call["v"][..., None, :])[live].double().abs()
    )
    o = lightning_decode(**call)
    assert o.dtype == call["q"].dtype
    u = 2.0**-24
    K = call["q"].shape[-1]
    limit = torch.zeros_like(want)
    read = torch.einsum("bhk,bhkv->bhv", call["q"][live].double().abs(), A)
    limit[live] = (K + 4) * u * abs(call["scale"]) * read
    limit += UNIT[o.dtype] * want.abs() + (2.0**-25 if o.dtype == torch.float16 else 2.0**-110)
    assert_within("o", o, want, limit)
    assert_within(
        "states", call["state_pool"][used], wide["state_pool"][used], 4 * u * A + 2.0**-110
    )
    others = torch.ones(len(before), dtype=torch.bool)
    others[used] = False
    assert torch.equal(
        call["state_pool"][others].view(torch.int32), before[others].view(torch.int32)
    )
    assert not o[~live].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("dims", [(12, 20), (1, 1), (80, 8), (8, 80), (130, 33), (256, 40)])
def test_states_and_outputs_are_one_step_of_the_recurrence(dims, seed, dtype):
    assert_agrees(draw(K=dims[0], V=dims[1], seed=seed, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_decays_from_none_to_total_are_finite_and_right(dtype):
    decays = (0.0, -1e-5, -30.0, -88.0, -200.0, -1e4, -3e38)
    assert_agrees(draw(H=len(decays), decays=decays, dtype=dtype))


def test_padding_reads_and_writes_nothing():
    call = draw(slots=(-1, -1, -1, -1))
    call["state_pool"].fill_(torch.nan)
    for name in "qkv":
        call[name].fill_(torch.nan)
    assert not lightning_decode(**call).any()
    assert call["state_pool"].isnan().all()


def test_rows_not_in_slots_are_not_read():
    call, poisoned = draw(), draw()
    poisoned["state_pool"][[1, 2, 4, 6]] = torch.nan
    assert torch.equal(lightning_decode(**call), lightning_decode(**poisoned))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layout_changes_no_bit(dtype):
    call = draw(dtype=dtype)
    want = lightning_decode(**draw(dtype=dtype))
    pools = []
    for pool in (
        among_nans(call["state_pool"]),
        call["state_pool"].mT.contiguous().mT,
        call["state_pool"].permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    ):
        laid = {n: among_nans(call[n]) for n in "qkv"}
        laid["log_decay"] = call["log_decay"].repeat_interleave(2)[::2]
        laid["slots"] = call["slots"].repeat_interleave(2)[::2]
        assert torch.equal(lightning_decode(**{**call, **laid, "state_pool": pool}), want)
        pools.append(pool.clone())
    lightning_decode(**call)
    assert all(torch.equal(pool, call["state_pool"]) for pool in pools)


def test_expanded_queries_are_read_as_if_copied():
    call, copied = draw(), draw()
    call["q"] = call["q"][:1, :, :1].expand(4, -1, 12)
    copied["q"] = call["q"].contiguous()
    assert torch.equal(lightning_decode(**call), lightning_decode(**copied))


def test_pool_offsets_pass_two_to_the_31st(tmp_path):
    far = 2**30 + 64
    space = far_apart(tmp_path / "sparse", 3 * far, F32)
    call = draw(B=2, H=2, K=3, V=4, P=3, slots=(2, 0))
    pool = space.as_strided((3, 2, 3, 4), (far, 12, 4, 1)).copy_(call["state_pool"])
    o = lightning_decode(**{**call, "state_pool": pool})
    assert torch.equal(o, lightning_decode(**call))
    assert torch.equal(pool, call["state_pool"])


def test_steps_one_by_one_are_the_whole_sequence():
    g = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 40, 3, 12, generator=g) for _ in "qkv")
    log_decay = torch.tensor([-0.01, 0.0, -0.7])
    want, state = lightning_attention(q, k, v, log_decay, scale=0.37)
    pool, slots = torch.zeros(3, 3, 12, 12), torch.tensor([2, 0])
    rest = {"state_pool": pool, "slots": slots, "scale": 0.37}
    steps = [lightning_decode(q[:, t], k[:, t], v[:, t], log_decay, **rest) for t in range(40)]
    # two roundings of a state of norm |S| a token, as a random walk: (2 * 40)**0.5 2^-24 = 5e-7
    assert (pool[slots] - state).norm() <= 1e-6 * state.norm()
    assert (torch.stack(steps, 1) - want).norm() <= 1e-6 * want.norm()


def test_a_slow_decay_does_not_drift():
    call = draw(B=1, H=1, K=16, V=16, P=1, slots=(0,), decays=(-2e-5,))
    call["state_pool"] *= 1000
    want, decay = call["state_pool"].double(), call["log_decay"].double().exp()
    for _ in range(250):
        call["k"], call["v"] = call["k"].roll(1, -1), -call["v"]
        want = decay * want + call["k"][..., None].double() * call["v"][..., None, :].double()
        lightning_decode(**call)
    # two roundings a token as a random walk: (2 * 250)**0.5 2^-24 / 3**0.5 = 8e-7 at most;
    # a factor exp(-2e-5) rounded to float32 is off by 2.7e-8, 250 times: 7e-6
    assert (call["state_pool"] - want).norm() <= 1.5e-6 * want.norm()


@pytest.mark.parametrize("sizes", [{"B": 0, "slots": ()}, {"H": 0}])
def test_nothing_in_gives_nothing_out(sizes):
    call = draw(**sizes)
    before = call["state_pool"].clone()
    assert lightning_decode(**call).shape == call["v"].shape
    assert torch.equal(call["state_pool"], before)


def test_inputs_are_not_written_to():
    call = draw(dtype=BF16)
    before = {n: call[n].clone() for n in ("q", "k", "v", "log_decay", "slots")}
    lightning_decode(**call)
    assert all(torch.equal(call[name], x) for name, x in before.items())


def test_the_grid_grows_in_its_first_dim_only(monkeypatch):
    grids = []

    class Recorder:
        def __getitem__(self, grid):
            grids.append(grid)
            return lambda *_, **__: None

    monkeypatch.setattr(MODULE, "_step", Recorder())
    x = torch.zeros(1, 1, 1).expand(70000, 2, 1)
    pool, slots = torch.zeros(1, 2, 1, 1), torch.full((70000,), -1)
    lightning_decode(x, x, x, torch.zeros(2), pool, slots, scale=1.0)
    assert grids == [(140000,)]


REFUSALS = {
    "q has dtype torch.float64, but must have torch.float32 or": {
        "q": torch.zeros(4, 3, 12).double()
    },
    "q has shape (4, 12), but must have 3 dims": {"q": torch.zeros(4, 12)},
    "v has shape (4, 2, 20), but must have (4, 3, 20)": {"v": torch.zeros(4, 2, 20)},
    "state_pool has shape (7, 3, 20, 12), but must": {"state_pool": torch.zeros(7, 3, 20, 12)},
    "state_pool has dtype torch.bfloat16, but must": {
        "state_pool": torch.zeros(7, 3, 12, 20).bfloat16()
    },
    "slots has shape (3,), but must have (4,)": {"slots": torch.zeros(3, dtype=torch.int64)},
    "slots has dtype torch.int16, but must have": {"slots": torch.zeros(4, dtype=torch.int16)},
}


@pytest.mark.parametrize("message", REFUSALS)
def test_what_the_op_does_not_allow_is_refused_by_name(message):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the text is compared below
        lightning_decode(**{**draw(), **REFUSALS[message]})
    assert str(refusal.value).startswith(message)
