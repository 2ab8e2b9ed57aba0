"""Candidates that are wrong in one dtype, as the target ``dtypes:NAME``."""

from candidates import right

from lingspec.conformance import implements

PROFILE = {"float32": "fp32", "bfloat16": "fp32"}
seen = set()


@implements("lightning_attention", profile=PROFILE)
def of_itself(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    return _scaled(q.element_size() == 2, q, k, v, log_decay, scale, initial_state, cu_seqlens)


@implements("lightning_attention", profile=PROFILE)
def after_another(q, k, v, log_decay, *, scale, initial_state=None, cu_seqlens=None):
    seen.add(q.dtype)
    wrong = q.element_size() == 2 and len(seen) > 1
    return _scaled(wrong, q, k, v, log_decay, scale, initial_state, cu_seqlens)


def _scaled(wrong, q, k, v, log_decay, scale, state, ends):
    by = 1.1 if wrong else 1
    return right(q, k, v, log_decay, scale=by * scale, initial_state=state, cu_seqlens=ends)
