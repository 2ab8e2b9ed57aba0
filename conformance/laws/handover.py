"""Cut anywhere: the state that one call hands to the next is the state of that token."""

from lingspec.conformance.case import Call
from lingspec.conformance.contract import Contract
from lingspec.conformance.laws.calls import index_of, lengths_of, repacked, select, size_of, spans
from lingspec.conformance.session import Session

SENTENCE = "cut anywhere"


def declared(contract: Contract) -> bool:
    """Ops that carry a state along an axis."""
    return contract.algebra.stateful is not None


def check(session: Session) -> None:
    """Whole, then head and tail with the candidate's own state between them."""
    contract, whole = session.contract, session.authority
    letter = contract.algebra.stateful
    assert letter is not None
    there = contract.returned(session.call)
    states = {out_of: into for into, out_of in contract.algebra.state if out_of in there}
    session.expect("authority", session.run(), whole)

    cut = session.case.cut
    head, first, tail, second = _cut(session, letter, cut)
    handed = session.run(head)
    at = _place(session, letter, cut)
    want = session.judged(head)
    text = f"the state handed over at {at} is not the state there"
    if not session.expect("handover", handed, {name: want[name] for name in states}, text):
        return
    carried = session.carried(handed, want)
    between = {into: carried[name].to(session.dtype_of(name)) for name, into in states.items()}
    resumed = session.run(tail.with_tensors(**between))
    expected = {name: whole[name] for name in states}
    session.expect("handover", resumed, expected, f"after a cut at {at}")
    for name in contract.returned(session.call):
        axis = index_of(contract, name, letter)
        if axis is None:
            continue
        for part, tokens, results in (("before", first, handed), ("after", second, resumed)):
            limits = whole[name][(slice(None),) * axis + (tokens,)]
            session.expect("handover", results, {name: limits}, f"{part} a cut at {at}")


def _cut(session: Session, letter: str, cut: int) -> tuple[Call, list[int], Call, list[int]]:
    """Head and tail calls, and the tokens of each."""
    contract, call = session.contract, session.call
    lengths = lengths_of(contract, call)
    if lengths is not None:
        ends = [(a, a + cut % (b - a + 1), b) for a, b in spans(lengths)]
        head, first = repacked(contract, call, {letter: [(a, c) for a, c, _ in ends]})
        tail, second = repacked(contract, call, {letter: [(c, b) for _, c, b in ends]})
        return head, first[letter], tail, second[letter]
    T = size_of(contract, call, letter)
    c = cut % (T + 1)
    first_part, second_part = list(range(c)), list(range(c, T))
    head = select(contract, call, letter, slice(0, c))
    return head, first_part, select(contract, call, letter, slice(c, T)), second_part


def _place(session: Session, letter: str, cut: int) -> str:
    lengths = lengths_of(session.contract, session.call)
    if lengths is not None:
        return "tokens " + ", ".join(str(cut % (n + 1)) for n in lengths) + " of the sequences"
    T = size_of(session.contract, session.call, letter)
    return f"token {cut % (T + 1)} of {T}"
