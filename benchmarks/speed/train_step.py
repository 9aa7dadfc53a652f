"""One bi-level training step: bladescan's against a plain reading of the released one (`plain_step.py`).

    python -m benchmarks.speed.train_step           # CPU, float32; about two minutes on two free cores
    python -m benchmarks.speed.train_step --device cuda --precision bf16 --batch-size 48 --steps 20

Both take the same eleven tasks, weights, random images and truth, in one process, by turns. What is compared:

- seconds: the median of the steps (on a GPU after one that is not counted) and their ratio;
- the gradient of the task weights in the first step, |a - b| / |b|: at full size against ours, and with
  ``--reference`` against ours in float64; and on a small model in float32 and in float64, where rounding
  cannot hide a difference of the formulas;
- memory: each alone in a process of its own; the peak of its resident set on a CPU, without what was resident
  before the model was made, and of what torch allocated on a GPU.

Expected: at least 2 times faster on a CPU in float32, at least 4 times on a GPU in bf16; gradients equal to
1e-4 in float32 and to 1e-9 in float64. With ``--precision bf16`` the plain step runs twice, under autocast to
bf16 and as released in float32.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.speed import plain_step
from benchmarks.tables import parser, table
from bladescan.networks.text_encoders import TEXT_ENCODERS, TextEncoder
from bladescan.pretext.examples import Batch
from bladescan.pretext.model import JointHead
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.pretext_tasks import TaskKind
from bladescan.tasks.recipe import ComputeRecipe, EncoderRecipe, InnerRecipe, Recipe, TextRecipe
from bladescan.training.distributed import World
from bladescan.training.minibatches import Minibatch
from bladescan.training.state import TrainingState, new_training_state
from bladescan.training.step import step

OURS, PLAIN, PLAIN_BF16 = "bladescan", "plain float32", "plain bf16"
SHARE_MISSING = 0.1
Step = Callable[[Minibatch], Tensor]
"""Does one step; returns the gradient of the task weights, ``[11]``."""


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.alone:
        print(json.dumps(peak_bytes(options)))
        return
    print(heading(options))
    names = contenders(options)
    seconds, gradients = race(options, names)
    peaks = {name: measured_alone(name) for name in names}
    print(report(seconds, gradients, peaks))
    if options.reference:
        print(f"\nGradient, difference to float64: {against_float64(options, gradients)}")
    small = {dtype: small_difference(dtype) for dtype in (torch.float32, torch.float64)}
    print("\nSmall model: " + ", ".join(f"difference in {d} {x:.1e}" for d, x in small.items()))


def arguments() -> argparse.Namespace:
    made = parser(__spec__, __doc__)
    made.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    made.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    made.add_argument("--encoder", default="resnet50", help="vision encoder")
    made.add_argument("--text", choices=list(TEXT_ENCODERS), default="clip")
    made.add_argument("--batch-size", type=int, default=8, help="of B_tr and of B_val; the paper's is 48")
    made.add_argument("--steps", type=int, default=2, help="timed steps")
    made.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves the number to it")
    made.add_argument("--compile", action="store_true", help="ours with torch.compile")
    made.add_argument("--reference", action="store_true", help="compare gradients with float64 as well")
    made.add_argument("--alone", choices=[OURS, PLAIN, PLAIN_BF16], help=argparse.SUPPRESS)
    return made.parse_args()


def heading(options: argparse.Namespace) -> str:
    where = torch.cuda.get_device_name(options.device) if "cuda" in options.device else "CPU"
    return (
        f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}; {options.encoder} and "
        f"{options.text}, minibatch {options.batch_size}, {options.precision}, {options.steps} steps\n"
    )


def contenders(options: argparse.Namespace) -> list[str]:
    return [OURS, PLAIN_BF16, PLAIN] if options.precision == "bf16" else [OURS, PLAIN]


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The paper's recipe but for the sizes asked for."""
    return Recipe(
        encoder=EncoderRecipe(name=options.encoder),
        text=TextRecipe(name=options.text),
        inner=InnerRecipe(batch_size=options.batch_size),
        compute=ComputeRecipe(precision=options.precision, compile=options.compile),
    )


def race(
    options: argparse.Namespace, names: list[str], has_time: Callable[[], bool] = lambda: True
) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """Seconds of every timed step and the first step's gradient, by contender.

    When the time is over, the steps that are left are left out, but for the first that counts.
    """
    steps = {name: stepper(name, recipe_of(options), torch.device(options.device)) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gradients: dict[str, Tensor] = {}
    # A GPU's first step chooses kernels; a CPU's is like any other.
    n_warmup = 1 if "cuda" in options.device else 0
    for number in range(options.steps + n_warmup):
        if number > n_warmup and not has_time():
            break
        minibatch = random_minibatch(options.batch_size, seed=number, device=options.device)
        for name in names if number % 2 else reversed(names):
            taken, gradient = timed(steps[name], minibatch, options.device)
            print(f"{name}: {taken:.3f} s", file=sys.stderr)
            gradients.setdefault(name, gradient.double().cpu())
            if number >= n_warmup:
                seconds[name].append(taken)
    return seconds, gradients


def timed(do_step: Step, minibatch: Minibatch, device: str) -> tuple[float, Tensor]:
    gc.collect()
    synchronise(device)
    start = time.perf_counter()
    gradient = do_step(minibatch)
    synchronise(device)
    return time.perf_counter() - start, gradient


def synchronise(device: str) -> None:
    if "cuda" in device:
        torch.cuda.synchronize(device)


def stepper(name: str, recipe: Recipe, device: torch.device, dtype: torch.dtype = torch.float32) -> Step:
    """A contender with the same first weights as every other."""
    state = new_training_state(recipe, device)
    state.model.to(dtype)
    if name == OURS:
        return our_step(state, recipe)
    autocast = torch.bfloat16 if name == PLAIN_BF16 else None
    return plain_step_of(plain_model(state, recipe), recipe, autocast)


def our_step(state: TrainingState, recipe: Recipe) -> Step:
    world = World(device=state.model.mean.device)

    def do_step(minibatch: Minibatch) -> Tensor:
        result = step(state, minibatch, recipe, recipe.inner.lr, world)
        assert result.weight_gradient is not None
        return result.weight_gradient

    return do_step


def plain_step_of(model: plain_step.Model, recipe: Recipe, autocast: torch.dtype | None) -> Step:
    inner = recipe.inner
    weights = torch.ones(len(recipe.tasks)).to(model.mean).requires_grad_()
    optimizer = torch.optim.AdamW(model.parameters(), lr=inner.lr, weight_decay=inner.weight_decay)
    weights_optimizer = torch.optim.Adam([weights], lr=recipe.outer.lr)
    settings = plain_step.Settings(alpha=inner.lr, autocast=autocast)

    def do_step(minibatch: Minibatch) -> Tensor:
        training, validation = (plain_step.Examples(*batch) for batch in minibatch)
        outcome = plain_step.plain_step(
            model, weights, training, validation, optimizer, weights_optimizer, settings
        )
        return outcome.gradient

    return do_step


def plain_model(state: TrainingState, recipe: Recipe) -> plain_step.Model:
    """The plain model with a state's weights."""
    theirs = state.model
    assert isinstance(theirs.head, JointHead) and isinstance(theirs.head.text, TextEncoder)
    model = plain_step.Model(
        copy.deepcopy(theirs.vision).to(memory_format=torch.contiguous_format),
        plain_text(theirs.head.text, recipe),
        recipe.text.temperature,
    )
    model = model.to(theirs.mean.device, theirs.mean.dtype)
    with torch.no_grad():
        model.logit_scale.copy_(theirs.head.logit_scale)
    return model


def plain_text(encoder: TextEncoder, recipe: Recipe) -> nn.Module:
    """The plain text transformer with the weights of ours, which keeps only the rows that it needs."""
    layout = TEXT_ENCODERS[encoder.name]
    layers = layout.layers if recipe.text.layers is None else recipe.text.layers
    heads = encoder.transformer.resblocks[0].attn.heads
    text = plain_step.Text(encoder.name, layers, encoder.width, heads, encoder.embedding_dim)
    state = {key: value.cpu() for key, value in encoder.state_dict().items()}
    rows = torch.randn(text.token_embedding.weight.shape, generator=torch.Generator().manual_seed(0)) * 0.02
    rows = rows.to(state["token_embedding.weight"].dtype)
    rows[list(encoder.token_ids)] = state["token_embedding.weight"]
    text.to(rows.dtype).load_state_dict(state | {"token_embedding.weight": rows})
    return text


def random_minibatch(b: int, *, seed: int, device: str = "cpu", size: int = 224) -> Minibatch:
    """B_tr and B_val: smooth images with noise, each with colours of its own, and random truth."""
    generator = torch.Generator().manual_seed(seed)
    return Minibatch(*(random_batch(b, generator, device, size) for _ in range(2)))


def random_batch(b: int, generator: torch.Generator, device: str, size: int) -> Batch:
    smooth = interpolate(torch.rand(b, 3, 7, 7, generator=generator), size=(size, size), mode="bicubic")
    noisy = (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)
    pixels = (255 * noisy).byte().permute(0, 2, 3, 1).contiguous()
    targets = {name: random_targets(name, b, generator).to(device) for name in tasks.TASKS}
    return Batch(pixels.to(device), targets)


def random_targets(name: str, b: int, generator: torch.Generator) -> Tensor:
    """Some of it missing, as in photographs."""
    task = tasks.find_task(name)
    missing = torch.rand(b, generator=generator) < SHARE_MISSING
    if task.kind is TaskKind.ORDINAL:
        values = torch.rand(b, generator=generator, dtype=torch.float64)
        return values.masked_fill(missing, torch.nan)
    if task.kind is TaskKind.FINE:
        regions = torch.randint(2, (b, len(task.classes)), generator=generator).float()
        return regions.masked_fill(missing[:, None], torch.nan)
    classes = torch.randint(len(task.classes), (b,), generator=generator)
    return classes.masked_fill(missing, -1)


def small_difference(dtype: torch.dtype) -> float:
    """Relative difference of the task weights' gradients, ours to the plain one, on a small model."""
    recipe = Recipe(
        encoder=EncoderRecipe(name="resnet10", width=16, embedding_dim=64),
        text=TextRecipe(name="clip", layers=2, width=64),
        inner=InnerRecipe(batch_size=8),
    )
    minibatch = random_minibatch(8, seed=0, size=64)
    ours, plain = (stepper(name, recipe, torch.device("cpu"), dtype)(minibatch) for name in (OURS, PLAIN))
    return difference(ours, plain)


def against_float64(options: argparse.Namespace, gradients: dict[str, Tensor]) -> str:
    """Relative difference of each first step's gradient to that of ours in float64."""
    exact = argparse.Namespace(**vars(options) | {"precision": "fp32"})
    do_step = stepper(OURS, recipe_of(exact), torch.device(options.device), torch.float64)
    reference = do_step(random_minibatch(options.batch_size, seed=0, device=options.device)).cpu()
    return ", ".join(f"{name} {difference(gradient, reference):.1e}" for name, gradient in gradients.items())


def difference(ours: Tensor, plain: Tensor) -> float:
    return float((ours - plain).norm() / plain.norm())


def peak_bytes(options: argparse.Namespace) -> int:
    """Memory that one contender's step takes in this process."""
    device = torch.device(options.device)
    before = resident_peak()
    do_step = stepper(options.alone, recipe_of(options), device)
    do_step(random_minibatch(options.batch_size, seed=0, device=options.device))
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident_peak() - before


def resident_peak() -> int:
    """Of this process since it began; ``getrusage`` would count the process that started it as well."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    return 1024 * int(line.split()[1])


def measured_alone(name: str) -> int:
    command = [sys.executable, "-m", "benchmarks.speed.train_step", *sys.argv[1:], "--alone", name]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def report(seconds: dict[str, list[float]], gradients: dict[str, Tensor], peaks: dict[str, int]) -> str:
    header = ["step", "seconds, median", "fastest", "times ours", "peak memory, GB", "times ours"]
    rows, ours = [], statistics.median(seconds[OURS])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        times = f"{median:.3f}", f"{min(taken):.3f}", f"{median / ours:.2f}"
        memory = f"{peaks[name] / 1e9:.2f}", f"{peaks[name] / peaks[OURS]:.2f}"
        rows.append([name, *times, *memory, f"{difference(gradients[OURS], gradients[name]):.1e}"])
    return table([*header, "gradient, difference to ours"], rows)


if __name__ == "__main__":
    main()
