"""Compiles, without a GPU, what the kernels would launch on an H100; prints what came out as JSON.

Run by `test_compiles.py` in a process of its own: here Triton compiles, there it interprets.
"""

import importlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

SCAN = importlib.import_module("lingspec.kernels._scan")
DECODE = importlib.import_module("lingspec.kernels.lightning_decode")
POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
SCANS = ("forward", "dq", "dk", "dv")


def build(kernel, signature, constants, aligned, warps, stages):
    names = kernel.arg_names
    for name in constants:
        signature[name] = "constexpr"
    source = ASTSource(
        fn=kernel,
        signature={name: signature[name] for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": warps, "num_stages": stages}
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return {
        **resources(built.asm["cubin"]),
        "shared": built.metadata.shared,
        "wgmma": built.asm["ptx"].count("wgmma.mma_async"),
        "mma_sync": len(re.findall(r"\bmma\.sync", built.asm["ptx"])),
        "cp_async": built.asm["ptx"].count("cp.async.cg"),
    }


def resources(cubin: bytes) -> dict[str, int]:
    """Registers and stack bytes a thread, by cuobjdump; the kernels' only stack is spills."""
    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [tool, "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", text)
    return dict(zip(("registers", "stack", "local"), map(int, found.groups()), strict=True))


def strides(names, K, V):
    """Types of strides as a launch finds them: contiguous tensors of 16-byte aligned rows."""
    found = {n: "i64" for n in names if re.fullmatch(r"[a-z]+_[A-Z]", n)}
    return found, (list(found) if K % 16 == 0 and V % 16 == 0 else [])


def build_scan(scan, K, V, dtype, packed):
    if scan in ("dq", "dk"):
        K, V = V, K
    kernel = SCAN.scan
    signature, aligned = strides(kernel.arg_names, K, V)
    for name in ("q_ptr", "k_ptr", "v_ptr", "o_ptr"):
        signature[name] = POINTERS[dtype]
    signature |= {"log_decay_ptr": "*fp32", "initial_ptr": "*fp32", "final_ptr": "*fp32"}
    signature |= {"cu_seqlens_ptr": "*i32" if packed else "*i64"}
    signature |= {"read_scale": "fp32", "write_scale": "fp32", "T": "i32", "H": "i32"}
    options = SCAN.launch_options(K, V, dtype)
    warps, stages = options.pop("num_warps"), options.pop("num_stages")
    has_final = scan in ("forward", "dv")
    unit = ("q_K", "k_K", "v_V", "o_V", "final_V", "initial_V" if has_final else "initial_K")
    constants = dict.fromkeys(unit, 1)
    constants |= {"K": K, "V": V, "dtype": SCAN._TRITON_DTYPES[dtype], "PACKED": packed}
    constants |= {"REVERSED": scan in ("dk", "dv"), "HAS_INITIAL": True, "HAS_FINAL": has_final}
    constants |= options
    aligned = [n for n in aligned if n not in unit]
    aligned += [n for n in signature if n.endswith("_ptr")]
    return build(kernel, signature, constants, aligned, warps, stages)


def build_step(K, V, dtype):
    kernel = DECODE._step
    signature, aligned = strides(kernel.arg_names, K, V)
    for name in ("q_ptr", "k_ptr", "v_ptr", "o_ptr"):
        signature[name] = POINTERS[dtype]
    signature |= {"log_decay_ptr": "*fp32", "pool_ptr": "*fp32", "slots_ptr": "*i64"}
    signature |= {"scale": "fp32", "H": "i32"}
    options = DECODE.launch_options(K, V)
    warps = options.pop("num_warps")
    unit = ("q_K", "k_K", "v_V", "pool_V")
    constants = {**dict.fromkeys(unit, 1), "K": K, "V": V, **options}
    aligned = [n for n in aligned if n not in unit]
    aligned += [n for n in signature if n.endswith("_ptr")]
    return build(kernel, signature, constants, aligned, warps, 1)


def main() -> None:
    for line in sys.stdin:
        what, K, V, dtype, packed = json.loads(line)
        arguments = (K, V, getattr(torch, dtype))
        built = build_step(*arguments) if what == "step" else build_scan(what, *arguments, packed)
        print(json.dumps({"what": what, "K": K, "V": V, "dtype": dtype, "packed": packed, **built}))


if __name__ == "__main__":
    main()
