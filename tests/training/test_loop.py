import dataclasses
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from bladescan.base.errors import DataError, DetectorError, UsageError
from bladescan.networks.weights import read_safetensors
from bladescan.photographs.index import PhotographIndex
from bladescan.photographs.photograph import Photograph
from bladescan.pretext.examples import Batch
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.recipe import (
    AugmentationRecipe,
    ComputeRecipe,
    DataRecipe,
    EncoderRecipe,
    InnerRecipe,
    LossRecipe,
    ManipulationRecipe,
    OrdinalRecipe,
    OuterRecipe,
    Recipe,
    TextRecipe,
)
from bladescan.tasks.recipe_files import load_recipe, shipped_recipes
from bladescan.training import runs
from bladescan.training.distributed import ALONE
from bladescan.training.loop import as_classes, learning_rate, step, train
from bladescan.training.minibatches import Minibatch
from bladescan.training.state import new_training_state
from tests import ROOT

LANDMARKS = np.array([[45, 55], [75, 55], [60, 72], [48, 88], [72, 88]], np.float32)
TINY = Recipe(
    name="tiny",
    encoder=EncoderRecipe("resnet10", width=8, embedding_dim=16),
    text=TextRecipe("gpt2", layers=1, width=16, heads=2),
    manipulations=ManipulationRecipe(("face-warp", "mouth-flip-vertical"), pairs=True),
    augmentation=AugmentationRecipe(window=64),
    inner=InnerRecipe(lr=1e-3, batch_size=8, epochs=2, warmup=0.2, clip_norm=1.0),
    outer=OuterRecipe(lr=0.01, share=0.25),
    data=DataRecipe(held_out=0.2, patches=True),
    workers=0,
)
TAGS = {
    "iso_speed": [100.0, 400.0, 1600.0],
    "aperture": [1.8, 4.0, 11.0],
    "exposure_time": [1 / 500, 1 / 60, 0.5],
    "focal_length": [4.2, 35.0, 200.0],
    **{t.name: list(t.classes[:3]) for t in tasks.TASKS.values() if t.kind is tasks.TaskKind.CATEGORICAL},
}

ORDINAL = [t.name for t in tasks.TASKS.values() if t.kind is tasks.TaskKind.ORDINAL]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These models are too small to share among threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def fill(path):
    """Eighteen faces, a third without EXIF, six patches; six cameras."""
    index = PhotographIndex(path, "known")
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(0, 256, (260, 260, 3) if i % 4 == 3 else (120, 120, 3)).astype(np.uint8)
        tags = (
            {name: values[i // 2 % len(values)] for name, values in TAGS.items()}
            if i % 3 or i % 4 == 3
            else {}
        )
        face = {} if i % 4 == 3 else {"box": (25.0, 25.0, 95.0, 95.0), "landmarks": LANDMARKS}
        photograph = Photograph(pixels, tags=tags, camera=f"make model {i % 6}" if tags else "", **face)
        index.add(f"{int((i + 0.5) / 24 * 2**32):08x}{(i * 2654435761) % 2**32:08x}" + "0" * 48, photograph)
    return index


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    index = fill(tmp_path_factory.mktemp("index") / "index.sqlite")
    return index, index.entries()


@pytest.fixture(scope="module")
def finished(photographs, tmp_path_factory):
    index, entries = photographs
    seen, said = [], []
    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(TINY, index, entries, out, progress=seen.append, say=said.append)
    return out, seen, said


def weights(run):
    return read_safetensors(run / runs.ENCODER_FILE)[0]


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


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
        train(TINY, index, entries, tmp_path / "run", checkpoint_every_s=0, progress=kill)
    with pytest.raises(DetectorError, match="has not finished"):
        runs.load_encoder_run(tmp_path / "run")
    steps = []
    resumed = train(TINY, index, entries, tmp_path / "run", resume=True, progress=steps.append)
    assert steps[0].step == 3
    assert equal(weights(finished[0]), weights(resumed))
    assert (resumed / runs.HISTORY_FILE).read_text() == (finished[0] / runs.HISTORY_FILE).read_text()


RESUMED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from tests.training.test_loop import TINY
from bladescan.photographs.index import PhotographIndex
from bladescan.training.loop import train
index = PhotographIndex(Path({index!r}), "known")
train(TINY, index, index.entries(), Path({out!r}), resume=True, checkpoint_every_s=0,
      progress=lambda p: print(p.step, flush=True))
"""


@pytest.mark.integration
def test_a_process_that_is_killed_three_times_ends_with_the_same_weights(finished, photographs, tmp_path):
    index, _ = photographs
    out = tmp_path / "run"
    code = RESUMED.format(tests=str(ROOT), index=str(index.path), out=str(out))
    n_steps = finished[1][-1].n_steps
    for last in (1, 2, n_steps - 1):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= last:
                    time.sleep(0.01 * last)
                    os.kill(process.pid, signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
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


def test_a_folder_that_is_no_run_cannot_be_resumed(photographs, tmp_path):
    index, entries = photographs
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(UsageError, match="has no run to resume"):
        train(TINY, index, entries, tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_weights_to_start_from_are_not_needed_any_more_to_resume(finished, photographs, tmp_path):
    index, entries = photographs
    source = tmp_path / "start.safetensors"
    source.write_bytes((finished[0] / runs.ENCODER_FILE).read_bytes())
    recipe = dataclasses.replace(TINY, encoder=dataclasses.replace(TINY.encoder, weights=str(source)))
    train(recipe, index, entries, tmp_path / "run")
    source.unlink()
    said = []
    train(recipe, index, entries, tmp_path / "run", resume=True, say=said.append)
    assert len(said) == 1 and said[0].startswith("resumed after step")


def test_a_photograph_that_left_the_index_is_one_clear_line(photographs, tmp_path):
    index, entries = photographs
    gone = [dataclasses.replace(e, digest=e.digest[:-1] + "f") for e in entries]
    recipe = dataclasses.replace(TINY, workers=1)
    with pytest.raises(DataError, match=r"^[^\n]*has neither a face nor a patch[^\n]*$"):
        train(recipe, index, gone, tmp_path / "run")


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


def batch(n=8, seed=0):
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (n, 64, 64, 3), generator=rng, dtype=torch.uint8)
    coarse = torch.arange(n) % 2
    truth = {
        "coarse_manipulation": coarse,
        "fine_manipulation": coarse[:, None].float() * torch.tensor([1.0, 0.0, 1.0]),
    }
    for task in tasks.TASKS.values():
        if task.kind is tasks.TaskKind.ORDINAL:
            truth[task.name] = torch.rand(n, generator=rng, dtype=torch.float64)
        elif task.kind is tasks.TaskKind.CATEGORICAL:
            truth[task.name] = torch.randint(len(task.classes), (n,), generator=rng)
    return Batch(pixels, truth)


def both(recipe):
    return Minibatch(batch(), batch(seed=1) if recipe.bilevel else None)


@pytest.mark.parametrize("head", ["joint", "linear"])
def test_steps_on_one_minibatch_lower_every_task_loss(head):
    """An ordinal loss stays above 0: eight levels between 1 and 3 cannot all be far apart."""
    recipe = dataclasses.replace(TINY, head=head, outer=OuterRecipe(enabled=False))
    state = new_training_state(recipe, ALONE.device)
    course = [step(state, Minibatch(batch(), None), recipe, 3e-3, ALONE).losses for _ in range(80)]
    assert (course[-1] < 0.75 * course[0]).all(), state.named(course[-1] / course[0])


def test_a_bilevel_step_moves_the_weights_and_only_the_refinement_moves_the_statistics():
    state = new_training_state(TINY, ALONE.device)
    plain = new_training_state(dataclasses.replace(TINY, outer=OuterRecipe(enabled=False)), ALONE.device)
    result = step(state, both(TINY), TINY, 1e-3, ALONE)
    step(plain, Minibatch(batch(), None), TINY, 1e-3, ALONE)
    assert result.weight_gradient is not None and result.weight_gradient.abs().min() > 0
    assert torch.equal((state.weights - 1).sign(), -result.weight_gradient.sign())
    for name, value in plain.model.named_buffers():
        assert torch.equal(value, state.model.get_buffer(name)), name


def test_the_primary_task_is_what_the_outer_loop_serves():
    gradients = []
    for primary in ("coarse_manipulation", "make"):
        recipe = dataclasses.replace(TINY, primary=primary)
        gradients.append(step(new_training_state(recipe, ALONE.device), both(recipe), recipe, 1e-3, ALONE))
    assert not torch.allclose(gradients[0].weight_gradient, gradients[1].weight_gradient)
    assert torch.equal(gradients[0].losses, gradients[1].losses)


def test_a_frozen_text_encoder_stays_and_a_free_one_moves():
    for frozen in (True, False):
        recipe = dataclasses.replace(TINY, text=dataclasses.replace(TINY.text, frozen=frozen))
        state = new_training_state(recipe, ALONE.device)
        before = {name: value.clone() for name, value in state.model.head.text.state_dict().items()}
        step(state, both(recipe), recipe, 1e-3, ALONE)
        assert equal(before, state.model.head.text.state_dict()) == frozen


def test_a_least_weight_holds_the_weights_up():
    recipe = dataclasses.replace(TINY, outer=OuterRecipe(lr=0.5, minimum=0.9))
    state = new_training_state(recipe, ALONE.device)
    step(state, both(recipe), recipe, 1e-3, ALONE)
    assert state.weights.min() == 0.9


def test_bf16_computes_nearly_the_same_and_keeps_float32_parameters():
    recipe = dataclasses.replace(TINY, compute=ComputeRecipe(precision="bf16"))
    exact = step(new_training_state(TINY, ALONE.device), both(TINY), TINY, 1e-3, ALONE)
    state = new_training_state(recipe, ALONE.device)
    mixed = step(state, both(recipe), recipe, 1e-3, ALONE)
    assert torch.allclose(mixed.losses, exact.losses, atol=0.02)
    assert not torch.equal(mixed.losses, exact.losses)
    assert all(p.dtype == torch.float32 for p in state.params.values())
    a, b = mixed.weight_gradient, exact.weight_gradient
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.95


def test_the_memory_layout_changes_only_the_rounding():
    recipe = dataclasses.replace(TINY, compute=ComputeRecipe(channels_last=False))
    last = step(new_training_state(TINY, ALONE.device), both(TINY), TINY, 1e-3, ALONE)
    first = step(new_training_state(recipe, ALONE.device), both(recipe), recipe, 1e-3, ALONE)
    assert torch.allclose(last.losses, first.losses, atol=1e-5)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_trains_a_few_steps(name, photographs, tmp_path):
    index, entries = photographs
    small = ["encoder.name=resnet10", "encoder.width=8", "text.layers=1", "text.width=32", "text.heads=2"]
    sizes = [
        "inner.batch_size=8",
        "inner.epochs=1",
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


def test_ties_move_the_levels_but_never_empty_them():
    """ISO 100 in seventy photographs, 200 and 400 in fifteen each: no cut falls between equal values."""
    recipe = dataclasses.replace(TINY, losses=LossRecipe(ordinal=OrdinalRecipe(target="level")))
    values = [100.0] * 70 + [200.0] * 15 + [400.0] * 15
    tags = [dict.fromkeys(ORDINAL, value) for value in values]
    edges = new_training_state(recipe, ALONE.device, tags).level_edges["iso_speed"]
    levels = as_classes(torch.tensor([100.0, 200.0, 400.0], dtype=torch.float64), edges).tolist()
    assert levels[0] == 0 and levels[0] < levels[1] <= levels[2]


def test_a_tag_that_is_aligned_has_its_terciles_as_classes():
    aligned = LossRecipe(ordinal=OrdinalRecipe(target="level"))
    recipe = dataclasses.replace(TINY, losses=aligned)
    state = new_training_state(
        recipe,
        ALONE.device,
        [dict.fromkeys(ORDINAL, v) for v in range(9)],
    )
    edges = state.level_edges["iso_speed"]
    assert as_classes(torch.tensor([0.0, 2.0, 3.0, 5.0, 6.0, 99.0, math.nan]), edges).tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        -1,
    ]
    with pytest.raises(DataError, match="no two photographs differ in iso_speed"):
        new_training_state(recipe, ALONE.device)


def test_a_divergence_stops_with_a_clear_word_and_leaves_the_weights():
    state = new_training_state(TINY, ALONE.device)
    with torch.no_grad():
        state.model.head.logit_scale.fill_(float("nan"))
    before = {name: p.detach().clone() for name, p in state.params.items()}
    with pytest.raises(DataError, match=r"diverged: the loss of coarse_manipulation.*lower inner\.lr"):
        step(state, both(TINY), TINY, 1e-3, ALONE)
    assert all(torch.equal(p, before[n]) for n, p in state.params.items() if "logit_scale" not in n)


def test_a_divergence_keeps_the_last_checkpoint(photographs, tmp_path):
    index, entries = photographs
    wild = dataclasses.replace(
        TINY, inner=dataclasses.replace(TINY.inner, lr=1e30, clip_norm=0.0, warmup=0.0)
    )
    with pytest.raises(DataError, match=r"training diverged.*lower inner\.lr"):
        train(wild, index, entries, tmp_path / "run", checkpoint_every_s=0)
    assert not (tmp_path / "run" / runs.ENCODER_FILE).exists()


def test_the_learning_rate_rises_then_falls_to_its_end():
    inner = InnerRecipe(lr=1.0, final_lr=0.1, warmup=0.1)
    course = [learning_rate(k, 100, inner) for k in range(101)]
    assert course[0] == pytest.approx(0.1) and max(course) == course[10] == 1.0
    assert course[55] == pytest.approx(0.55) and course[100] == pytest.approx(0.1)
