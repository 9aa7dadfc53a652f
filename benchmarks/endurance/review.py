"""How much memory the review of a large scan takes: to make, and in the browser that shows it.

    python -m benchmarks.endurance.review PICTURES [--faces 100000] [--tmp FOLDER]

The rows are made of a real scan's thumbnails: the pictures of the folder are scanned and made small once, and
then stand for as many faces as are asked for, each with hashes of its own, so that none is taken for a copy.
What is left out is the decoding of the rest, whose memory is that of one picture in each process. Then
Chromium opens the folder, if it is there, and goes to the end. Prints a Markdown table.
"""

from __future__ import annotations

import itertools
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.commands import scan
from benchmarks.tables import heading, parser, row
from bladescan.processes.resources import resident_bytes
from bladescan.reviewing.byte_spool import open_byte_spool
from bladescan.reviewing.deck import Deck
from bladescan.reviewing.review import ReviewOptions, write_page
from bladescan.reviewing.small_pictures import thumbnail_pool, with_thumbnails
from bladescan.reviewing.thumbnail_process import Thumbnails, ThumbnailSettings
from bladescan.reviewing.verdict_files import ReviewedImage, open_verdicts

MIB = 1 << 20


def many(verdicts: Path, n: int) -> Iterator[tuple[ReviewedImage, Thumbnails]]:
    """Rows with their thumbnails, until there are ``n`` faces: those of a file again and again."""
    with thumbnail_pool(2, ThumbnailSettings()) as pool:
        pool.start()
        known = [item for item in with_thumbnails(open_verdicts(verdicts).images, pool) if item[0].faces]
    rng, n_faces = random.Random(1), 0
    for number, (image, seen) in enumerate(itertools.cycle(known)):
        if n_faces >= n:
            return
        n_faces += len(image.faces)
        picture = msgspec.structs.replace(seen.pictures[0], likeness=rng.getrandbits(64))
        named = msgspec.structs.replace(image, path=f"{number % 1000:04}/{number:07}-{Path(image.path).name}")
        yield named, msgspec.structs.replace(seen, sha256=f"{number:064x}", pictures=(picture,))


def in_browser(page: Path) -> list[str]:
    """Elements, MiB of the script's heap and of the page's process: after opening, and at the end."""
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        return ["no browser"]
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "js-flags=--expose-gc"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    try:
        driver.set_page_load_timeout(600)
        driver.get(page.resolve().as_uri())
        time.sleep(3)
        opened = _of_page(driver)
        for top in range(0, 2_000_000, 40_000):
            driver.execute_script("scrollTo(0, arguments[0])", top)
            time.sleep(0.1)
        driver.execute_script("go(deck.count - 1)")
        time.sleep(3)
        return [opened, _of_page(driver)]
    finally:
        driver.quit()


def _of_page(driver: object) -> str:
    script = "gc(); return [document.querySelectorAll('*').length, performance.memory.usedJSHeapSize]"
    n_elements, heap = driver.execute_script(script)  # type: ignore[attr-defined]
    renderers = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"--type=renderer" in path.read_bytes()
    ]
    resident = max(map(resident_bytes, renderers), default=0)
    return f"{n_elements} elements, {heap / MIB:.0f} MiB of script, {resident / MIB:.0f} MiB of process"


def measured(verdicts: Path, n_faces: int, folder: Path) -> Iterator[tuple[str, str]]:
    """What was measured, and how much it is."""
    started = time.monotonic()
    with open_byte_spool() as spool:
        deck = Deck(spool, None)
        for image, seen in many(verdicts, n_faces):
            deck.add(image, seen)
        opened = open_verdicts(verdicts)
        counts = write_page(opened, deck, ReviewOptions(folder / "review"))
    yield "cards, rows", f"{counts.n_cards:,}, {counts.n_rows:,}"
    yield "seconds but for decoding", f"{time.monotonic() - started:.0f}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield "peak memory of making", f"{peak / MIB:.0f} MiB"
    whole = sum(path.stat().st_size for path in counts.page.parent.rglob("*") if path.is_file())
    yield "index.html; whole folder", f"{counts.page.stat().st_size / MIB:.1f} MiB; {whole / MIB:,.0f} MiB"
    for when, told in zip(("opened", "at the end"), in_browser(counts.page), strict=False):
        yield f"the page, {when}", told


def main() -> None:
    """Measure, and print each row as it comes."""
    options = parser(__spec__, __doc__)
    options.add_argument("pictures", type=Path)
    options.add_argument("--faces", type=int, default=100_000)
    options.add_argument("--tmp", type=Path)
    asked = options.parse_args()
    print(heading("what", "measured"))
    with tempfile.TemporaryDirectory(dir=asked.tmp) as folder:
        verdicts = Path(folder) / "v.jsonl"
        scan(asked.pictures, "-o", verdicts)
        for what, found in measured(verdicts, asked.faces, Path(folder)):
            print(row(what, found), flush=True)


if __name__ == "__main__":
    main()
