"""A device for those who ask about one: it answers like an H100 and is called "emulated".

Kernel libraries ask Triton's driver and torch.cuda at import and pick tile sizes from the
answers. torch's own code still sees the machine as it is, and ``is_available`` is not
touched: tensors stay where they are.
"""

import sys
import types
from collections.abc import Callable
from typing import Any

import torch

_SHARED_MEMORY = 232448
_PROPERTIES = {
    "max_shared_mem": _SHARED_MEMORY,
    "max_num_regs": 65536,
    "multiprocessor_count": 132,
    "warpSize": 32,
    "sm_clock_rate": 1980000,
    "mem_clock_rate": 2619000,
    "mem_bus_width": 5120,
}


class _Utils:
    @staticmethod
    def get_device_properties(device: int) -> dict[str, int]:
        return dict(_PROPERTIES)


class Driver:
    """Answers what Triton's CUDA driver answers; nothing can be compiled or timed with it."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.utils = _Utils()

    @classmethod
    def is_active(cls) -> bool:
        return True

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def set_current_device(self, device: int) -> None:
        """Accept any device; there is one."""

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_device_interface(self) -> Any:
        return torch.cuda

    def get_empty_cache_for_benchmark(self) -> torch.Tensor:
        return torch.empty(0, dtype=torch.int32)

    def clear_cache(self, cache: torch.Tensor) -> None:
        """Do nothing: there is no cache to clear."""

    def get_benchmarker(self) -> Callable[..., list[float]]:
        def run_once(kernel_call: Callable[[], Any], **_: Any) -> list[float]:
            kernel_call()
            return [1.0, 1.0, 1.0]

        return run_once


def cuda_answers(capability: tuple[int, int]) -> dict[str, Callable[..., Any]]:
    """Return what torch.cuda answers to code outside torch while the emulator is on."""
    major, minor = capability
    properties = types.SimpleNamespace(
        name="emulated",
        major=major,
        minor=minor,
        total_memory=80 * 2**30,
        multi_processor_count=_PROPERTIES["multiprocessor_count"],
        warp_size=32,
        max_threads_per_multi_processor=2048,
        regs_per_multiprocessor=_PROPERTIES["max_num_regs"],
        shared_memory_per_block=49152,
        shared_memory_per_block_optin=_SHARED_MEMORY,
        shared_memory_per_multiprocessor=233472,
        L2_cache_size=50 * 2**20,
        gcnArchName="",
    )
    answers: dict[str, Any] = {
        "device_count": 1,
        "current_device": 0,
        "get_device_name": "emulated",
        "get_device_capability": capability,
        "get_device_properties": properties,
    }
    return {name: _unless_torch_asks(name, answer) for name, answer in answers.items()}


def _unless_torch_asks(name: str, answer: Any) -> Callable[..., Any]:
    original = getattr(torch.cuda, name)

    def ask(*args: Any, **kwargs: Any) -> Any:
        asker = sys._getframe(1).f_globals.get("__name__", "")
        if asker == "torch" or asker.startswith("torch."):
            return original(*args, **kwargs)
        return answer

    return ask
