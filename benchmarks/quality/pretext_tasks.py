"""How well a run answers its pretext tasks on photographs and camera models that it did not learn from.

    python -m benchmarks.quality.pretext_tasks RUN INDEX.sqlite PHOTOS... > table.md

PHOTOS are those of ``bladescan train``, so that the split is the run's own. Each held-out photograph is drawn
`N_DRAWS` times. EXIF tags are answered once per photograph, from its mean outputs; manipulations once per
example. Intervals are of 95%, by bootstrap over camera models (a photograph without one stands for itself).
Chance is what the best constant answer reaches. The last column is the task's weight at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.tables import parser, table
from bladescan.photographs.index import IndexEntry
from bladescan.photographs.indexing import index_photographs, open_index
from bladescan.pretext.examples import Batch, batch_of
from bladescan.sources.listing import list_sources
from bladescan.sources.query import SourceQuery
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.recipe_files import load_recipe
from bladescan.training import runs
from bladescan.training.distributed import ALONE
from bladescan.training.job import finder_for
from bladescan.training.minibatches import examples
from bladescan.training.photograph_split import split, split_digest
from bladescan.training.state import TrainingState, new_training_state
from bladescan.training.task_accuracy import TaskAccuracy, task_accuracies

N_DRAWS = 4
N_BOOTSTRAPS = 500

Answers = tuple[Tensor, dict[str, Tensor]]
"""Outputs ``[n, n_outputs]`` and truth by task, one row per example or per photograph."""


def held_out_answers(state: TrainingState, drawn: Sequence[Batch], n_draws: int) -> tuple[Answers, Answers]:
    """Of every example, and of every photograph by the mean of its examples."""
    outputs = torch.stack([state.model(batch.pixels) for batch in drawn])  # [photographs x draws, pair, ...]
    targets = {name: torch.stack([batch.targets[name] for batch in drawn]) for name in state.names}
    flat = {name: value.flatten(0, 1) for name, value in targets.items()}
    n = len(drawn) // n_draws
    whole = outputs.reshape(n, -1, outputs.shape[-1]).mean(1)
    first = {name: value.reshape(n, -1, *value.shape[2:])[:, 0] for name, value in targets.items()}
    return (outputs.flatten(0, 1), flat), (whole, first)


def measured(
    state: TrainingState, answers: tuple[Answers, Answers], rows: Tensor, per: int
) -> dict[str, TaskAccuracy]:
    """Every task on the photographs of ``rows``; ``per`` examples belong to each."""
    (outputs, targets), (whole, first) = answers
    wide = (rows[:, None] * per + torch.arange(per)).flatten()
    columns = state.model.columns
    manipulation = {name: columns[name] for name in tasks.MANIPULATION_TASKS if name in columns}
    exif = {name: where for name, where in columns.items() if name not in manipulation}
    examples = task_accuracies(outputs[wide], {k: v[wide] for k, v in targets.items()}, manipulation)
    return examples | task_accuracies(whole[rows], {k: v[rows] for k, v in first.items()}, exif)


def bootstrap_rows(entries: Sequence[IndexEntry], rng: np.random.Generator) -> Tensor:
    """Rows of cameras drawn with replacement."""
    groups: dict[str, list[int]] = {}
    for row, entry in enumerate(entries):
        groups.setdefault(entry.camera or entry.digest, []).append(row)
    names = list(groups)
    chosen = rng.integers(len(names), size=len(names))
    return torch.tensor([row for k in chosen for row in groups[names[k]]])


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    options = parser(__spec__, __doc__)
    options.add_argument("run", type=Path, metavar="RUN")
    options.add_argument("index", type=Path, metavar="INDEX.sqlite")
    options.add_argument("photos", nargs="+", metavar="PHOTOS")
    asked = options.parse_args(argv)
    report(asked.run, asked.index, asked.photos)


@torch.no_grad()
def report(run: Path, index_path: Path, photos: list[str]) -> None:
    recipe = load_recipe(str(run / runs.RECIPE_FILE))
    finder = finder_for(recipe, "auto")
    index = open_index(index_path, finder)
    sources = list_sources(SourceQuery(paths=tuple(photos)), stdin=None)
    listed = (source.name for source in sources if source.problem is None)
    found = index_photographs(listed, index, finder)
    used = {*found.faces, *found.patches}
    parts = split(recipe, [e for e in index.entries() if e.digest in used])
    state = new_training_state(recipe, ALONE.device, [e.tags for e in parts.train])
    n_steps = runs.load_checkpoint(run, state, split_digest(parts, index.finder))
    state.model.eval()
    data = examples(recipe, index, [e.digest for e in parts.held_out])
    drawn = [batch_of(data.draw((k, i))) for i in range(len(data)) for k in range(N_DRAWS)]
    answers = held_out_answers(state, drawn, N_DRAWS)
    per = N_DRAWS * len(drawn[0].pixels)
    point = measured(state, answers, torch.arange(len(data)), per)
    rng = np.random.default_rng(0)
    many = [measured(state, answers, bootstrap_rows(parts.held_out, rng), per) for _ in range(N_BOOTSTRAPS)]
    cameras = {e.camera for e in parts.held_out} - {""}
    print(
        f"After {n_steps} steps; {len(parts.train)} photographs learned from, {len(parts.validation)} for "
        f"the outer loop, {len(parts.held_out)} held out ({len(cameras)} camera models).\n"
    )
    rows, weights = [], state.named(state.weights)
    for name, m in point.items():
        low, high = np.quantile([b[name].accuracy for b in many if name in b], [0.025, 0.975])
        accuracy = f"{m.accuracy:.2f}", f"{low:.2f}-{high:.2f}", f"{m.chance:.2f}"
        rows.append([name, *accuracy, m.n, f"{weights[name]:.2f}"])
    print(table(["task", "accuracy", "95%", "chance", "photographs or examples", "weight"], rows))


if __name__ == "__main__":
    main()
