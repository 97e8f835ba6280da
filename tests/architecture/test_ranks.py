"""Rank is data: no module asks whether it is in 2D or 3D, except the two that may spell the numbers."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "boxel"
RANKS = {2, 3, 4, 5}
DICOM = ("datasets/dicom_", "export/dicom_", "export/formats/dicom_")  # its objects differ for images and volumes
MAY_COMPARE = ("nn/nd.py", "io.py", "io/", "datasets/formats/", *DICOM)
MAY_NAME = (*MAY_COMPARE, "recipes/", "experiments/")  # recipes are tables of rank-dependent numbers
RANK_NAMES = {"ndim", "d", "rank", "num_axes", "spatial_dims"}
SEQUENCES = {
    "shape",
    "spacing",
    "size",
    "patch_size",
    "stride",
    "strides",
    "lower",
    "upper",
    "origin",
    "axes",
}


def modules(*, exempt: tuple[str, ...]) -> list:
    paths = {path.relative_to(SOURCE).as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}
    return [pytest.param(path, id=name) for name, path in paths.items() if not name.startswith(exempt)]


def is_rank(node: ast.AST) -> bool:
    """Whether this counts axes: `x.ndim`, `ndim`, `x.dim()`, `len(x.shape)`, or one of them minus 2."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name) if name in RANK_NAMES:
            return True
        case ast.Call(func=ast.Attribute(attr="dim"), args=[]):
            return True
        case ast.Call(func=ast.Name(id="len"), args=[ast.Attribute(attr=name) | ast.Name(id=name)]):
            return name in SEQUENCES
        case ast.BinOp(left=left, right=right):
            return is_rank(left) or is_rank(right)
    return False


def spells_a_rank(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=value):
            return type(value) is int and value in RANKS
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            return any(map(spells_a_rank, elements))
    return False


def rank_comparisons(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=others):
                sides = [left, *others]
                compares = any(map(is_rank, sides)) and any(map(spells_a_rank, sides))
            case ast.Match(subject=subject):
                compares = is_rank(subject)
            case ast.Subscript(value=ast.Dict() | ast.Tuple() | ast.List(), slice=index):
                compares = is_rank(index)
            case _:
                compares = False
        if compares:
            found.append(f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}")
    return found


def twins(tree: ast.AST) -> list[str]:
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [node.name for node in ast.walk(tree) if isinstance(node, named)]
    return [name for name in names if re.search(r"(^|_)[23]d(_|$)|[a-z0-9][23]D", name)]


@pytest.mark.parametrize("path", modules(exempt=MAY_COMPARE))
def test_no_module_compares_a_rank(path):
    found = rank_comparisons(ast.parse(path.read_text()))
    assert not found, f"look the layer up in nn/nd.py, or read the rank from a shape: {found}"


@pytest.mark.parametrize("path", modules(exempt=MAY_NAME))
def test_no_function_is_for_one_rank_only(path):
    found = twins(ast.parse(path.read_text()))
    assert not found, f"one function for every rank instead of {found}"


@pytest.mark.parametrize(
    "code",
    [
        "if x.ndim == 3: pass",
        "y = a if ndim > 2 else b",
        "if x.dim() - 2 != 2: pass",
        "if len(x.shape) in (2, 3): pass",
        "y = {2: a, 3: b}[ndim]",
        "match ndim:\n    case 2: pass",
    ],
)
def test_branches_on_the_rank_are_recognised(code):
    assert rank_comparisons(ast.parse(code))


@pytest.mark.parametrize("code", ["if x.ndim != y.ndim: pass", "if len(boxes) == 2: pass", "y = CONV[ndim]"])
def test_other_comparisons_are_not_mistaken_for_ranks(code):
    assert not rank_comparisons(ast.parse(code))


def test_names_of_twins_are_recognised():
    tree = ast.parse("def nms_2d(): ...\ndef to_3d_box(): ...\nclass Anchors3D: ...\ndef head(): ...")
    assert twins(tree) == ["nms_2d", "to_3d_box", "Anchors3D"]
