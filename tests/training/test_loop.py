import dataclasses
import math
import signal
import time
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from bladescan.base.errors import DataError, DetectorError, UsageError
from bladescan.photographs.index import PhotographIndex
from bladescan.tasks.recipe_files import load_recipe
from bladescan.tasks.shipped_recipes import shipped_recipes
from bladescan.training import runs
from bladescan.training.distributed import ALONE
from bladescan.training.loop import TrainingListener, train
from bladescan.training.state import new_training_state
from tests.training.tiny import TINY, equal, weights


def test_a_run_holds_its_recipe_its_history_and_an_encoder_that_loads(finished):
    out, seen, said = finished
    assert load_recipe(str(out / runs.RECIPE_FILE)) == TINY
    history = runs.read_history(out)
    n_steps = seen[-1].n_steps
    assert [p.step for p in seen] == list(range(1, n_steps + 1)) and history[-1]["step"] == n_steps
    assert list(history[0]["losses"]) == list(history[0]["weights"]) == list(TINY.tasks)
    assert history[-1]["epoch"] == 2.0 and history[-1]["outer_loss"] > 0
    assert set(history[-1]["held_out"]) <= set(TINY.tasks)
    assert history[-1]["held_out"]["coarse_manipulation"]["chance"] == 0.5
    run = runs.load_encoder_run(out)
    assert run.manifest.encoder.embedding_dim == 16
    assert set(run.manifest.provenance["task_weights"]) == set(TINY.tasks)
    assert run.encoder(torch.zeros(1, 3, 224, 224)).shape == (1, 16)
    assert not run.encoder.training
    assert weights(out)[runs.PROMPTS].shape == (50, 16)
    assert [line.split(":")[:2] for line in said] == [
        ["vision encoder resnet10", " random weights"],
        ["text encoder gpt2", " random weights"],
    ]


def test_a_run_starts_from_both_encoders_of_another_run(finished, photographs, tmp_path):
    out, _, _ = finished
    source = str(out / runs.ENCODER_FILE)
    recipe = dataclasses.replace(
        TINY,
        seed=3,
        encoder=dataclasses.replace(TINY.encoder, weights=str(out)),
        text=dataclasses.replace(TINY.text, weights=source),
    )
    said = []
    state = new_training_state(recipe, ALONE.device, say=said.append)
    saved = weights(out)
    started = state.model.state_dict()
    assert torch.equal(started["vision.conv1.weight"], saved["vision.conv1.weight"])
    assert torch.equal(started["head.text.token_embedding.weight"], saved["head.text.token_embedding.weight"])
    assert all(str(out) in line for line in said)


def test_every_weight_moves_from_where_it_started(finished):
    out, seen, _ = finished
    start, end = runs.read_history(out)[0]["weights"], runs.read_history(out)[-1]["weights"]
    assert all(end[name] != 1.0 and end[name] != start[name] for name in TINY.tasks)
    assert seen[-1].weights == end


def test_the_same_seed_gives_the_same_weights_whatever_the_number_of_workers(finished, photographs, tmp_path):
    index, entries = photographs
    again = train(dataclasses.replace(TINY, workers=2), index, entries[::-1], tmp_path / "again")
    assert equal(weights(finished[0]), weights(again))


def test_another_seed_gives_other_weights(finished, photographs, tmp_path):
    index, entries = photographs
    other = train(dataclasses.replace(TINY, seed=1), index, entries, tmp_path / "other")
    assert not equal(weights(finished[0]), weights(other))


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(finished, photographs, tmp_path):
    index, entries = photographs

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 3:
            raise Killed

    with pytest.raises(Killed):
        train(TINY, index, entries, tmp_path / "run", checkpoint_every_s=0, listener=TrainingListener(kill))
    with pytest.raises(DetectorError, match="has not finished"):
        runs.load_encoder_run(tmp_path / "run")
    steps = []
    resumed = train(
        TINY, index, entries, tmp_path / "run", resume=True, listener=TrainingListener(steps.append)
    )
    assert steps[0].step == 3
    assert equal(weights(finished[0]), weights(resumed))
    assert (resumed / runs.HISTORY_FILE).read_text() == (finished[0] / runs.HISTORY_FILE).read_text()


def resume_and_tell(path: Path, out: Path, steps: Connection) -> None:
    """What a process does that is killed: go on with the training in ``out``, if there is one."""
    torch.set_num_threads(1)
    index = PhotographIndex(path, "known")
    listener = TrainingListener(lambda progress: steps.send(progress.step))
    train(TINY, index, index.entries(), out, resume=True, checkpoint_every_s=0, listener=listener)


@pytest.mark.integration
def test_a_process_that_is_killed_three_times_ends_with_the_same_weights(finished, photographs, tmp_path):
    index, _ = photographs
    out = tmp_path / "run"
    prepared = get_context("forkserver")  # PyTorch is imported once for all of them
    prepared.set_forkserver_preload([__name__])
    n_steps = finished[1][-1].n_steps
    for last in (1, 2, n_steps - 1, math.inf):
        steps, theirs = prepared.Pipe(duplex=False)
        process = prepared.Process(target=resume_and_tell, args=(index.path, out, theirs))
        process.start()
        theirs.close()
        with steps, suppress(EOFError):  # the last ends by itself
            while steps.recv() < last:
                pass
            time.sleep(0.01 * last)
            process.kill()
        process.join()
        assert process.exitcode == (0 if last == math.inf else -signal.SIGKILL)
    assert equal(weights(finished[0]), weights(out))
    assert (out / runs.HISTORY_FILE).read_text() == (finished[0] / runs.HISTORY_FILE).read_text()


def test_a_folder_in_use_and_a_changed_recipe_are_refused(finished, photographs):
    index, entries = photographs
    with pytest.raises(UsageError, match="not empty"):
        train(TINY, index, entries, finished[0])
    with pytest.raises(UsageError, match="another recipe"):
        train(dataclasses.replace(TINY, seed=5), index, entries, finished[0], resume=True)


def test_other_photographs_or_another_face_finder_cannot_go_on_with_a_run(finished, photographs, tmp_path):
    index, entries = photographs
    for others in (entries[1:], [*entries[:-1], dataclasses.replace(entries[-1], digest="f" * 64)]):
        with pytest.raises(UsageError, match="started with other photographs"):
            train(TINY, index, others, finished[0], resume=True)
    other = PhotographIndex(index.path, "another finder")
    with pytest.raises(UsageError, match="another face finder"):
        train(TINY, other, entries, finished[0], resume=True)


def test_a_start_that_failed_may_be_mended(photographs, tmp_path):
    index, entries = photographs
    large = dataclasses.replace(TINY, inner=dataclasses.replace(TINY.inner, batch_size=512))
    with pytest.raises(DataError, match="but a minibatch needs 256"):
        train(large, index, entries, tmp_path / "run")
    one = dataclasses.replace(TINY, inner=dataclasses.replace(TINY.inner, epochs=1))
    train(one, index, entries, tmp_path / "run")
    assert load_recipe(str(tmp_path / "run" / runs.RECIPE_FILE)) == one


def test_weights_to_start_from_are_not_needed_any_more_to_resume(finished, photographs, tmp_path):
    index, entries = photographs
    source = tmp_path / "start.safetensors"
    source.write_bytes((finished[0] / runs.ENCODER_FILE).read_bytes())
    recipe = dataclasses.replace(TINY, encoder=dataclasses.replace(TINY.encoder, weights=str(source)))
    train(recipe, index, entries, tmp_path / "run")
    source.unlink()
    said = []
    train(recipe, index, entries, tmp_path / "run", resume=True, listener=TrainingListener(say=said.append))
    assert len(said) == 1 and said[0].startswith("resumed after step")


def test_a_photograph_that_left_the_index_is_one_clear_line(photographs, tmp_path):
    index, entries = photographs
    gone = [dataclasses.replace(e, digest=e.digest[:-1] + "f") for e in entries]
    recipe = dataclasses.replace(TINY, workers=1)
    with pytest.raises(DataError, match=r"^[^\n]*has neither a face nor a patch[^\n]*$"):
        train(recipe, index, gone, tmp_path / "run")


def test_a_broken_checkpoint_and_history_get_one_clear_line(finished, photographs, tmp_path):
    index, entries = photographs
    damages = ((runs.CHECKPOINT_FILE, b"cut"), (runs.HISTORY_FILE, b"{"), (runs.HISTORY_FILE, b"{}"))
    for number, (file, content) in enumerate(damages):
        out = tmp_path / str(number)
        out.mkdir()
        for name in (runs.RECIPE_FILE, runs.HISTORY_FILE, runs.CHECKPOINT_FILE):
            (out / name).write_bytes((finished[0] / name).read_bytes())
        (out / file).write_bytes(content)
        longer = dataclasses.replace(TINY, inner=dataclasses.replace(TINY.inner, epochs=3))
        (out / runs.RECIPE_FILE).write_text(runs.dump_recipe(longer))
        with pytest.raises(DetectorError, match=rf"^[^\n]*{file}[^\n]*$"):
            train(longer, index, entries, out, resume=True)


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if not load_recipe(name).supervised])
def test_every_shipped_recipe_trains_a_few_steps(name, photographs, tmp_path):
    index, entries = photographs
    small = ["encoder.name=resnet10", "encoder.width=8", "text.layers=1", "text.width=32", "text.heads=2"]
    sizes = [
        "inner.batch_size=8",
        "inner.epochs=1",
        "manipulations.autoencode.steps=2",
        "augmentation.window=64",
        "workers=0",
        "data.held_out=0.1",
    ]
    recipe = load_recipe(name, [*small, *sizes, "data.require_all_tags=false", "data.patches=true"])
    out = train(recipe, index, entries, tmp_path / "run")
    lines = runs.read_history(out)
    assert all(math.isfinite(loss) for line in lines for loss in line["losses"].values())
    assert (lines[-1]["weights"] != dict(recipe.tasks)) == recipe.bilevel
    assert runs.load_encoder_run(out).manifest.encoder.normalise == recipe.normalise


def test_a_divergence_keeps_the_last_checkpoint(photographs, tmp_path):
    index, entries = photographs
    wild = dataclasses.replace(
        TINY, inner=dataclasses.replace(TINY.inner, lr=1e30, clip_norm=0.0, warmup=0.0)
    )
    with pytest.raises(DataError, match=r"training diverged.*lower inner\.lr"):
        train(wild, index, entries, tmp_path / "run", checkpoint_every_s=0)
    assert not (tmp_path / "run" / runs.ENCODER_FILE).exists()
