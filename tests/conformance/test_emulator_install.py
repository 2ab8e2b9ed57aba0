"""The emulator is off unless asked for, and leaves nothing behind."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from lingspec.conformance import emulator  # noqa: E402, after the skip


@pytest.fixture(autouse=True)
def _off():
    yield
    emulator.uninstall()
    emulator.select_config(None)


@triton.jit
def twice_kernel(x, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(x + at, tl.load(x + at) * 2.0)


@triton.autotune(
    configs=[triton.Config({"BLOCK": block}) for block in (16, 32, 64)],
    key=["n"],
    reset_to_zero=["count"],
)
@triton.heuristics({"EVEN": lambda args: args["n"] % args["BLOCK"] == 0})
@triton.jit
def tuned_kernel(x, count, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + at, BLOCK + EVEN, mask=at < n)
    tl.atomic_add(count, 1)


def only_large(configs, named_args, **kwargs):
    assert {**named_args, **kwargs}["n"] == 40
    return [config for config in configs if config.kwargs["BLOCK"] > 16]


def needs_a_device(configs, named_args, **kwargs):
    raise RuntimeError("no device")


def called(args):
    args["count"] += 100


@triton.autotune(
    configs=[
        triton.Config({"BLOCK": 16}),
        triton.Config({"BLOCK": 32}, pre_hook=called),
        triton.Config({"BLOCK": 64}),
    ],
    key=["n"],
    prune_configs_by={"early_config_prune": only_large},
)
@triton.jit
def pruned_kernel(x, count, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.static_assert(BLOCK > 32, "too small")
    tl.store(x + at, BLOCK, mask=at < n)


@triton.autotune(
    configs=[triton.Config({"BLOCK": b}) for b in (16, 32)],
    key=[],
    prune_configs_by={"early_config_prune": needs_a_device},
)
@triton.jit
def deviceless_kernel(x, BLOCK: tl.constexpr):
    tl.store(x, BLOCK)


def state_of_everything():
    """Every attribute of every triton module and class, and of torch.cuda, by identity."""
    state = {}
    for name, module in sorted(sys.modules.items()):
        if module is None or not (name.split(".")[0] == "triton" or name == "torch.cuda"):
            continue
        for key, value in vars(module).items():
            state[name, key] = id(value)
            if isinstance(value, type):
                members = {(name, key, k): id(v) for k, v in list(vars(value).items())}
                state.update(m for m in members.items() if not m[0][2].startswith("__weakref"))
    driver = triton.runtime.driver
    state["driver"] = id(vars(driver)["_active"])
    return state


def run(source, **variables):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        env={**environment, **variables},
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.split()


def test_uninstalling_puts_back_every_attribute_and_the_environment():
    with emulator.emulated():  # imports all that a launch imports
        twice_kernel[(1,)](torch.ones(16), 16)
    before = state_of_everything()
    variable = os.environ.get("TRITON_INTERPRET")
    emulator.install()
    assert os.environ["TRITON_INTERPRET"] == "1"
    changed = {k for k, v in state_of_everything().items() if before.get(k) != v}
    assert ("triton.language.core", "range") in changed
    assert ("torch.cuda", "get_device_name") in changed
    twice_kernel[(1,)](torch.ones(16), 16)
    emulator.uninstall()
    assert state_of_everything() == before
    assert os.environ.get("TRITON_INTERPRET") == variable


def test_a_variable_that_was_set_is_set_again(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with emulator.emulated():
        assert os.environ["TRITON_INTERPRET"] == "1"
    assert os.environ["TRITON_INTERPRET"] == "0"


def test_installing_twice_is_installing_once():
    emulator.install()
    emulator.install()
    with emulator.emulated():
        pass
    twice_kernel[(1,)](torch.ones(16), 16)
    with pytest.raises(RuntimeError, match="installed with"):
        emulator.install(sanitize_overflow=True)
    emulator.uninstall()
    emulator.uninstall()


def test_a_launch_counts_and_an_error_inside_leaves_the_emulator_usable():
    with emulator.emulated():
        before = emulator.launches()
        x = torch.ones(16)
        twice_kernel[(1,)](x, 16)
        assert (emulator.launches() - before, x.sum().item()) == (1, 32)
        with pytest.raises(emulator.OutOfBounds):
            twice_kernel[(1,)](x, 32)
        twice_kernel[(1,)](x, 16)
        assert emulator.launches() - before == 3
    assert emulator.launches() - before == 3


def test_importing_the_emulator_imports_no_triton_and_no_torch():
    out = run("""
        import sys
        from lingspec.conformance import emulator
        print("triton" in sys.modules, "torch" in sys.modules, emulator.launches())
    """)
    assert out == ["False", "False", "0"]


def test_waiting_for_an_import_costs_nothing_until_triton_is_imported():
    out = run("""
        import os, sys
        from lingspec.conformance import emulator
        emulator.install_on_import(capability=(8, 0))
        emulator.install_on_import()
        print("triton" in sys.modules, os.environ["TRITON_INTERPRET"], len(sys.meta_path))
        import json
        import triton
        from triton.runtime.interpreter import InterpretedFunction
        print(isinstance(triton.jit(lambda x: x), InterpretedFunction))
        print(triton.runtime.driver.active.get_current_target().arch)
        print(type(triton.runtime.driver.active).__module__)
        emulator.uninstall()
        print("TRITON_INTERPRET" in os.environ)
    """)
    assert out[:2] == ["False", "1"]
    assert out[3:] == ["True", "80", "lingspec.conformance.emulator.device", "False"]


def test_waiting_can_be_called_off():
    out = run("""
        import os, sys
        from lingspec.conformance import emulator
        before = list(sys.meta_path)
        emulator.install_on_import()
        emulator.uninstall()
        print(sys.meta_path == before, "TRITON_INTERPRET" in os.environ)
    """)
    assert out == ["True", "False"]


def test_who_asks_about_the_device_is_told_of_an_emulated_one_but_torch_is_not():
    with emulator.emulated():
        driver = triton.runtime.driver.active
        target = driver.get_current_target()
        assert (target.backend, target.arch, target.warp_size) == ("cuda", 90, 32)
        assert driver.utils.get_device_properties(0)["max_shared_mem"] == 232448
        assert torch.cuda.get_device_name(0) == "emulated"
        assert torch.cuda.get_device_capability() == (9, 0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
    with emulator.emulated(capability=(8, 0)):
        assert triton.runtime.driver.active.get_current_target().arch == 80
        assert torch.cuda.get_device_properties(0).major == 8


@pytest.mark.parametrize(("index", "block"), [(None, 16), (0, 16), (1, 32), (2, 64), (4, 32)])
def test_the_chosen_configuration_runs(index, block):
    with emulator.emulated():
        emulator.select_config(index)
        x, count = torch.zeros(64), torch.zeros(1)
        tuned_kernel[lambda meta: (triton.cdiv(64, meta["BLOCK"]),)](x, count, 64)
        assert x.unique().tolist() == [block + 1], "and heuristics see its values"
        assert emulator.configs()["tuned_kernel"] == 3


def test_the_first_launch_for_a_key_zeroes_what_tuning_would():
    with emulator.emulated():
        x, count = torch.zeros(64), torch.full((1,), 7.0)
        for expected in (4, 8):
            tuned_kernel[(4,)](x, count, 64)
            assert count.item() == expected
        tuned_kernel[(4,)](x, count, 63)
        assert count.item() == 4


def test_pruning_hooks_and_static_assertions_choose_among_configurations():
    with emulator.emulated():
        x, count = torch.zeros(64), torch.zeros(1)
        pruned_kernel[(1,)](x, count, 40)
        assert x[:40].unique().tolist() == [64], "16 is pruned, 32 fails its assertion"
        assert count.item() == 100
        assert emulator.configs()["pruned_kernel"] == 2


def test_pruning_that_needs_a_device_leaves_every_configuration():
    with emulator.emulated():
        x = torch.zeros(1)
        emulator.select_config(1)
        deviceless_kernel[(1,)](x)
        assert x.item() == 32
        assert emulator.configs()["deviceless_kernel"] == 2
