"""The folder of a run: what is broken in it gets one clear line."""

import pytest
import torch

from bladescan.base.errors import DetectorError, UsageError
from bladescan.training import runs
from bladescan.training.loop import train
from tests.training.tiny import TINY


def test_a_folder_that_is_no_run_cannot_be_resumed(photographs, tmp_path):
    index, entries = photographs
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(UsageError, match="has no run to resume"):
        train(TINY, index, entries, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize("damage", ["truncated", "pickle", "foreign"])
def test_a_broken_encoder_file_gets_one_clear_line(finished, tmp_path, damage):
    whole = (finished[0] / runs.ENCODER_FILE).read_bytes()
    path = tmp_path / runs.ENCODER_FILE
    if damage == "truncated":
        path.write_bytes(whole[:-100])
    elif damage == "pickle":
        torch.save({"a": torch.zeros(1)}, path)
    else:
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(DetectorError, match=r"^[^\n]*encoder\.safetensors[^\n]*$"):
        runs.load_encoder_run(path)
