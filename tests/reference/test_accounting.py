"""Sizes that were published, out of the configuration."""

import math

import pytest

from lingspec.reference import LingConfig
from lingspec.reference.accounting import KIMI_K2, LING_1T, account
from lingspec.reference.layout import tensors

ONE_T = account("ling-2.5-1t", LingConfig.preset("ling-2.5-1t"))


@pytest.mark.statement("CONF-10", "CONF-11")
def test_the_trillion_comes_out():
    assert ONE_T.total == 1_012_231_160_320
    assert round(ONE_T.active_total / 1e9, 2) == 63.58
    assert (ONE_T.mla_layers, ONE_T.lightning_layers) == (10, 70)


@pytest.mark.statement("CONF-11")
def test_a_token_takes_11_kib_and_a_state_4_mib():
    assert ONE_T.row_bytes == 11.25 * 1024
    assert ONE_T.state_bytes == 4 << 20
    assert ONE_T.cache_bytes(0) == 280 << 20
    assert ONE_T.cache_bytes(1) - ONE_T.cache_bytes(0) == ONE_T.row_bytes


def test_the_others_take_more():
    assert KIMI_K2.cache_bytes(1) == 68.625 * 1024
    assert LING_1T.cache_bytes(1) == 320 * 1024


@pytest.mark.statement("CONF-12")
def test_mtp_layers_are_counted_apart():
    later = account("ling-2.6-1t", LingConfig.preset("ling-2.6-1t"))
    assert later.total == ONE_T.total
    assert later.parameters["mtp"] == 13_183_265_024
    flash = account("ling-2.6-flash", LingConfig.preset("ling-2.6-flash"))
    assert (flash.total, flash.parameters["mtp"]) == (104_186_915_584, 3_307_493_632)
    assert round(flash.active_total / 1e9, 3) == 7.449


@pytest.mark.statement("CKPT-1")
@pytest.mark.parametrize(
    ("preset", "count"),
    [("ling-2.5-1t", 59_413), ("ling-2.6-1t", 60_199), ("ling-2.6-flash", 25_015)],
)
def test_the_released_checkpoints_have_so_many_tensors(preset, count):
    assert sum(1 for _ in tensors(LingConfig.preset(preset))) == count


@pytest.mark.statement("CONF-12")
def test_every_parameter_is_in_one_component():
    whole = sum(math.prod(shape) for _, shape in tensors(ONE_T.config))
    assert ONE_T.parameters.total() == whole


@pytest.mark.statement("CONF-13")
def test_attention_grows_with_the_context_in_mla_layers_alone():
    growth = ONE_T.attention_flops(2001) - ONE_T.attention_flops(2000)
    assert growth == 10 * 64 * 2 * (128 + 64 + 128)
    assert ONE_T.absorbed_flops(2001) - ONE_T.absorbed_flops(2000) == 10 * 64 * 2 * (512 + 64 + 512)
