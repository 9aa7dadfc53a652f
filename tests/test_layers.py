"""Who may import whom: read from the source, and from what a fresh interpreter has loaded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up. A module imports only from those before it.
LAYERS = """
    __init__ records errors exit_codes clock locks logs terminal guard options
    tasks exif_bytes exif recipe recipe_files manifest calibration
    image_formats image_colour images onnx_graph suppression libfacedetection
    crops face_search mtcnn scrfd faces
    backend cuda_memory engine_file tensorrt_library
    patience objects object_store s3 web buckets sources fetching targets sinks entries journal ledger
    recall detectors
    decoder_process decoders scanning cluster_worker cluster scan_job metrics scan_report
    manipulations losses bilevel distributed weights vision_encoder resnet efficientnet encoders
    low_precision
    vocabularies tokenisers text_encoders pretext
    workers fdf photographs indexing examples contact_sheet figures plots
    measures minibatches trainee runs board training
    mixture classifier detector fitting export
    copies features fit_job calibrate_job train_job authors
    quantisation quantise_job export_tensorrt
    degradations evaluation evaluation_plots embedding_plot robustness_plot evaluation_page evaluate_job
    describe machine doctor demo command_inputs learning_commands ledger_commands cli __main__
""".split()
LEARNING_NOUNS = {"tasks", "exif_bytes", "exif", "recipe", "recipe_files"}
SCAN_SIDE = set(LAYERS[LAYERS.index("records") : LAYERS.index("manipulations")]) - LEARNING_NOUNS
BACKENDS_MAY_IMPORT = {"backend", "records", "errors", "manifest", "calibration"}
LEARNING_RUNTIMES = {"torch", "sklearn", "cv2", "onnx", "scipy", "matplotlib", "pyarrow", "yaml"}


def imported_modules(path: Path) -> set[str]:
    """First names below ``bladescan`` that a file imports, at its top or within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            package, _, rest = node.module.partition(".")
            if package == "bladescan":
                found |= {rest.split(".")[0]} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("bladescan.")}
    return found - {"__version__"}


def modules() -> list[Path]:
    return sorted((ROOT / "bladescan").glob("*.py"))


def test_every_module_has_its_place():
    names = {path.stem for path in modules()} | {"detectors", "vocabularies"}
    assert names == set(LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_a_module_imports_only_from_those_below_it(path):
    allowed = set(LAYERS[: LAYERS.index(path.stem)])
    assert imported_modules(path) <= allowed


@pytest.mark.parametrize("path", sorted((ROOT / "backends").glob("*.py")), ids=lambda path: path.stem)
def test_a_backend_imports_only_the_protocol_and_its_runtime(path):
    # The pytorch backend's runtime is the detector module itself: one definition of the network.
    more = {
        "pytorch": {"detector", "low_precision"},
        "tensorrt": {"cuda_memory", "engine_file", "tensorrt_library"},
    }.get(path.stem, set())
    assert imported_modules(path) <= BACKENDS_MAY_IMPORT | more


def test_the_library_names_no_backend():
    for path in modules():
        assert "bladescan_backends." not in path.read_text().replace('startswith("bladescan_backends.")', "")


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running some code."""
    code += "\nimport json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    return set(json.loads(out.splitlines()[-1]))


def test_the_scan_side_loads_without_the_learning_side():
    imports = "\n".join(f"import bladescan.{name}" for name in sorted(SCAN_SIDE))
    assert not loaded_after(imports) & LEARNING_RUNTIMES


@pytest.mark.parametrize("arguments", [["--help"], ["scan", "--help"], ["fit", "--help"], ["--version"]])
def test_help_loads_no_numpy_torch_or_onnxruntime(arguments):
    code = f"""
from bladescan import cli
try:
    cli.app({arguments})
except SystemExit as exc:
    assert exc.code == 0
"""
    assert not loaded_after(code) & {"numpy", "torch", "onnxruntime", "PIL", "joblib", "msgspec"}
