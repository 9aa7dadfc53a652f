"""What a worker of a cluster has, compared with who asks it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bladescan.detectors.shipped import shipped_detector
from bladescan.faces.finders import YUNET
from bladescan.runtimes.several import SeveralDetectors
from bladescan.scanning.cluster_worker import WorkerTask, differences, environment, resolve
from bladescan.scanning.decoder_process import DecoderSettings, ProvenanceSettings
from bladescan.scanning.pipeline import ImageSettings, ScanSettings


@pytest.fixture
def settings():
    decoder = DecoderSettings(faces="yunet", provenance=ProvenanceSettings())
    return ScanSettings(shipped_detector("blades", (".onnx",)), "onnx", "one-class", 0.05, decoder=decoder)


def test_an_environment_names_what_decides_and_agrees_with_itself(settings):
    found = dict(environment(settings))
    assert {
        "bladescan",
        "Python",
        "detector",
        "backend onnx",
        "pillow",
        "numpy",
        "onnxruntime",
        "face finder yunet",
        "reader of provenance",
    } <= set(found)
    assert differences(WorkerTask("x", settings, (True,), environment(settings))) == ""


def test_the_detector_of_whole_pictures_decides_too(settings, tmp_path):
    (tmp_path / "image.onnx").write_bytes(b"x")
    image = ImageSettings(tmp_path / "image.onnx", "pytorch", "binary", 0.05)
    both = replace(settings, image=image)
    asked, alone = dict(environment(both)), dict(environment(settings))
    assert asked["detector"] != alone["detector"] and "backend pytorch" in asked
    task = WorkerTask("x", both, (True, False), environment(both))
    assert resolve(task).image == image and differences(task) == ""
    (tmp_path / "image.onnx").write_bytes(b"y")
    assert "--model must be at the same path on every worker" in differences(task)


@pytest.mark.parametrize(
    "name",
    ["bladescan", "Python", "detector", "backend onnx", "face finder yunet", "pillow", "onnxruntime"]
    + ["reader of provenance"],
)
def test_each_part_of_an_environment_is_compared(settings, name):
    other = tuple((key, "another" if key == name else value) for key, value in environment(settings))
    told = differences(WorkerTask("x", settings, (True,), other))
    assert re.fullmatch(rf"{name} .*, expected another", told)


def test_other_weights_of_the_face_finder_are_another_environment(settings, monkeypatch, tmp_path):
    (tmp_path / "yunet.onnx").write_bytes(YUNET.read_bytes() + b"\0")
    expected = environment(settings)
    monkeypatch.setattr("bladescan.faces.finders.YUNET", tmp_path / "yunet.onnx")
    told = differences(WorkerTask("x", settings, (True,), expected))
    assert re.fullmatch(r"face finder yunet sha256 \S+, expected sha256 \S+", told)


def test_another_c2pa_is_another_environment_if_files_are_read_for_what_they_say(settings, monkeypatch):
    unread = replace(settings, decoder=DecoderSettings(faces="yunet"))
    asked = [WorkerTask("x", one, (True,), environment(one)) for one in (settings, unread)]
    monkeypatch.setattr("bladescan.scanning.cluster_worker.library_version", lambda: "99")
    told, untold = map(differences, asked)
    assert re.fullmatch(r"reader of provenance c2pa-python 99, \S+, expected c2pa-python .*", told)
    assert untold == ""


def test_a_worker_takes_its_own_shipped_detector_and_misses_any_other(settings, tmp_path):
    elsewhere = replace(settings, detector=tmp_path / settings.detector.name)
    shipped = WorkerTask("x", elsewhere, (True,), environment(settings))
    assert resolve(shipped).detector == shipped_detector("blades", (".onnx",))
    assert differences(shipped) == ""
    told = differences(replace(shipped, shipped=(False,)))
    assert f"{settings.detector.name}: No such file" in told and "at the same path on every worker" in told


def test_of_several_detectors_every_file_counts_and_shipped_ones_are_found_here(settings, tmp_path):
    ships, own = settings.detector, tmp_path / "own.onnx"
    own.write_bytes(b"a detector")
    several = SeveralDetectors((Path("/elsewhere") / ships.name, own), ("onnx", "openvino"), "{}")
    asked = replace(settings, several=several)
    there = replace(asked, several=replace(several, files=(ships, own)))
    task = WorkerTask("x", asked, (True, False), environment(there))
    assert resolve(task).files == (ships, own) and resolve(task).detector == ships
    assert {"backend onnx", "backend openvino"} <= set(dict(environment(there)))
    assert differences(task) == ""
    own.write_bytes(b"another")
    assert "detector sha256" in differences(task) and "--model must be at the same path" in differences(task)
