"""One dump is read the same way by golden check and by compare --against: tensors, sets, values, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npusim import InferenceSession
from npusim.errors import InputError, NpusimError
from npusim.files.dumps import read_dump
from npusim.files.dumps.dump import DumpArray
from npusim.golden.check import Check, check_dump, expected_of_model
from npusim.verification import ExactComparison, compare_with_dump
from npusim.verification.dump_reading import as_tensor, in_layout, partial_match
from support.builders import GraphBuilder
from support.dump_files import intel_hex
from support.golden_check_models import MODELS, feeds_for, session_for

FORMS = ("lines", "unsigned", "hex8", "hex16", "c", "npy", "npz", "bin", "words", "ihex", "named")
FAULTS = ("none", "one value", "every value", "cut", "doubled", "channels last")


def write(folder: Path, form: str, name: str, values: np.ndarray) -> Path:
    """A dump of codes in a form."""
    flat = values.reshape(-1).astype(np.int64)
    width = max(values.dtype.itemsize, 1)
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    texts = {
        "lines": "\n".join(map(str, flat)),
        "unsigned": " ".join(str(code % 2 ** (8 * width)) for code in flat),
        "hex8": " ".join(f"0x{code % 2 ** (8 * width):0{2 * width}X}" for code in flat),
        "hex16": " ".join(f"0x{code % 2**16:04X}" for code in flat),
        "c": f"int8_t buffer[{flat.size}] = {{{', '.join(map(str, flat))}}};",
        "named": f"int32_t {''.join(c if c.isalnum() else '_' for c in name)}[{flat.size}] = {{{', '.join(map(str, flat))}}};",
        "ihex": intel_hex(raw),
    }
    suffix = {"npy": ".npy", "npz": ".npz", "bin": ".bin", "words": ".bin", "c": ".c", "named": ".c", "ihex": ".hex"}
    path = folder / f"dump{suffix.get(form, '.txt')}"
    if form == "npy":
        np.save(path, values)
    elif form == "npz":
        np.savez(path, **{name: values})
    elif form in ("bin", "words"):
        path.write_bytes(raw if form == "bin" else flat.astype("<i2").tobytes())
    else:
        path.write_text(texts[form], encoding="ascii")
    return path


def damaged(values: np.ndarray, fault: str) -> np.ndarray:
    found = values.copy()
    match fault:
        case "one value":
            found.reshape(-1)[-1] ^= 1
        case "every value":
            found ^= 1
        case "cut":
            return found.reshape(-1)[:-1]
        case "doubled":
            return np.concatenate([found, found])
        case "channels last":
            return np.moveaxis(found, 1, -1)
    return found


def both(
    name: str, path: Path, tensor: str | None, layout: str
) -> tuple[tuple[Check, ...] | NpusimError, ExactComparison | NpusimError]:
    session, feeds = session_for(name), feeds_for(name)
    found: list = []
    for ask in (
        lambda: check_dump(
            expected_of_model(session, feeds).expectation, read_dump(path), tensor=tensor, layout=layout, explained=False
        ),
        lambda: compare_with_dump(session, feeds, read_dump(path), tensor=tensor, layout=layout),
    ):
        try:
            found.append(ask())
        except NpusimError as error:
            found.append(error)
    return found[0], found[1]


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_golden_check_and_compare_read_a_dump_alike(tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(MODELS))
    session = session_for(name)
    tensor = data.draw(st.sampled_from([step.tensors[-1] for step in session.program.steps]))
    codes = session.trace(feeds_for(name), [tensor])[tensor]
    codes = codes if codes.dtype.kind in "iu" else np.zeros(codes.shape, np.int8)
    part = codes if data.draw(st.booleans()) else codes[:1]
    path = write(tmp_path, data.draw(st.sampled_from(FORMS)), tensor, damaged(part, data.draw(st.sampled_from(FAULTS))))
    asked = data.draw(st.sampled_from([None, tensor]))
    layout = data.draw(st.sampled_from(["nchw", "nhwc"]))
    checks, compared = both(name, path, asked, layout)
    if isinstance(checks, NpusimError) or isinstance(compared, NpusimError):
        assert type(checks) is type(compared)
        assert str(checks) == str(compared)
        return
    assert {check.tensor for check in checks} == {row.tensor for row in compared.layers}
    rows = {row.tensor: row for row in compared.layers}
    for check in checks:
        row = rows[check.tensor]
        assert (check.layer or check.tensor, check.kind, check.array) == (row.name, row.kind, row.other_tensor)
        assert (check.values, check.differing, check.largest) == (row.elements, row.mismatches, row.largest)
        assert (check.first is None) == (row.first is None)
        if check.first is not None and row.first is not None:
            assert check.first.set_index == row.first.sample
            if layout == "nhwc":
                continue  # golden check names the first in the order of the dump, compare in that of the graph
            assert check.first.index == row.first.index
            assert (check.first.wanted, check.first.seen) == (row.first.value, row.first.other)
    assert bool(compared) == all(checks)
    assert {check.note for check in checks if check.note} <= set(compared.notes)


def test_a_result_of_a_layer_is_found_by_its_size(tmp_path: Path) -> None:
    session = session_for("vibration_w8")
    layer = next(step for step in session.program.layers if step.output not in session.program.outputs)
    codes = session.trace(feeds_for("vibration_w8"), [layer.output])[layer.output]
    checks, compared = both("vibration_w8", write(tmp_path, "lines", "", codes), None, "nchw")
    assert not isinstance(checks, NpusimError)
    assert not isinstance(compared, NpusimError)
    assert [check.tensor for check in checks] == [layer.output]
    assert all(checks)
    assert compared.ok


def test_several_tensors_of_one_size_are_refused_unless_one_has_the_values(tmp_path: Path) -> None:
    session = session_for("residual")
    results = [step.output for step in session.program.layers]
    trace = session.trace(feeds_for("residual"), results)
    sizes = [trace[name].size for name in results]
    twice = next(name for name in results if sizes.count(trace[name].size) > 1)
    checks, compared = both("residual", write(tmp_path, "lines", "", trace[twice]), None, "nchw")
    assert not isinstance(checks, NpusimError)
    assert not isinstance(compared, NpusimError)
    assert [check.tensor for check in checks] == [row.tensor for row in compared.layers] == [twice]
    wrong = damaged(trace[twice], "one value")
    for found in both("residual", write(tmp_path, "lines", "", wrong), None, "nchw"):
        assert isinstance(found, InputError)
        assert "name the one with --tensor" in str(found)


def test_axes_of_a_numpy_file_are_not_reordered(tmp_path: Path) -> None:
    session = session_for("vibration_w8")
    layer = session.program.layers[0]
    codes = session.trace(feeds_for("vibration_w8"), [layer.output])[layer.output]
    path = write(tmp_path, "npy", "", np.moveaxis(codes, 1, -1))
    for found in both("vibration_w8", path, layer.output, "nchw"):
        with pytest.raises(InputError, match="give the order of its axes with --layout"):
            raise found if isinstance(found, NpusimError) else AssertionError
    checks, compared = both("vibration_w8", path, layer.output, "nhwc")
    assert isinstance(checks, tuple)
    assert all(checks)
    assert isinstance(compared, ExactComparison)
    assert compared.ok


def test_codes_printed_as_unsigned_are_read_by_both(tmp_path: Path) -> None:
    codes = session_for("vibration_w8").trace(feeds_for("vibration_w8"), ["output"])["output"]
    checks, compared = both("vibration_w8", write(tmp_path, "unsigned", "", codes), None, "nchw")
    assert isinstance(checks, tuple)
    assert isinstance(compared, ExactComparison)
    assert all(checks)
    assert compared.ok
    assert checks[0].note == "the numbers are unsigned ones of 8 bits"
    assert checks[0].note in compared.notes


def test_two_readings_that_both_fit_are_named_and_none_is_taken(tmp_path: Path) -> None:
    """Sixteen bytes are the 8-bit outputs of four sets, or the 32-bit ones of one: what is right has no say."""
    session = session_for("vibration_w8")
    feeds = {name: values[:4] for name, values in feeds_for("vibration_w8").items()}
    path = tmp_path / "a.bin"
    for codes in (np.array([5, 0, 0, 0] * 4, np.int8), np.array([5, 7, 9, 11], np.int32)):
        path.write_bytes(codes.tobytes())
        with pytest.raises(InputError, match="as 4 sets or as 1 set where each value takes 32 bits; say the set with --set"):
            compare_with_dump(session, feeds, read_dump(path))
    path.write_bytes(np.array([5, 7, 9, 1100], np.int32).tobytes())
    assert compare_with_dump(session, feeds, read_dump(path)).samples == 4


def test_where_the_right_values_lie_in_a_dump_of_another_length() -> None:
    """Values as they are, bytes as their low eight bits; of floats no bytes are looked for."""
    right = np.array([-1, 5, -128, 127, 0])
    low = right & 255
    assert "the first 3 right values" in partial_match(DumpArray("", right[:3], "line 1"), right)
    assert "the last 2 right values" in partial_match(DumpArray("", right[3:], "line 1"), right)
    for start in range(4):
        around = np.concatenate([np.full(start, 9), right, np.full(3 - start, 9)])
        assert f"from value {start} on" in partial_match(DumpArray("", around, "line 1"), right)
        held = np.concatenate([np.full(start, 9), low, np.full(3 - start, 9)]).astype(np.uint8)
        assert f"from byte {start} on" in partial_match(DumpArray("", held, "byte 0", raw=True), right)
        held[start] ^= 1
        assert "right values" not in partial_match(DumpArray("", held, "byte 0", raw=True), right)
        assert "right values" not in partial_match(DumpArray("", held, "byte 0", raw=True), right.astype(np.float32))


def test_arrays_whose_names_say_nothing_are_found_by_their_sizes(tmp_path: Path) -> None:
    """Two of them are tensors of the model, the third is something else and is left alone."""
    session = session_for("vibration_w8")
    names = [session.program.layers[0].output, session.program.resolve(session.program.outputs[0])]
    trace = session.trace(feeds_for("vibration_w8"), names)
    assert trace[names[0]].size != trace[names[1]].size
    np.savez(tmp_path / "d.npz", first=trace[names[0]], second=trace[names[1]], other=np.arange(5))
    checks, compared = both("vibration_w8", tmp_path / "d.npz", None, "nchw")
    assert not isinstance(checks, NpusimError)
    assert not isinstance(compared, NpusimError)
    assert sorted(check.tensor for check in checks) == sorted(row.tensor for row in compared.layers) == sorted(names)
    assert all(checks)
    assert compared.ok


def test_axes_of_one_element_in_a_numpy_file_change_nothing(tmp_path: Path) -> None:
    session = session_for("vibration_w8")
    name = session.program.resolve(session.program.outputs[0])
    values = session.trace(feeds_for("vibration_w8"), [name])[name]
    np.save(tmp_path / "d.npy", values.reshape(len(values), 1, -1, 1))
    checks, compared = both("vibration_w8", tmp_path / "d.npy", None, "nchw")
    assert not isinstance(checks, NpusimError)
    assert not isinstance(compared, NpusimError)
    assert all(checks)
    assert compared.ok


@pytest.mark.parametrize("shape", [(5,), (3, 2), (3, 2, 2)])
def test_a_tensor_in_the_order_of_a_dump_and_back(shape: tuple[int, ...]) -> None:
    values = np.arange(2 * int(np.prod(shape))).reshape(2, *shape)
    for layout in ("nchw", "nhwc"):
        flat = in_layout(values, layout)
        assert as_tensor(flat, shape, layout).tolist() == values.tolist()
        if layout == "nhwc" and len(shape) > 1:
            assert flat[1, : shape[0]].tolist() == values[(1, slice(None), *(0,) * (len(shape) - 1))].tolist()
        else:
            assert flat.tolist() == values.reshape(2, -1).tolist()


def test_features_of_a_size_that_no_further_layer_has_are_refused(tmp_path: Path) -> None:
    """Files stand in the order of the network: behind the last layer of 3 values there is none."""
    graph = GraphBuilder((1, 4))
    codes = graph.input_stage([0.5] * 4, [16] * 4, [2] * 4)
    layer = graph.fully_connected(codes, np.arange(12).reshape(4, 3), np.arange(3), [1] * 3, [3] * 3, (-128, 127))
    session = InferenceSession(graph.model(layer))
    for number in range(2):
        (tmp_path / f"out_layer{number}.txt").write_text("# layer (shape [1, 3]),\\\n0,\\\n0,\\\n0,\\\n")
    with pytest.raises(InputError, match="no layer behind that of the array before it has as many"):
        compare_with_dump(session, {"input": np.zeros((1, 4), np.float32)}, read_dump(tmp_path))
