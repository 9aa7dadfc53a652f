"""A cascade's file and the rule that joins two scores."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bladescan.base.errors import DetectorError
from bladescan.detectors.cascade import (
    Cascade,
    CascadeRule,
    PartScale,
    check_alike,
    encode_cascade,
    part_files,
    read_cascade,
)
from bladescan.detectors.manifest import CalibratedHead, EncoderSpec, FaceRule, Manifest
from bladescan.detectors.parts import DetectorPart, file_digest

RULE = CascadeRule(PartScale(1.0, 2.0, 0.25), PartScale(-1.0, 4.0, 0.75), 0.5, 3.0)
P = st.floats(0.0, 1.0)


def manifest(**changes):
    head = CalibratedHead((-0.9, -0.5, -0.1), 3)
    plain = Manifest("c", EncoderSpec("none"), heads={"binary": head}, default_head="binary")
    return msgspec.structs.replace(plain, **changes)


def cascade(folder, **changes):
    for name in ("a.onnx", "b.onnx"):
        (folder / name).write_bytes(name.encode())
    first, second = (DetectorPart(name, file_digest(folder / name)) for name in ("a.onnx", "b.onnx"))
    return msgspec.structs.replace(Cascade(manifest(), first, second, RULE), **changes)


def written(folder, **changes):
    path = folder / "c.cascade"
    path.write_bytes(encode_cascade(cascade(folder, **changes)))
    return path


def test_the_score_is_what_the_page_says():
    first, second = np.array([0.9, 0.2, 0.5]), np.array([0.3, 0.8])
    odds = [math.log(p / (1 - p)) for p in (0.9, 0.2, 0.5, 0.3, 0.8)]
    z1 = [(odds[i] - 1) / 2 for i in range(3)]
    z2 = [(odds[i] + 1) / 4 for i in (3, 4)]
    expected = [0.25 * z1[0] + 0.75 * z2[0], z1[1] - 3.0, 0.25 * z1[2] + 0.75 * z2[1]]
    assert RULE.goes_on(first).tolist() == [True, False, True]
    found = RULE.joined(first, second)
    np.testing.assert_allclose(np.log(found / (1 - found)), expected, rtol=1e-12)


@given(st.lists(st.tuples(P, P), max_size=40), st.integers(1, 7))
def test_rows_are_the_same_bits_whatever_the_batch_and_always_within_0_and_1(pairs, size):
    first, second = (np.array([pair[i] for pair in pairs], np.float64) for i in (0, 1))

    def joined(rows):
        return RULE.joined(first[rows], second[rows][RULE.goes_on(first[rows])])

    whole = joined(slice(None))
    parts = [joined(slice(i, i + size)) for i in range(0, len(first), size)]
    assert np.concatenate([np.empty(0), *parts]).tobytes() == whole.tobytes()
    assert ((whole > 0) & (whole < 1)).all()


@given(P, P)
def test_within_each_way_a_higher_score_of_a_part_is_no_lower_score(low, high):
    low, high = sorted((low, high))
    one = RULE.joined(np.array([low, high]), np.full(int(low >= 0.5) + int(high >= 0.5), 0.5))
    if (low >= 0.5) == (high >= 0.5):
        assert one[0] <= one[1]


def test_a_file_reads_back_as_it_was_written(tmp_path):
    path = written(tmp_path)
    assert read_cascade(path) == cascade(tmp_path)
    assert part_files(path, read_cascade(path)) == (tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert b'\n "first": {' in path.read_bytes()  # for people


def test_a_part_that_is_gone_or_another_is_an_error(tmp_path):
    path = written(tmp_path)
    (tmp_path / "b.onnx").write_bytes(b"another")
    with pytest.raises(DetectorError, match="^c.cascade: its part b.onnx is another file"):
        part_files(path, read_cascade(path))
    (tmp_path / "b.onnx").unlink()
    with pytest.raises(DetectorError, match="^c.cascade: its part b.onnx cannot be read.*beside it"):
        part_files(path, read_cascade(path))


def test_another_part_is_another_digest_of_the_cascade_file(tmp_path):
    before = file_digest(written(tmp_path))
    other = DetectorPart("b.onnx", "0" * 64)
    assert file_digest(written(tmp_path, second=other)) != before


SCALE = PartScale(0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "changes,said",
    [
        ({"first": DetectorPart("../a.onnx", "")}, "no name of a detector file"),
        ({"first": DetectorPart("a.cascade", "")}, "no name of a detector file"),
        ({"rule": CascadeRule(SCALE, PartScale(0.0, 0.0, 1.0), 0.5, 0.0)}, "scales above 0"),
        ({"rule": CascadeRule(SCALE, PartScale(0.0, 1.0, -1.0), 0.5, 0.0)}, "weights must be 0 or more"),
        ({"manifest": manifest(heads={})}, "one head, the binary one"),
        (
            {"manifest": manifest(heads={"binary": CalibratedHead((1.0, 0.0), 2)})},
            "finite and ascending",
        ),
    ],
)
def test_a_file_that_makes_no_sense_is_one_line(tmp_path, changes, said):
    with pytest.raises(DetectorError, match=f"^c.cascade: .*{said}") as caught:
        read_cascade(written(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_file_of_a_newer_bladescan_says_so(tmp_path):
    path = written(tmp_path)
    newer = json.loads(path.read_bytes())
    newer["manifest"]["format_version"] = 99
    path.write_text(json.dumps(newer))
    with pytest.raises(DetectorError, match="^c.cascade: made by a newer bladescan"):
        read_cascade(path)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b'{"manifest": 3}', b"[" * 5000])
def test_what_is_no_cascade_is_one_line(tmp_path, data):
    path = tmp_path / "x.cascade"
    path.write_bytes(data)
    with pytest.raises(DetectorError, match="^x.cascade: not a bladescan") as caught:
        read_cascade(path)
    assert "\n" not in str(caught.value)


def test_parts_look_at_the_same_crops_and_have_a_binary_head():
    check_alike(manifest(), manifest(face_rule=FaceRule("mtcnn")), where="x")
    with pytest.raises(DetectorError, match="different crops"):
        check_alike(manifest(), manifest(face_rule=FaceRule(scale=1.5)), where="x")
    with pytest.raises(DetectorError, match="no binary head"):
        check_alike(manifest(), manifest(name="b", heads={}), where="x")
