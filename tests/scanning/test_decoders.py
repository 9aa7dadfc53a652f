"""Decoder processes that die, hang and come back: real processes, real signals."""

from __future__ import annotations

import io
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import UnknownNameError
from bladescan.base.records import CROP_SIZE, Reason
from bladescan.processes.resources import resident_bytes
from bladescan.processes.worker import WorkerProcess
from bladescan.scanning.decoder_process import DECODING, DecoderSettings, Request
from bladescan.scanning.decoders import DecoderProcess, decoder_process

WHOLE = DecoderSettings(faces="none")


def png(size: tuple[int, int] = (300, 300), value: int = 128) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def process():
    decoder = decoder_process(WHOLE)
    yield decoder
    decoder.kill()


def pid(decoder: DecoderProcess) -> int:
    assert decoder.process is not None
    return decoder.process.pid


def test_an_image_comes_back_as_one_crop_with_its_facts(process):
    answer = process.ask(Request(b"x.png", png((320, 240), 77)))
    assert (answer.reason, answer.format, answer.width, answer.height) == (None, "PNG", 320, 240)
    crops = np.frombuffer(answer.crops, np.uint8).reshape(-1, CROP_SIZE, CROP_SIZE, 3)
    assert len(crops) == len(answer.faces) == 1
    assert (crops == 77).all()


def test_a_file_name_that_is_not_utf8_is_opened(process, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    with open(name, "wb") as file:
        file.write(png())
    assert process.ask(Request(name)).format == "PNG"


def test_a_bad_image_is_a_reason_and_the_process_stays(process):
    process.ask(Request(b"x", png()))
    before = pid(process)
    assert process.ask(Request(b"x", b"no image")).reason is Reason.NOT_AN_IMAGE
    assert process.ask(Request(b"/nonexistent/x.png")).reason is Reason.VANISHED
    assert pid(process) == before


def frozen(decoder: DecoderProcess) -> DecoderProcess:
    """The process stops answering, as a hostile file can make it."""
    decoder.start()
    os.kill(pid(decoder), signal.SIGSTOP)
    return decoder


def killed_at_each_start(decoder: DecoderProcess) -> DecoderProcess:
    """The process is killed each time that it has been handed an image."""
    start = decoder.start

    def start_and_kill():
        ready = start()
        os.kill(pid(decoder), signal.SIGSTOP)
        threading.Timer(0.1, os.kill, (pid(decoder), signal.SIGKILL)).start()
        return ready

    decoder.start = start_and_kill  # type: ignore[method-assign]
    return decoder


def test_an_image_that_kills_its_process_twice_is_a_row_with_a_reason():
    answer = killed_at_each_start(decoder_process(WHOLE)).ask(Request(b"x", png()))
    assert answer.reason is Reason.DECODER_CRASHED
    assert answer.detail == "the decoder process died (SIGKILL) on it twice"


def test_an_image_that_hangs_is_a_timeout_and_the_process_is_ended():
    decoder = frozen(decoder_process(DecoderSettings(faces="none", timeout_s=0.3)))
    answer = decoder.ask(Request(b"x", png()))
    assert (answer.reason, answer.detail) == (Reason.TIMEOUT, "not decoded within 0.3 s")
    assert answer.cost is not None and answer.cost.decode_s >= 0.3
    assert decoder.process is None


def test_a_process_that_takes_no_bytes_is_a_timeout_too():
    """An object's bytes are more than the pipe to the process holds."""
    decoder = decoder_process(DecoderSettings(faces="none", timeout_s=2.0))
    decoder.start()
    os.kill(pid(decoder), signal.SIGSTOP)
    answer = decoder.ask(Request(b"x", png() + bytes(1 << 20)))
    assert (answer.reason, answer.detail) == (Reason.TIMEOUT, "not decoded within 2 s")
    assert decoder.ask(Request(b"x", png() + bytes(1 << 22))).reason is None
    decoder.kill()


def test_a_face_finder_that_cannot_be_had_is_an_error_at_the_start():
    with pytest.raises(UnknownNameError, match="Did you mean 'yunet'"):
        decoder_process(DecoderSettings(faces="yumet")).start()


def test_a_folder_with_a_module_of_our_name_cannot_supply_code(process, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('owned')")
    (tmp_path / "bladescan.py").write_text("raise SystemExit('owned')")
    monkeypatch.chdir(tmp_path)
    assert process.ask(Request(b"x", png())).reason is None


def test_a_decoder_that_prints_does_not_garble_its_answers(process, tmp_path):
    # libtiff and libpng write warnings to the process's own descriptors
    broken = Path(tmp_path / "x.tif")
    Image.new("RGB", (64, 64)).save(broken)
    broken.write_bytes(broken.read_bytes()[:-200])
    first = process.ask(Request(os.fsencode(broken)))
    assert first.reason is not None
    assert process.ask(Request(b"x", png())).reason is None


def test_a_process_that_has_grown_is_replaced_and_answers_stay_the_same():
    grown = replace(DECODING, most_growth=-(1 << 60))  # any size is too much
    decoder = WorkerProcess(grown, WHOLE, 30.0)
    first = decoder.ask(Request(b"x", png((2000, 2000))))
    assert first.reason is None and decoder.process is None
    again = decoder.ask(Request(b"x", png((2000, 2000))))
    assert again.crops == first.crops


def test_the_default_face_finder_loses_no_memory(process):
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    decoder = decoder_process(DecoderSettings(faces="auto"))
    try:
        decoder.start()
        held = []
        for _ in range(60):
            assert decoder.ask(Request(b"x", buffer.getvalue())).reason is None
            held.append(resident_bytes(pid(decoder)))
    finally:
        decoder.kill()
    assert held[-1] - held[9] < 4 << 20  # the wrapper would lose 50 times 700 kB
