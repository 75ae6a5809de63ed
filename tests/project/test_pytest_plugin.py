"""The pytest plugin, run by pytest itself in a folder of its own, as a firmware repository would."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from npusim.errors import InputError, UsageError
from npusim.pytest_plugin import assert_matches_golden
from support import ROOT
from support.golden_check_models import feeds_for, session_for, write_golden

pytest_plugins = ["pytester"]

MODEL = ROOT / "golden" / "vibration_w8.onnx"
FEEDS = feeds_for("vibration_w8")


def outputs() -> np.ndarray:
    return session_for("vibration_w8").trace(FEEDS, ["output"])["output"]


def test_the_entry_point_is_registered() -> None:
    found = [point.value for point in entry_points(group="pytest11") if point.name == "npusim"]
    assert found == ["npusim.pytest_plugin"]


def test_loading_it_is_light(tmp_path: Path) -> None:
    # A run of pytest with the plugin, in which a test looks at what has been imported for it.
    (tmp_path / "test_light.py").write_text(
        "import sys\n"
        "def test_light(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.has_plugin('npusim')\n"
        "    heavy = ('numpy', 'onnx', 'onnxruntime', 'pandas', 'click', 'npusim.engine.session', 'npusim.files.dumps')\n"
        "    assert [name for name in heavy if name in sys.modules] == []\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_firmware_repository(pytester: pytest.Pytester) -> None:
    write_golden(pytester.path / "golden_vectors")
    (pytester.path / "models").mkdir()
    (pytester.path / "models" / "motor.onnx").write_bytes(MODEL.read_bytes())
    (pytester.path / "uart.txt").write_text(" ".join(map(str, outputs()[2])), encoding="ascii")
    (pytester.path / "wrong.txt").write_text(" ".join(map(str, outputs()[4])), encoding="ascii")
    pytester.makepyfile(
        """
        from npusim.pytest_plugin import assert_matches_golden

        def test_model(npusim_model):
            assert len(npusim_model("models/motor.onnx").program.layers) == 6
            assert npusim_model("models/motor.onnx") is npusim_model("models/motor.onnx")

        def test_right():
            assert_matches_golden("uart.txt", "golden_vectors", set_index=2)

        def test_wrong_set():
            assert_matches_golden("wrong.txt", "golden_vectors", set_index=2)

        def test_missing_model(npusim_model):
            npusim_model("models/none.onnx")

        def test_missing_dump():
            assert_matches_golden("build/uart.txt", "golden_vectors", set_index=2)
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:timeout")
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(
        [
            "E *AssertionError: 4 of 4 values of 'output' differ",
            "*!! output  FC       2       4          4 *",
            "*First difference in the values from line 1: set 2, value 0, which is output[[]0]:*",
            "*these are the values of set 4 (4 of 4 differences)*give --set 4*",
            "*models/none.onnx does not exist*",
            "build/uart.txt does not exist: the device wrote no dump, or to another place",
        ],
        consecutive=False,
    )
    assert "pytest_plugin.py:" not in result.stdout.str(), "the failure points at the test, not at the plugin"
    assert "During handling" not in result.stdout.str()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_paths_start_at_the_file_of_the_test(pytester: pytest.Pytester) -> None:
    """Not at the folder in which pytest was started; what is not beside the test is looked for there."""
    folder = pytester.path / "tests" / "device"
    folder.mkdir(parents=True)
    (folder / "motor.onnx").write_bytes(MODEL.read_bytes())
    (folder / "uart.txt").write_text(" ".join(map(str, outputs()[2])), encoding="ascii")
    write_golden(pytester.path / "vectors")
    (folder / "test_device.py").write_text(
        "from npusim.pytest_plugin import assert_matches_golden\n"
        "def test_paths(npusim_model):\n"
        "    assert len(npusim_model('motor.onnx').program.layers) == 6\n"
        "    assert_matches_golden('uart.txt', 'vectors', set_index=2)\n"
        "    assert_matches_golden('uart.txt', '../../vectors', set_index=2)\n",
        encoding="utf-8",
    )
    pytester.runpytest_inprocess("-p", "no:timeout").assert_outcomes(passed=1)


def test_arrays_and_sessions() -> None:
    session = session_for("vibration_w8")
    assert_matches_golden(outputs(), session, inputs=FEEDS)
    assert_matches_golden(outputs()[3], session, inputs=FEEDS, set_index=3)
    assert_matches_golden(outputs()[0].tolist(), MODEL, inputs=ROOT / "golden" / "vibration_inputs.npz")
    layer = session.program.layers[0].output
    values = np.moveaxis(session.trace(FEEDS, [layer])[layer], 1, -1)
    assert_matches_golden(values, session, inputs=FEEDS, tensor=layer, layout="nhwc")
    with pytest.raises(AssertionError, match="give --layout nhwc"):
        assert_matches_golden(values, session, inputs=FEEDS, tensor=layer)


def test_what_cannot_be_compared_is_an_error() -> None:
    session = session_for("vibration_w8")
    with pytest.raises(UsageError, match="give inputs"):
        assert_matches_golden(outputs(), session)
    with pytest.raises(UsageError, match="there is no input stage 'c29'"):
        assert_matches_golden(outputs(), session, inputs=FEEDS, input_stage="c29")
    with pytest.raises(InputError, match="wanted finite numbers, at least one"):
        assert_matches_golden([], session, inputs=FEEDS)
    with pytest.raises(InputError, match="5 values, wanted 4"):
        assert_matches_golden([1, 2, 3, 4, 5], session, inputs=FEEDS)
    with pytest.raises(InputError, match="input 'input' of the model is missing"):
        assert_matches_golden(outputs(), session, inputs={"x": FEEDS["input"]})
