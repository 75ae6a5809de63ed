"""Text of PLiNIO's and DORY's features: read, written, and the layers of DORY's own examples."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import npusim
import support
from npusim.errors import InputError
from npusim.files.dumps import channels_first, feature_text, read_dump

NETWORKS = [] if support.FORMATS is None else sorted(path.name for path in support.FORMATS.glob("public/public_dory_*"))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data())
def test_what_is_written_is_read_again(tmp_path_factory, shape, data):
    count = int(np.prod(shape))
    values = np.array(data.draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=count, max_size=count))).reshape(shape)
    path = tmp_path_factory.mktemp("features") / "out_layer0.txt"
    path.write_text(feature_text("relu", values))
    (array,) = read_dump(path).arrays
    assert (array.name, array.label) == ("out_layer0", "relu")
    assert channels_first(array.values, shape).tolist() == values.tolist()


def test_values_stand_channels_last():
    assert feature_text("x", np.arange(12).reshape(2, 3, 2)).split("\n")[1:5] == ["0", "6", "1", "7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# x (shape [1, 1, 2])\n1.5\n", "line 2.*'1.5' is not one whole number"),
        ("# x (shape [1, 1, 2]),\\\n1,\\\n2 3\n", "line 3.*'2 3' is not one whole number"),
        ("# x (shape [1, 1, 2])\n\n", "holds no values"),
        (f"# x (shape [1])\n{2**70}\n", "beyond 64 bits"),
    ],
)
def test_what_is_no_value_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "out_layer0.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_dump(path)


def test_a_folder_without_layers_is_refused(tmp_path):
    (tmp_path / "input.txt").write_text("# input (shape [1])\n1\n")
    with pytest.raises(InputError, match=r"without out_layerK\.txt"):
        read_dump(tmp_path)


@pytest.mark.formats
@pytest.mark.parametrize("network", NETWORKS)
def test_every_golden_layer_equals_a_tensor_of_its_own(network):
    folder = support.FORMATS / "public" / network
    result = npusim.check_golden(npusim.InferenceSession(folder / "model.onnx"), folder)
    assert result
    files = sorted(folder.glob("out_layer*.txt"), key=lambda path: int(path.stem[9:]))
    assert [check.array.split("'")[1] for check in result.layers] == [path.stem for path in files]
    assert len({check.tensor for check in result.layers}) == len(files)
    assert result.totals.values == sum(len(path.read_text().split("\n")) - 2 for path in files)


@pytest.mark.formats
def test_all_of_the_golden_layers_are_there():
    assert sum(len(list((support.FORMATS / "public" / name).glob("out_layer*.txt"))) for name in NETWORKS) == 75


@pytest.mark.formats
def test_a_wrong_value_of_a_layer_is_found(tmp_path):
    folder = tmp_path / "tcn"
    shutil.copytree(support.FORMATS / "public" / "public_dory_TCN_T", folder)
    lines = (folder / "out_layer5.txt").read_text().split("\n")
    lines[9] = str(int(float(lines[9].split(",")[0])) ^ 1) + ",\\"
    (folder / "out_layer5.txt").write_text("\n".join(lines))
    result = npusim.check_golden(folder / "model.onnx", folder, inputs=folder / "input.txt")
    assert [(check.array.split("'")[1], check.differing) for check in result.layers if not check] == [("out_layer5", 1)]


@pytest.mark.formats
def test_a_golden_folder_holds_texts_that_are_checked_and_sums_of_bytes(tmp_path):
    model = support.FORMATS / "other" / "plinio_match_mlp_3_32_16_8_1_w8a8" / "model.onnx"
    npusim.write_golden(model, tmp_path / "g", sets=3, formats=("features",))
    folder = tmp_path / "g"
    assert npusim.verify_golden(folder)
    result = npusim.check_golden(model, folder / "features" / "set_1")
    assert result
    assert [check.kind for check in result.layers] == ["FC"] * 4
    manifest = json.loads((folder / "manifest.json").read_text())
    with np.load(folder / "vectors.npz") as arrays:
        for item in manifest["tensors"]:
            sums = [sum(values.astype(values.dtype.newbyteorder("<")).tobytes()) for values in arrays[item["key"]]]
            assert item["set_byte_sum"] == sums
    damaged = folder / "features" / "set_1" / "out_layer1.txt"
    damaged.write_text(damaged.read_text().replace("\n0\n", "\n1\n", 1))
    assert not npusim.verify_golden(folder)
    assert not npusim.check_golden(model, folder / "features" / "set_1")
