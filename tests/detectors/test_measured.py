"""False-alarm rates measured on photographs that a calibration does not know."""

import numpy as np
import pytest

from bladescan.detectors.manifest import EncoderSpec, Manifest, MeasuredRate, decode_manifest, encode_manifest
from bladescan.detectors.measured import rates_by_source, rates_of, told


def test_each_source_is_measured_by_a_threshold_of_the_others():
    # The others' rates: of 40 photographs, s < the second lowest (k = 2 of 41) is flagged at 5%.
    scores = np.concatenate([np.arange(40.0), [-1.0] * 6 + [50.0] * 18, [0.0] * 3])
    sources = ["a"] * 40 + ["b"] * 24 + ["few"] * 3
    found = {rate.photographs: rate for rate in rates_by_source("binary", scores, sources, 0.05)}
    assert set(found) == {"a", "b"}  # three faces say nothing
    assert found["b"] == MeasuredRate("binary", "b", 24, 0.05, 6 / 24)
    assert found["a"].flagged == 0.0


def test_a_source_is_not_measured_where_the_others_are_too_few_for_the_rate():
    scores, sources = np.arange(50.0), ["a"] * 32 + ["b"] * 18
    assert not rates_by_source("binary", scores, sources, 0.05)  # 18 others, and 18 of its own
    assert [rate.photographs for rate in rates_by_source("binary", scores, sources, 0.1)] == ["a"]
    assert not rates_by_source("binary", scores, ["a"] * 50, 0.05)


def test_the_highest_rate_is_said_first_and_by_head():
    rates = tuple(
        MeasuredRate(head, name, n, 0.05, flagged)
        for head, name, n, flagged in (
            ("binary", "studio", 70, 0.04),
            ("binary", "stock", 24, 0.1777),
            ("one-class", "x", 30, 0.9),
        )
    )
    manifest = Manifest("d", EncoderSpec("resnet18"), measured=rates)
    assert decode_manifest(encode_manifest(manifest), where="x") == manifest
    assert told(rates_of(manifest, "binary")) == (
        "asked for 5%, 4% to 18% was measured on photographs unlike those of the calibration "
        "(most: stock, 24 faces)"
    )
    assert "asked for 5%, 90% was measured" in told(rates_of(manifest, "one-class"))
    assert told([]) == ""


@pytest.mark.parametrize("version", [1, 2])
def test_a_manifest_of_the_first_format_is_read(version):
    text = f'{{"name":"d","encoder":{{"name":"resnet18"}},"format_version":{version}}}'
    assert decode_manifest(text, where="x").measured == ()
