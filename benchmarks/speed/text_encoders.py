"""What encoding all prompts costs: shared beginnings once, against padding, side by side in one run.

    python -m benchmarks.speed.text_encoders [--repeats 3] [--threads 2]

Prints one Markdown row per encoder and way: milliseconds of a forward pass, and of a forward and a backward
pass over every parameter (medians). The ways take turns, so that a busy machine slows them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.tables import heading, parser, row
from benchmarks.timing import Work, in_turns
from bladescan.networks.text_encoders import TEXT_ENCODERS, TextEncoder
from bladescan.networks.tokenisers import VOCABULARIES, tokenise
from bladescan.tasks import pretext_tasks as tasks


def padded(encoder: TextEncoder, length: int) -> Callable[[], Tensor]:
    """The same embeddings by the usual way: a batch of prompts padded to one length, causal attention."""
    tokens = tokenise(encoder.name, encoder.prompts)
    ids = torch.full((len(encoder.prompts), length), VOCABULARIES[encoder.name].end)
    ids[:, : tokens.ids.shape[1]] = tokens.ids
    place = {token: row for row, token in enumerate(encoder.token_ids)}
    rows = torch.tensor([[place.get(token, 0) for token in row] for row in ids.tolist()])

    def embed() -> Tensor:
        x = encoder.token_embedding(rows) + encoder.positional_embedding[:length]
        for block in encoder.transformer.resblocks:
            y = functional.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
            q, k, v = y.view(len(rows), length, 3, encoder.heads, -1).permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block.attn.out_proj(y.transpose(1, 2).flatten(2))
            x = x + block.mlp(block.ln_2(x))
        x = encoder.ln_final(x)[torch.arange(len(rows)), tokens.lengths - 1]
        x = x if encoder.text_projection is None else x @ encoder.text_projection
        return x if encoder.text_fc is None else encoder.text_fc(x)

    return embed


def measure(name: str, repeats: int) -> None:
    """Print the rows of one encoder; the ways must agree first."""
    torch.manual_seed(0)
    encoder = TextEncoder(name, tasks.prompts(tasks.TASKS))
    longest = int(tokenise(name, encoder.prompts).lengths.max())
    ways: dict[str, Callable[[], Tensor]] = {
        "shared beginnings once": encoder,
        f"padded to the longest ({longest})": padded(encoder, longest),
        "padded to 77": padded(encoder, 77),
    }
    parameters = list(encoder.parameters())
    with torch.no_grad():
        want = encoder()
        for embed in ways.values():
            torch.testing.assert_close(embed(), want, rtol=0, atol=1e-4)
        forward = in_turns(ways, repeats)
    backward: dict[str, Work] = {
        way: lambda e=embed: torch.autograd.grad(e().square().sum(), parameters)
        for way, embed in ways.items()
    }
    both = in_turns(backward, repeats)
    for way in ways:
        print(row(name, way, *(f"{1e3 * median(took[way]):.0f}" for took in (forward, both))), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure both encoders."""
    options = parser(__spec__, __doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    asked = options.parse_args(argv)
    torch.set_num_threads(asked.threads)
    print(heading("encoder", "way", "forward, ms", "forward and backward, ms"))
    for name in TEXT_ENCODERS:
        measure(name, asked.repeats)


if __name__ == "__main__":
    main()
