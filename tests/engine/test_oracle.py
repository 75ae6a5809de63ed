"""The C of a model, compiled in several ways, against npusim in every layer."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import npusim
from npusim import InferenceSession
from npusim.engine.oracle import compile_oracle, find_compiler, oracle_source
from npusim.engine.oracle import source as source_module
from npusim.errors import UnsupportedError, UsageError
from npusim.results.oracle import compare_with_oracle
from npusim.search.sampling import generate_inputs
from support import ROOT
from support.builders import GraphBuilder
from support.command_line import call, checked_json
from support.strategies import Network, networks

GOLDEN = sorted(path for path in (ROOT / "golden").glob("*.onnx") if "float" not in path.stem)
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-ffp-contract=off", "-shared", "-fPIC")

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")


def test_examples() -> None:
    import doctest

    from npusim.graph import c_expressions

    assert doctest.testmod(c_expressions).failed == 0
    assert doctest.testmod(source_module).failed == 0


def _differing(session: InferenceSession, flags: tuple[str, ...], samples: int = 10) -> list[str]:
    feeds = generate_inputs(session.program, samples)
    made = oracle_source(session, "model")
    with compile_oracle(made, session.program, flags=flags) as compiled:
        outputs, layers = compiled.run(feeds)
    held = session.held(feeds, made.layers)
    wrong = [name for name in made.layers if not np.array_equal(layers[name], held[name])]
    expected = session.run(None, feeds)
    wrong += [
        name
        for name, mine, theirs in zip(session.program.outputs, outputs, expected, strict=True)
        if not np.array_equal(mine, theirs)
    ]
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_every_layer_of_a_model_is_equal(path: Path, level: str) -> None:
    assert _differing(InferenceSession(str(path)), (*STRICT, level)) == []


@pytest.mark.parametrize("path", GOLDEN[:3], ids=lambda path: path.stem)
def test_nothing_relies_on_how_narrow_types_wrap(path: Path) -> None:
    session = InferenceSession(str(path))
    made = oracle_source(session, "model")
    feeds = generate_inputs(session.program, 6)
    with compile_oracle(made, session.program, flags=(*STRICT, "-DNPUSIM_S8=int16_t", "-DNPUSIM_U8=uint16_t")) as compiled:
        # the hook hands out 16-bit values there, so that only outputs are compared
        outputs, _ = compiled.run(feeds, layers=False)
    for mine, theirs in zip(outputs, session.run(None, feeds), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
@settings(max_examples=40)
@given(networks())
def test_random_networks(network: Network) -> None:
    assert _differing(InferenceSession(network.model), (*STRICT, "-O1"), 4) == []


MAIN = """
#include <stdio.h>
#include "model.h"
static float given[MODEL_INPUT_SIZE], made[MODEL_OUTPUT_SIZE];
static void hook(void *context, uint_least16_t layer, const void *values, uint_least32_t count, enum npusim_type type)
{
    (void)context; (void)layer; (void)values; (void)count; (void)type;
}
int main(void)
{
    while (fread(given, sizeof given, 1, stdin) == 1) {
        model_run(given, made, hook, 0);
        fwrite(made, sizeof made, 1, stdout);
    }
    return 0;
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_sanitizers_find_nothing(path: Path, tmp_path: Path) -> None:
    session = InferenceSession(str(path))
    made = oracle_source(session, "model")
    for name, text in (("model.h", made.header), ("model.c", made.source), ("main.c", MAIN)):
        (tmp_path / name).write_text(text)
    flags = ["-std=c99", "-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    built = subprocess.run(
        [str(find_compiler()), *flags, "-o", "run", "model.c", "main.c"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot find" in built.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    feeds = generate_inputs(session.program, 12)
    (given_name,) = feeds
    done = subprocess.run([str(tmp_path / "run")], input=feeds[given_name].tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    (expected,) = session.run(None, feeds)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32).reshape(expected.shape), expected)


def test_the_memory_of_tensors_that_do_not_live_together_is_shared() -> None:
    session = InferenceSession(str(GOLDEN[-1]))
    program = session.program
    every = sum(int(np.prod(program.tensors[step.tensors[-1]].shape)) for step in program.steps)
    made = oracle_source(session)
    assert made.arena_bytes < every
    lint = npusim.lint(str(GOLDEN[-1]), "f28p55x")
    assert made.arena_bytes <= (lint.totals.peak_bytes or 0)


def test_two_models_link_together_and_use_no_library(tmp_path: Path) -> None:
    for name, path in (("one", GOLDEN[0]), ("two", GOLDEN[1])):
        made = oracle_source(InferenceSession(str(path)), name)
        (tmp_path / f"{name}.h").write_text(made.header)
        (tmp_path / f"{name}.c").write_text(made.source)
        included = set(re.findall(r"#include\s+(\S+)", made.header + made.source))
        assert included == {"<stdint.h>", f'"{name}.h"'}
        assert not re.search(
            r"\b(malloc|free|memcpy|memset|printf|floorf|double)\b", re.sub(r"/\*.*?\*/", "", made.source, flags=re.S)
        )
    (tmp_path / "main.c").write_text(
        '#include "one.h"\n#include "two.h"\nint main(void) { return (int)(one_layer_names[0] == two_layer_names[0]); }\n'
    )
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    subprocess.run([str(find_compiler()), *flags, "-o", "run", "main.c", "one.c", "two.c"], cwd=tmp_path, check=True)
    assert subprocess.run([str(tmp_path / "run")], check=False).returncode == 0


def test_elements_of_several_tensors_are_put_side_by_side_along_any_axis() -> None:
    graph = GraphBuilder((1, 12, 3, 2))
    codes = graph.input_stage([0] * 12, [1] * 12, [0] * 12)
    other = graph.convolution(codes, np.full((12, 1, 1, 1), 3), np.zeros(12), np.ones(12), np.ones(12), (-128, 127), group=12)
    joined = [graph.node("Concat", codes, other, axis=axis) for axis in (1, 2)]
    padded = graph.node("Pad", other, graph.constant([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
    session = InferenceSession(graph.model(*joined, graph.node("Transpose", padded, perm=[0, 2, 3, 1])))
    assert _differing(session, (*STRICT, "-O1")) == []


def test_floats_whose_order_is_free_are_refused_by_name() -> None:
    graph = GraphBuilder((1, 2, 4, 1))
    codes = graph.input_stage([0, 0], [1, 1], [0, 0])
    left = graph.node("Conv", codes, graph.constant(np.full((2, 2, 3, 1), 0.3)), kernel_shape=[3, 1])
    with pytest.raises(UnsupportedError, match=r"Conv\) has no C"):
        oracle_source(InferenceSession(graph.model(left)))


def test_the_command_writes_a_folder_whole(tmp_path: Path) -> None:
    target = tmp_path / "oracle"
    done = call("oracle", GOLDEN[-1], "-o", target, "--name", "vibration", "--json")
    found = checked_json("oracle", done)
    assert done.code == 0
    assert sorted(path.name for path in target.iterdir()) == sorted(found["files"]) == ["vibration.c", "vibration.h"]
    assert found["totals"]["layers"] == len(found["layers"])
    assert call("oracle", GOLDEN[-1], "-o", target).code == 2
    assert call("oracle", GOLDEN[-1], "-o", target, "--force").code == 0


def test_verify_compiles_and_compares() -> None:
    done = call("verify", GOLDEN[-1], "--samples", 8, "--oracle", "--json")
    found = checked_json("verify", done)
    assert found["oracle"]["mismatches"] == 0
    assert found["oracle"]["elements"] > 0
    assert "C source compiled by" in call("verify", GOLDEN[-1], "--samples", 4, "--oracle").out


def test_a_wrong_compiler_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    session = InferenceSession(str(GOLDEN[-1]))
    made = source_module._Writer.write

    def broken(self: source_module._Writer) -> source_module.OracleSource:
        from dataclasses import replace

        found = made(self)
        return replace(found, source=found.source.replace(" >> shift", " >> (shift - 1)", 1))

    monkeypatch.setattr(source_module._Writer, "write", broken)
    opinion = compare_with_oracle(session, generate_inputs(session.program, 8))
    assert opinion.mismatches > 0
    assert opinion.first is not None


def test_without_a_compiler_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    session = InferenceSession(str(GOLDEN[-1]))
    with pytest.raises(UsageError, match="there is no C compiler"):
        compile_oracle(oracle_source(session), session.program)
