"""A kernel's source, rewritten so that plain Python gives it the compiler's meaning.

In a kernel, ``range`` yields scalars of the language, ``and``, ``or``, ``not`` and chained
comparisons work on whole tiles, ``min`` and ``max`` promote, and an assigned number
becomes a scalar tensor. Line numbers stay, so a traceback points into the kernel.
"""

import ast
import builtins
import inspect
import operator
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

from .errors import Refused

_HELPER = "__emulator__"
_CALLS = {"range": "range", "min": "minimum", "max": "maximum"}
_OPERATORS = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


def whole(data: np.ndarray[Any, Any]) -> int:
    """A scalar, as Python has it."""
    return int(data.item())


def all_of(data: np.ndarray[Any, Any]) -> bool:
    """Whether every element is true."""
    return bool(data.all())


class Meaning:
    """What the rewritten source calls."""

    comparisons = tuple(_OPERATORS.values())
    combining = False  # whether a reduction's function runs, on tiles that stand for scalars
    waited = False  # since it was set: whether there was a `while`

    def __init__(self, semantic: Any) -> None:
        self.semantic = semantic

    def value(self, value: Any) -> Any:
        """Make a scalar tensor of an assigned number."""
        return self.semantic.to_tensor(value, False)

    def range(self, *bounds: Any) -> Iterator[Any]:
        """Yield scalars of the type that the bounds promote to."""
        scalars = [self.semantic.to_tensor(b) for b in bounds]
        dtype = scalars[0].dtype
        for scalar in scalars[1:]:
            dtype = self.semantic.integer_promote_impl(dtype, scalar.dtype)
        held = interpreter._get_np_dtype(dtype)
        ends = (self.semantic.builder.ask(s.handle, whole) for s in scalars)
        for i in builtins.range(*ends):
            yield tl.tensor(interpreter.TensorHandle(np.array([i], held), dtype), dtype)

    def minimum(self, *args: Any, **more: Any) -> Any:
        """Return ``min`` of constants, or the language's minimum if one is a tensor."""
        return self._fold(builtins.min, tl.minimum, args, more)

    def maximum(self, *args: Any, **more: Any) -> Any:
        """Return ``max``, likewise."""
        return self._fold(builtins.max, tl.maximum, args, more)

    @staticmethod
    def _fold(plain: Callable[..., Any], of_tensors: Any, args: Any, more: Any) -> Any:
        if not any(isinstance(a, tl.tensor) for a in args):
            return plain(*args, **more)
        result = args[0]
        for arg in args[1:]:
            result = of_tensors(result, arg, **more)
        return result

    def both(self, *parts: Callable[[], Any]) -> Any:
        """Return ``a and b``: constants short-circuit, tensors are combined."""
        return self._combine(parts, False, lambda a, b: a.logical_and(b))

    def either(self, *parts: Callable[[], Any]) -> Any:
        """Return ``a or b``, likewise."""
        return self._combine(parts, True, lambda a, b: a.logical_or(b))

    @staticmethod
    def _combine(parts: Any, decides: bool, join: Callable[[Any, Any], Any]) -> Any:
        result: Any = None
        value: Any = None
        for part in parts:
            value = part()
            if not isinstance(value, tl.tensor):
                if bool(value) is decides:
                    return value
            else:
                result = value if result is None else join(result, value)
        return value if result is None else result

    @staticmethod
    def negation(value: Any) -> Any:
        """Return ``not value``."""
        return value.__not__() if isinstance(value, tl.tensor) else not value

    def chain(self, first: Any, *links: Any) -> Any:
        """Return ``a < b < c``: each operand is evaluated once, each link combined."""
        held = [first]

        def link(index: int, operand: Callable[[], Any]) -> Any:
            left, right = held[-1], operand()
            held.append(right)
            return self.comparisons[index](left, right)

        return self.both(*[lambda pair=pair: link(*pair) for pair in links])

    @staticmethod
    def condition(value: Any) -> Any:
        """Return what an ``if`` or ``while`` branches on: a scalar."""
        if isinstance(value, tl.tensor) and value.numel.value != 1:
            shape = tuple(value.type.get_block_shapes())
            raise Refused(f"a tile of shape {shape} as a condition, expected a scalar")
        return value

    def turn(self, value: Any) -> Any:
        """Return what a ``while`` branches on."""
        self.waited = True
        return self.condition(value)

    def choice(self, test: Any, body: Callable[[], Any], orelse: Callable[[], Any]) -> Any:
        """Return ``body if test else orelse``, element by element in a reduction."""
        if Meaning.combining and isinstance(test, tl.tensor):
            return tl.where(test, body(), orelse())
        return body() if self.condition(test) else orelse()

    def check(self, condition: Any, message: Any = "") -> None:
        """Assert: every element of a tile must hold."""
        if isinstance(condition, tl.tensor):
            condition = self.semantic.builder.ask(condition.handle, all_of)
        assert condition, message


class _Rewriter(ast.NodeTransformer):
    def __init__(self, is_builtin: Callable[[str], bool]) -> None:
        self._is_builtin = is_builtin

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        node.value = _call("value", node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _CALLS and self._is_builtin(name):
            node.func = _helper(_CALLS[name])
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        _refuse_walrus(node)
        self.generic_visit(node)
        name = "both" if isinstance(node.op, ast.And) else "either"
        return _call(name, *(_later(value) for value in node.values))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return _call("negation", node.operand) if isinstance(node.op, ast.Not) else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) == 1 or not all(type(op) in _OPERATORS for op in node.ops):
            return node
        _refuse_walrus(node)
        known = list(_OPERATORS)
        links = [
            ast.Tuple([ast.Constant(known.index(type(op))), _later(operand)], ast.Load())
            for op, operand in zip(node.ops, node.comparators, strict=True)
        ]
        return _call("chain", node.left, *links)

    def visit_If(self, node: ast.If) -> ast.AST:
        return self._branch(node, "condition")

    def visit_While(self, node: ast.While) -> ast.AST:
        return self._branch(node, "turn")

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        _refuse_walrus(node)
        self.generic_visit(node)
        return _call("choice", node.test, _later(node.body), _later(node.orelse))

    def _branch(self, node: ast.If | ast.While, meaning: str) -> ast.AST:
        self.generic_visit(node)
        node.test = _call(meaning, node.test)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        self.generic_visit(node)
        message = [node.msg] if node.msg else []
        return ast.Expr(_call("check", node.test, *message))


def _refuse_walrus(node: ast.expr) -> None:
    """Refuse what would bind a name inside one of the functions that operands become."""
    if any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(node)):
        raise Refused(f"line {node.lineno} of a kernel: := inside an operand is not emulated")


def _helper(name: str) -> ast.expr:
    return ast.Attribute(ast.Name(_HELPER, ast.Load()), name, ast.Load())


def _call(name: str, *args: ast.expr) -> ast.expr:
    return ast.Call(_helper(name), list(args), [])


def _later(value: ast.expr) -> ast.expr:
    empty = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    return ast.Lambda(empty, value)


def rewritten(fn: types.FunctionType, meaning: Meaning) -> Callable[..., Any]:
    """Return ``fn`` with the compiler's meaning; its globals and closure stay its own.

    A function whose source cannot be read is returned as it is.
    """
    try:
        lines, first = inspect.getsourcelines(fn)
    except (OSError, TypeError):
        return fn
    tree = ast.parse(textwrap.dedent("".join(lines)))
    definition = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    definition.decorator_list = []
    own = {*fn.__code__.co_varnames, *fn.__code__.co_freevars, *fn.__globals__}
    definition.body = [_Rewriter(lambda name: name not in own).visit(n) for n in definition.body]

    cells = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
    cells[_HELPER] = types.CellType(meaning)
    outer = ast.FunctionDef(
        name="__outer__",
        args=ast.arguments(
            posonlyargs=[],
            args=[ast.arg(name) for name in cells],
            kwonlyargs=[],
            kw_defaults=[],
            defaults=[],
        ),
        body=[definition],
        decorator_list=[],
    )
    module = ast.fix_missing_locations(ast.Module([outer], []))
    ast.increment_lineno(module, first - 1)
    code = compile(module, inspect.getsourcefile(fn) or "<kernel>", "exec", dont_inherit=True)
    inner = _code_named(_code_named(code, "__outer__"), definition.name)
    closure = tuple(cells[name] for name in inner.co_freevars)
    copy = types.FunctionType(inner, fn.__globals__, fn.__name__, fn.__defaults__, closure)
    copy.__kwdefaults__ = fn.__kwdefaults__
    return copy


def _code_named(code: types.CodeType, name: str) -> types.CodeType:
    return next(
        const
        for const in code.co_consts
        if isinstance(const, types.CodeType) and const.co_name == name
    )
