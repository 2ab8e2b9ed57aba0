"""Answer the calls that `lingspec cases` wrote, in NumPy: rms_norm and moe_route.

Needs numpy and safetensors, and nothing of lingspec: python answer.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def rms_norm(x, weight, *, eps):
    y = weight * (x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps)))
    return (y,)


def moe_route(logits, bias, *, groups, top_groups, top_k, scaling):
    scores = (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    biased = scores + bias
    T, E = biased.shape
    of_group = biased.reshape(T, groups, E // groups)
    best = np.sort(of_group, axis=-1)[..., -2:].sum(-1)  # the two best of each group
    kept = np.argsort(-best, axis=-1, kind="stable")[:, :top_groups]
    inside = np.zeros((T, groups), bool)
    np.put_along_axis(inside, kept, True, axis=1)
    within = np.where(np.repeat(inside, E // groups, axis=1), biased, -np.inf)
    experts = np.argsort(-within, axis=-1, kind="stable")[:, :top_k].astype(np.int64)
    weights = np.take_along_axis(scores, experts, axis=1)
    if top_k > 1:
        weights = weights / (weights.sum(-1, keepdims=True) + np.float32(1e-20))
    return (weights * scaling).astype(np.float32), experts


OPS = {"rms_norm": rms_norm, "moe_route": moe_route}


def main(folder):
    told = json.loads((folder / "manifest.json").read_text())
    for call in told["calls"]:
        file = folder / "calls" / f"{call['id']}.safetensors"
        with np.errstate(all="ignore"):
            results = OPS[call["op"]](**load_file(file), **call["params"])
        answer = dict(zip(call["answer"], map(np.ascontiguousarray, results), strict=True))
        save_file(answer, file.with_suffix(".out.safetensors"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
