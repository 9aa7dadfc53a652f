"""The ablations of the paper's Table 7 on a small recipe: one Markdown table, mean and spread over seeds.

    BLADESCAN_DATA=... python -m benchmarks.quality.ablations -o FOLDER --recipe NAME --set KEY=VALUE

Every row is the base recipe (``--recipe`` and ``--set``) with the switches of the shipped recipe that `ROWS`
names, trained by ``bladescan train`` into FOLDER/ROW-SEED and scored as `selection` does: photographs of
sources never trained on against the AI-generated faces of the training pool. ``start`` is the encoder before
training. Scores go to FOLDER/results.csv run by run. Killed and started again, it goes on where it was; a
later call may add rows, seeds or matches.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import statistics as st
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
import yaml

from benchmarks.commands import bladescan_command
from benchmarks.quality.selection import (
    HELD_OUT,
    MATCHES,
    N_COMPONENTS,
    PHOTOGRAPHS,
    Images,
    Scores,
    embed,
    groups,
    matched,
    score,
    training_photographs,
    untrained,
)
from benchmarks.tables import parser, say, table
from bladescan.base.output_files import write_file
from bladescan.detectors.manifest import Preprocessing
from bladescan.photographs.indexing import open_index
from bladescan.tasks.pretext_tasks import PAPER_TASKS
from bladescan.tasks.recipe import Recipe
from bladescan.tasks.recipe_files import EXTENDS, load_recipe, recipe_digest
from bladescan.tasks.shipped_recipes import shipped_recipes
from bladescan.training.job import INDEX_FILE
from bladescan.training.runs import ENCODER_FILE, RECIPE_FILE, load_encoder_run

START = "start"
ROWS = {
    START: None,
    "full": None,
    "equal-weights": "blades-equal-weights",
    "gamma-0": "blades-gamma-0",
    "no-ranking": "blades-no-ranking",
    "no-joint": "blades-no-joint",
    "exif": "blades-exif",
    "manipulation": "blades-manipulation",
}
"""Rows of the table, and the shipped recipe whose switches make them."""
RESULTS_FILE = "results.csv"


class Result(NamedTuple):
    """One line of the results."""

    row: str
    seed: int
    recipe_sha256: str
    match: str
    n_components: int
    head: str
    generator: str
    auc: float


# Recipes


def switches(row: str) -> list[str]:
    """What a row changes, as overrides: the keys of its shipped recipe."""
    name = ROWS[row]
    if name is None:
        return []
    tree = yaml.safe_load(shipped_recipes()[name])
    return [*overrides({key: value for key, value in tree.items() if key not in (EXTENDS, "name")})]


def overrides(tree: Mapping[str, Any], path: str = "") -> Iterable[str]:
    """Keys and values as ``dotted.key=value``; tasks are replaced whole."""
    for key, value in tree.items():
        if isinstance(value, dict) and key != "tasks":
            yield from overrides(value, f"{path}{key}.")
        else:
            written = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n")
            yield f"{path}{key}={written.strip()}"


def changes_of(row: str, seed: int, base: Sequence[str]) -> list[str]:
    """All overrides of one run."""
    return [*base, *switches(row), f"name={row}", f"seed={seed}"]


def missing_from_full(recipe: Recipe) -> list[str]:
    """What a base recipe lacks of the whole method: without it, a row would take away nothing."""
    wanted = {
        "outer.enabled=true": recipe.outer.enabled,
        "head=joint": recipe.head == "joint",
        "losses.gamma=2.0": recipe.losses.gamma > 0,
        "losses.ordinal.target=ranking": recipe.losses.ordinal.target == "ranking",
        "tasks={" + ", ".join(f"{name}: 1.0" for name in PAPER_TASKS) + "}": set(recipe.tasks)
        == set(PAPER_TASKS),
    }
    return [change for change, is_there in wanted.items() if not is_there]


# Results


def read_results(path: Path) -> list[Result]:
    """The lines so far."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [msgspec.convert(line, Result, strict=False) for line in [*csv.reader(file)][1:]]


def add_results(path: Path, results: Iterable[Result]) -> None:
    """Add lines, all or none."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([Result._fields, *read_results(path), *results])
    write_file(path, text.getvalue().encode())


def means(results: Iterable[Result], match: str) -> str:
    """One line per row: mean over generators, mean and standard deviation of that over seeds."""
    chosen = [result for result in results if result.match == match]
    generators = sorted({result.generator for result in chosen})
    rows = [row for row in ROWS if any(result.row == row for result in chosen)]
    lines = []
    for row in rows:
        own = [result for result in chosen if result.row == row]
        cells = [*cells_of(own, "one-class", generators), *cells_of(own, "binary", generators)]
        lines.append([row, len({result.seed for result in own}), *cells])
    return table(["row", "seeds", "one-class", *generators, "binary", *generators], lines)


def cells_of(results: Sequence[Result], head: str, generators: Sequence[str]) -> list[str]:
    """Mean over generators with its spread over seeds, then the mean of each generator."""
    own = [result for result in results if result.head == head]
    by_seed = [st.mean(r.auc for r in own if r.seed == seed) for seed in sorted({r.seed for r in own})]
    spread = f" ± {st.stdev(by_seed):.3f}" if len(by_seed) > 1 else ""
    by_generator = [st.mean(r.auc for r in own if r.generator == name) for name in generators]
    return [f"{st.mean(by_seed):.3f}{spread}", *(f"{mean:.2f}" for mean in by_generator)]


# Runs


def is_finished(run: Path, recipe: Recipe) -> bool:
    """Whether a run of just this recipe is complete."""
    if not (run / ENCODER_FILE).exists():
        return False
    return recipe_digest(load_recipe(str(run / RECIPE_FILE))) == recipe_digest(recipe)


def train(
    run: Path, recipe: str, changes: Iterable[str], photographs: Iterable[Path], index: Path, n_threads: int
) -> None:
    """Train, or go on; the command refuses a folder of another recipe."""
    command = bladescan_command("train", "--recipe", recipe, "--photos", "-", "-o", run, "--index", index)
    command += ["--resume", "--quiet"]
    for change in changes:
        command += ["--set", change]
    names = "".join(f"{path}\n" for path in photographs).encode()
    environment = {**os.environ, "OMP_NUM_THREADS": str(n_threads)}
    subprocess.run(command, input=names, env=environment, check=True, stdout=sys.stderr)


def scored(encoder: torch.nn.Module, crops: Mapping[str, Images], p: Preprocessing, n: int) -> Scores:
    """Scores of an encoder; ``n`` is the most components of the mixture."""
    return score({name: embed(encoder, images, p) for name, images in crops.items()}, n)


def main(argv: Sequence[str] | None = None) -> None:
    asked = arguments(argv)
    if lacks := missing_from_full(load_recipe(asked.recipe, asked.set)):
        sys.exit(f"{asked.recipe} is not the whole method: add --set '" + "' --set '".join(lacks) + "'")
    torch.set_num_threads(asked.threads)
    data = Path(os.environ["BLADESCAN_DATA"]).absolute()
    asked.output.mkdir(parents=True, exist_ok=True)
    index = asked.index or asked.output / INDEX_FILE
    photographs = training_photographs(data)
    found = groups(data, open_index(index, "auto"))
    crops = {match: {name: matched(items, match) for name, items in found.items()} for match in asked.matches}
    say(", ".join(f"{name} {len(items)}" for name, items in found.items()))
    digests = {}
    for seed in asked.seeds:  # a table of few seeds can be read before the last is done
        for row in asked.rows:
            changes = changes_of(row, seed, asked.set)
            recipe = load_recipe(asked.recipe, changes)
            digests[row, seed] = recipe_digest(recipe)
            keys = {(row, seed, digests[row, seed], match, asked.components) for match in asked.matches}
            missing = keys - {result[:5] for result in read_results(asked.output / RESULTS_FILE)}
            if not missing:
                continue
            run = asked.output / f"{row}-{seed}"
            if row != START and not is_finished(run, recipe):
                say(f"{row}, seed {seed}: training")
                train(run, asked.recipe, changes, photographs, index, asked.threads)
            for key in sorted(missing):
                results = measured(run if row != START else None, recipe, key, crops[key[3]])
                add_results(asked.output / RESULTS_FILE, results)
    report(asked, digests, {name: len(items) for name, items in found.items()})


def measured(
    run: Path | None, recipe: Recipe, key: tuple[str, int, str, str, int], crops: Mapping[str, Images]
) -> list[Result]:
    """The lines of one run, or of the encoder before training, at one match."""
    if run is None:
        encoder, p = untrained(recipe), Preprocessing()
    else:
        loaded = load_encoder_run(run)
        encoder, p = loaded.encoder, loaded.manifest.preprocessing
    scores = scored(encoder, crops, p, key[-1])
    mean = st.mean(scores.one_class.values())
    say(f"{key[0]}, seed {key[1]}, {key[3]}: one-class {mean:.3f}, {scores.shape}")
    heads = {"one-class": scores.one_class, "binary": scores.binary}
    return [Result(*key, head, name, value) for head, aucs in heads.items() for name, value in aucs.items()]


def report(
    asked: argparse.Namespace, digests: Mapping[tuple[str, int], str], sizes: Mapping[str, int]
) -> None:
    """Print the table of what was asked for."""
    results = [
        result
        for result in read_results(asked.output / RESULTS_FILE)
        if digests.get((result.row, result.seed)) == result.recipe_sha256
        and result.n_components == asked.components
    ]
    against = ", ".join(f"{n} {name}" for name, n in sizes.items() if name not in (PHOTOGRAPHS, HELD_OUT))
    print(
        f"{sizes[HELD_OUT]} photographs of sources not trained on against {against}; {asked.recipe}", end=""
    )
    print("".join(f" --set {change}" for change in asked.set))
    for match in asked.matches:
        print(f"\nBoth classes at {match}:\n\n{means(results, match)}")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser(__spec__, __doc__)
    options.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options.add_argument("--recipe", default="blades-small", help="base recipe: a name or a file")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change its keys")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    options.add_argument("--matches", nargs="+", choices=MATCHES, default=[next(iter(MATCHES))])
    options.add_argument(
        "--components", type=int, default=N_COMPONENTS, help="most components of the mixture"
    )
    options.add_argument("--index", type=Path, help="file of the photographs; default: FOLDER/" + INDEX_FILE)
    options.add_argument("--threads", type=int, default=1)
    return options.parse_args(argv)


if __name__ == "__main__":
    main()
