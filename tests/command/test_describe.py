"""What a detector costs, as the paper counts it."""

from bladescan.command.describe import cost
from bladescan.detectors.manifest import CalibratedHead, EncoderSpec, Manifest

BARE = Manifest("paper", EncoderSpec("resnet50", 64, 768))


def test_the_papers_detector_has_26_million_parameters_and_4134_million_multiply_adds():
    """Table 6: the encoder, and the perceptron 768 -> 1536 -> 2 on it."""
    paper = Manifest("paper", BARE.encoder, heads={"binary": CalibratedHead((0.0,), 1)})
    found = cost(paper)
    perceptron = 768 * 1536 + 1536 + 1536 * 2 + 2
    assert found["parameters"] - cost(BARE)["parameters"] == perceptron
    assert round(found["parameters"] / 1e6) == 26
    assert round(found["multiply_adds"] / 1e6) == 4134


def test_a_perceptron_of_another_width_costs_what_it_is():
    narrow = Manifest("narrow", BARE.encoder, heads={"binary": CalibratedHead((0.0,), 1, {"hidden": 10})})
    assert cost(narrow)["parameters"] - cost(BARE)["parameters"] == 768 * 10 + 10 + 10 * 2 + 2


def test_a_head_that_is_no_network_costs_nothing_here():
    one_class = Manifest("one-class", BARE.encoder, heads={"one-class": CalibratedHead((0.0,), 1)})
    assert cost(one_class) == cost(BARE)
