"""The page in a real browser, opened from the disk: what it shows, what keys do, what leaves it."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from bladescan.images.likeness import N_BITS
from bladescan.ledger.decisions import FaceDecision
from bladescan.ledger.ledger import Ledger
from bladescan.reviewing.byte_spool import open_byte_spool
from bladescan.reviewing.review import ReviewOptions, write_review
from tests.reviewing.reviews import (
    RUN,
    big_page,
    drawn,
    explanation,
    face,
    hostile_file,
    hostile_names,
    image,
    sha256,
    unreadable,
    write_rows,
)

pytestmark = pytest.mark.integration
CURRENT = ".card.current h2"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A page of all that there is: copies, two faces in a picture, no face, unreadable, declared, missing."""
    folder = tmp_path_factory.mktemp("few")
    names = ["flagged", "near", "calm", "tiny", "landscape", "declared", "vanished", "copy-1", "copy-2"]
    files = {name: drawn(folder / f"{name}.png", seed) for seed, name in enumerate(names)}
    for name in ("copy-1", "copy-2"):  # the same picture, saved anew
        files[name].write_bytes(files["flagged"].read_bytes() + name.encode())
    broken = folder / "broken.png"
    broken.write_bytes(b"\x89PNG and no more")
    rows = [
        image(files["calm"], face(-3.0), face(-4.0, (0, 0, 40, 90), 1)),
        image(files["flagged"], face(8.0)),
        image(files["near"], face(2.5)),
        image(files["tiny"], face(-1.0, (10, 10, 40, 50))),
        image(files["landscape"]),
        image(files["copy-1"], face(7.9)),
        image(files["copy-2"], face(7.8)),
        image(files["declared"], verdict="ai-generated", flagged_by="declared", declared="ai-generated",
              declared_by="png-text", declared_tool="Some <b>Tool</b>"),
        image(files["vanished"], face(1.0)),
        unreadable(broken, "truncated", "PNG: cut off"),
    ]  # fmt: skip
    files["vanished"].unlink()
    verdicts = write_rows(folder / "few.jsonl", rows)
    page = write_review(verdicts, ReviewOptions(folder / "few.html")).page
    return page, files | {"broken": broken}


@pytest.fixture
def tall(shown):
    """A window that shows every card of a small page."""
    shown.show(1280, 1600)
    return shown


BY_SCORE = ["flagged", "near", "declared", "vanished", "tiny", "calm", "calm"]
"""Flagged first; what nobody could look at comes before what has no face."""


def test_the_page_opens_from_the_disk_and_shows_every_face_once(few, tall):
    tall.open(few[0])
    assert tall.texts(".card h2") == [f"{name}.png" for name in (*BY_SCORE, "broken", "landscape")]
    assert tall.texts(".card:first-child .badge") == ["3 copies", "ai-generated"]
    assert tall.texts("#shown") == ["9 cards for 11 rows of the scan"]
    assert tall.value("document.querySelectorAll('.card:first-child img').length") == 1
    drawn_box = "document.querySelector('.card:first-child .box').getBBox()"
    assert tall.value(f"{drawn_box}.width") == pytest.approx(60, abs=0.1)
    assert tall.value("[...document.images].every(i => i.complete && i.naturalWidth === 224)")


def test_a_card_says_where_the_detector_is_weak_and_what_became_of_the_file(few, tall):
    tall.open(few[0])
    said = dict(zip(tall.texts(".card h2"), tall.texts(".card .facts"), strict=True))
    assert ", stable 75%" in tall.texts(".card .scored")[0]
    assert "small face" in said["tiny.png"] and "small face" not in said["near.png"]
    assert "missing" in said["vanished.png"]
    assert "the file declares: ai-generated (png-text, Some <b>Tool</b>)" in said["declared.png"]
    assert "unreadable: truncated" in said["broken.png"]
    assert "not-found" in tall.run("return document.querySelectorAll('.card')[3].textContent")


def test_a_card_says_what_each_detector_says_and_is_scrolled_to_its_end(tmp_path, tall):
    alone = {"fast": {"score": 1.0, "p_value": 0.0125}, "<b>other</b>": {"score": 2.0, "p_value": 0.5}}
    tool = "a tool that goes on and on, " * 12
    picture = image(drawn(tmp_path / "a.png", 1), face(8.0) | {"components": alone},
                    declared="ai-generated", declared_by="png-text", declared_tool=tool)  # fmt: skip
    short = image(drawn(tmp_path / "b.png", 2), face(1.0))
    verdicts = write_rows(tmp_path / "v.jsonl", [picture, short])
    tall.open(write_review(verdicts, ReviewOptions(tmp_path / "v.html")).page)
    tall.wait("document.querySelector('.card .facts').tabIndex === 0")
    said = tall.texts(".card .facts")
    assert "each alone: fast p 0.013, <b>other</b> p 0.5" in said[0] and "each alone" not in said[1]
    tall.run("const facts = document.querySelector('.card .facts'); facts.scrollTop = facts.scrollHeight")
    last, foot = (
        tall.value(f"document.querySelector('{one}').getBoundingClientRect().bottom")
        for one in (".card .facts li:last-child", ".card .facts")
    )
    assert last <= foot + 1
    assert tall.value("document.querySelectorAll('.card .facts')[1].tabIndex") == -1  # all of it is seen
    assert tall.violations() == []
    tall.click("[data-open]")
    assert "each alone: fast p 0.013" in tall.texts("dialog")[0]


def test_keys_decide_go_on_and_take_back(few, shown):
    shown.open(few[0])
    assert shown.texts(CURRENT) == ["flagged.png"]
    shown.press("a", "p", "u")
    assert shown.texts(CURRENT) == ["vanished.png"]
    assert shown.texts("#progress-said") == ["3 of 9 decided: 1 AI-generated, 1 Photographic, 1 Unsure"]
    assert shown.value("document.activeElement === document.querySelector('.card.current')")
    shown.press("z")
    assert shown.texts(CURRENT) == ["declared.png"]
    assert shown.texts("#progress-said") == ["2 of 9 decided: 1 AI-generated, 1 Photographic, 0 Unsure"]
    shown.press("k", "j", "j", "1")
    pressed = "[...document.querySelectorAll('[aria-pressed=true][data-choice]')].map(b => b.dataset.choice)"
    assert shown.value(pressed) == ["ai-generated", "photographic", "ai-generated"]
    assert shown.texts("#said") == ["ai-generated. 3 of 9 decided."]


def test_decisions_stay_in_the_browser_and_the_same_button_takes_one_back(few, shown):
    shown.open(few[0])
    shown.press("a", "p")
    shown.wait("Object.keys(localStorage).length === 1")
    shown.open(few[0], keep=True)
    assert shown.texts("#progress-said") == ["2 of 9 decided: 1 AI-generated, 1 Photographic, 0 Unsure"]
    shown.click(".card:first-child [data-choice=ai-generated]")
    assert shown.texts("#progress-said") == ["1 of 9 decided: 0 AI-generated, 1 Photographic, 0 Unsure"]


def test_a_browser_that_keeps_nothing_still_decides_and_says_so(few, shown):
    shown.open(few[0])
    refuses = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no') }})"
    script = shown.cdp("Page.addScriptToEvaluateOnNewDocument", {"source": refuses})
    try:
        shown.open(few[0], keep=True)
        assert not shown.value("document.getElementById('unkept').hidden")
        shown.press("a")
        shown.click("#export-lines")
        assert json.loads(shown.downloaded("decisions.jsonl").splitlines()[0])["decision"] == "ai-generated"
    finally:
        shown.cdp("Page.removeScriptToEvaluateOnNewDocument", script)


def test_the_export_names_every_copy_by_its_content(few, shown):
    page, files = few
    shown.open(page)
    shown.press("a", "p")
    shown.click("#export-lines")
    told = [json.loads(line) for line in shown.downloaded("decisions.jsonl").splitlines()]
    shown.click("#export-csv")
    table = list(csv.DictReader(io.StringIO(shown.downloaded("decisions.csv").decode())))
    names = ["flagged", "copy-1", "copy-2", "near"]
    assert [one["sha256"] for one in told] == [sha256(files[name]) for name in names]
    assert [one["path"] for one in told] == [str(files[name]) for name in names]
    assert [one["decision"] for one in told] == ["ai-generated"] * 3 + ["photographic"]
    assert [(one["verdict"], one["score"]) for one in told] == [
        ("ai-generated", s) for s in (8, 7.9, 7.8, 2.5)
    ]
    assert {one["schema"] for one in told} == {1} and {one["face"] for one in told} == {0}
    assert all(one["decided_at"].endswith("+00:00") for one in told)
    # Only the card itself was looked at; its copies are other files.
    assert [one["looked_at"] for one in told] == [True, False, False, True]
    assert {one["n_faces"] for one in told} == {1} and all(len(one["crop_hash"]) == 16 for one in told)
    assert [{**row, "place": json.loads(f"[{row['place'].replace(' ', ', ')}]")} for row in table] == [
        {name: str(value).lower() if name == "looked_at" else str(value) for name, value in one.items()}
        | {"place": one["place"]}
        for one in told
    ]


def test_what_was_exported_is_imported_again(few, shown, tmp_path):
    page, files = few
    decided = {"schema": 1, "sha256": sha256(files["near"]), "face": 0, "decision": "unsure"}
    file = tmp_path / "decisions.jsonl"
    file.write_text(json.dumps(decided | {"decided_at": "2026-01-02T03:04:05+00:00"}) + "\nno JSON\n")
    shown.open(page)
    shown.driver.find_element("id", "import-file").send_keys(str(file))
    shown.wait("document.getElementById('said').textContent === '1 decisions imported.'")
    shown.click("#export-lines")
    assert json.loads(shown.downloaded("decisions.jsonl"))["decided_at"] == "2026-01-02T03:04:05+00:00"


def test_a_page_on_which_all_is_decided_opens_and_says_so(shown, tmp_path):
    file = drawn(tmp_path / "a.png", 1)
    ledger = Ledger(str(tmp_path / "ledger"))
    place = (20 / 96, 20 / 96, 80 / 96, 85 / 96)
    ledger.keep_decisions([FaceDecision(sha256(file), 0, "a.png", "photographic", 0.0, place=place)])
    ledger.close()
    verdicts = write_rows(tmp_path / "v.jsonl", [image(file, face(8.0))])
    made = write_review(verdicts, ReviewOptions(tmp_path / "r.html", ledger=str(tmp_path / "ledger")))
    assert (made.n_cards, made.n_decided) == (0, 1)
    shown.open(made.page)
    shown.press("a", "j")  # of which nothing comes
    assert shown.texts("#shown") == ["No card passes these filters."]
    assert "1 decided earlier has no card." in shown.run("return document.body.textContent")
    options = ReviewOptions(tmp_path / "r.html", ledger=str(tmp_path / "ledger"), show_decided=True)
    shown.open(write_review(verdicts, options).page)
    assert "a reviewer decided on this very face" in shown.texts(".card")[0]


def test_filters_and_orders_choose_what_is_shown(few, tall):
    def names(change):
        tall.click("button[type=reset]")
        tall.wait("!document.getElementById('filters-said').textContent")
        tall.run(f"{change}; document.getElementById('filter-form').dispatchEvent(new Event('input'))")
        return [name.removesuffix(".png") for name in tall.texts(".card h2")]

    def ticked(fieldset, label):
        labels = f"[...document.querySelectorAll('#filter-{fieldset} label')]"
        return names(
            f"{labels}.find(l => l.textContent.includes('{label}')).querySelector('input').checked = true"
        )

    tall.open(few[0])
    tall.press("a")
    assert ticked("verdict", "ai-generated") == ["flagged", "near", "declared"]
    assert ticked("decision", "undecided") == [*BY_SCORE[1:], "broken", "landscape"]
    assert ticked("declared", "ai-generated") == ["declared"]
    assert ticked("reason", "truncated") == ["broken"]
    assert ticked("spots", "missing") == ["vanished"]
    assert names("document.getElementById('score-low').value = 2") == ["flagged", "near"]
    assert names("document.getElementById('side-high').value = 50") == [
        "declared",
        "tiny",
        "broken",
        "landscape",
    ]
    assert names("document.getElementById('folder').value = 'no such'") == []
    assert tall.texts("#shown") == ["No card passes these filters."]
    tall.press("a")  # of which nothing comes
    tall.click("button[type=reset]")
    tall.wait("document.querySelectorAll('.card').length === 9")
    choose = "const e = document.getElementById('order'); e.value = arguments[0]"
    tall.run(f"{choose}; e.dispatchEvent(new Event('change'))", "listed")
    assert tall.texts(".card h2")[:3] == ["calm.png", "calm.png", "flagged.png"]
    tall.run(f"{choose}; e.dispatchEvent(new Event('change'))", "threshold")
    assert tall.texts(".card h2")[:3] == ["near.png", "vanished.png", "tiny.png"]
    listed = tall.texts(".card h2")
    tall.run(f"{choose}; e.dispatchEvent(new Event('change'))", "random")
    drawn_at_random = tall.texts(".card h2")
    assert sorted(drawn_at_random) == sorted(listed)
    assert drawn_at_random not in (listed, [f"{name}.png" for name in BY_SCORE])


def test_details_open_and_close_by_key_and_blurred_faces_are_asked_for(few, shown):
    shown.open(few[0])
    shown.press("d")
    assert "copy-2.png" in shown.run("return document.getElementById('detail').textContent")
    shown.press("\ue014")  # the next one, in the same sheet
    shown.wait("document.getElementById('detail-title').textContent === 'near.png'")
    shown.press("\ue00c")
    assert not shown.value("document.getElementById('detail').open")
    assert shown.texts(CURRENT) == ["near.png"]
    blurred = "getComputedStyle(document.querySelector('.card.current img')).filter !== 'none'"
    assert not shown.value(blurred)
    shown.press("b")
    assert shown.value(blurred)
    shown.press("s")
    assert not shown.value(blurred)
    shown.press("f")
    assert shown.value("document.activeElement.tagName") == "SUMMARY"
    shown.run("document.getElementById('keys-on').checked = false")
    shown.press("b", "a")
    assert not shown.value(blurred) and shown.texts("#progress-said") == ["Nothing of 9 decided yet"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_keyboards_and_screen_readers(few, shown, scheme):
    shown.show(1280, 900, scheme)
    shown.open(few[0])
    shown.run("document.getElementById('filters').open = true")
    shown.press("a", "p", "u")
    assert shown.violations() == []
    shown.press("d")
    shown.wait("document.getElementById('detail').open")
    assert shown.violations() == []
    assert shown.value("document.getElementById('feed').getAttribute('role')") == "feed"
    assert shown.value("document.querySelectorAll('.card[tabindex=\"0\"]').length") == 1


@pytest.mark.parametrize(("width", "height"), [(320, 640), (1280, 900), (3840, 2160)])
def test_the_page_fits_any_window(few, shown, width, height):
    for scheme in ("light", "dark"):
        shown.show(width, height, scheme)
        shown.open(few[0])
        assert shown.value("document.documentElement.scrollWidth") <= width
        cut_off = (
            "[...document.querySelectorAll('.card')].filter(c => c.scrollHeight > c.clientHeight).length"
        )
        assert shown.value(cut_off) == 0
        assert len(shown.screenshot()) > 10_000


def test_maps_are_shown_by_key_and_button_and_said_in_words(tmp_path, shown):
    evil = "</script><b>left</b>\u202e"
    files = [drawn(tmp_path / f"{name}.png", seed) for seed, name in enumerate(("told", "evil", "plain"))]
    told = [explanation(), explanation(evil), None]
    rows = [image(path, face(9.0 - i) | {"explanation": told[i]}) for i, path in enumerate(files)]
    page = write_review(write_rows(tmp_path / "v.jsonl", rows), ReviewOptions(tmp_path / "v.html")).page
    shown.show(1280, 1600, "dark")
    shown.open(page)
    first, second, third = shown.texts(".card .facts")
    assert "rests on: the lower left of the face" in first
    assert "another verdict when changed: half-size" in first
    assert "</script><b>left</b>\\u{202e} of the face" in second and "rests on" not in third
    cells = "document.querySelectorAll('.card:first-child svg.heat rect')"
    display = f"getComputedStyle({cells}[0].parentNode).display"
    assert shown.value(display) == "none"
    shown.press("m")
    assert shown.value(display) == "block" and shown.violations() == []
    assert shown.texts("#said") == ["Maps of what scores rest on are shown."]
    # Shares of the strongest: 1, 0.33 and then below zero; the cells of 0.01 are left out.
    assert shown.value(f"[...{cells}].map(r => r.getAttribute('class'))") == [
        *["supports"] * 2,
        *["opposes"] * 5,
    ]
    assert shown.value(f"[...{cells}].every(r => r.getAttribute('y') === '2')")
    boxes = "[...document.querySelectorAll('.card:first-child .heat.region')].map(r => r.getBBox().height)"
    assert shown.value(boxes) == [30.5]
    shown.press("d")
    shown.wait("document.getElementById('detail').open")
    said = shown.texts("#detail")[0]
    assert "lower left of the face; covered, the score falls by 2.25" in said
    assert "3 of 737 photographs score as high" in said
    assert "the same verdict in 83% of changed copies" in said
    assert shown.violations() == []
    shown.press("\ue00c")
    shown.click("#maps")
    assert shown.value(display) == "none"
    assert shown.value("document.getElementById('maps').getAttribute('aria-pressed')") == "false"


def test_a_scan_without_explanations_offers_no_maps(few, shown):
    shown.open(few[0])
    shown.press("m")
    assert shown.value("document.getElementById('maps').hidden")
    assert not shown.value("document.documentElement.classList.contains('maps')")


def test_hostile_names_and_metadata_are_text_and_nothing_else(tmp_path, shown):
    names = hostile_names()
    files = [hostile_file(tmp_path, name, seed) for seed, name in enumerate(names)]
    evil = "</script><img src=x onerror=document.title=2>\u2028\u202e"
    rows = [
        image(path, face(9.0 - i), declared=evil, declared_by=evil, declared_tool=evil, detail=evil)
        for i, path in enumerate(files)
    ]
    rows.append(unreadable(tmp_path / "nothing", evil, evil))
    verdicts = write_rows(tmp_path / "<b>verdicts.jsonl", rows, run=RUN | {"detector": evil, "started": evil})
    page = write_review(verdicts, ReviewOptions(tmp_path / "hostile.html")).page
    shown.show(1280, 3000)
    shown.open(page)
    assert shown.value("document.title") == "Review of <b>verdicts.jsonl"
    assert shown.value("document.querySelectorAll('[src=x], b, [onerror]').length") == 0
    assert shown.value("document.scripts.length") == 3  # the page's own, and two of data
    heads = shown.texts(".card h2")
    assert heads[0] == os.path.basename(names[0]) and heads[2] == "script><script>document.title=1<"
    assert heads[5] == "line\\u{2028}end\\u{2029}.png" and heads[6] == "\\u{202e}gnp.right-to-left.png"
    assert heads[7] == "tab\\u{9}new\\u{a}line.png" and heads[8] == "odd-\\xff\\xfe-bytes.png"
    shown.press(*"a" * len(names))
    shown.click("#export-lines")
    told = [json.loads(line) for line in shown.downloaded("decisions.jsonl").decode().splitlines()]
    assert [os.fsencode(one["path"]) for one in told] == [os.fsencode(path) for path in files]
    assert [one["sha256"] for one in told] == [sha256(path) for path in files]
    shown.click("#export-csv")
    cells = list(csv.reader(io.StringIO(shown.downloaded("decisions.csv").decode())))
    runs = [cell for row in cells for cell in row if cell.startswith(("=", "+", "@"))]
    assert len(cells) == len(names) + 1 and not runs


def test_a_script_that_got_in_would_not_run(few, shown):
    shown.open(few[0])
    shown.run("""
        const script = document.createElement('script');
        try { script.textContent = 'document.title = 3'; document.body.append(script) } catch { }
        const image = new Image();
        image.src = 'https://example.org/leak.png';
        document.body.append(image);
    """)
    shown.wait("document.images[document.images.length - 1].complete")
    assert shown.value("document.title") == "Review of few.jsonl"
    refused = shown.complaints()
    assert any("Content Security Policy" in line for line in refused)
    shown.requests()  # what was asked for and refused


def test_two_thousand_faces_keep_few_elements(tmp_path, shown, few):
    with open_byte_spool() as spool:
        counts = big_page(tmp_path / "many.html", 2000, spool=spool)
    shown.open(counts.page)
    assert counts.n_cards == 2000
    seen, most = set(), 0
    height = shown.value("document.documentElement.scrollHeight")
    for top in range(0, height, height // 25):
        shown.run("scrollTo(0, arguments[0])", top)
        shown.wait(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
        )
        shown.wait("document.querySelectorAll('.card[aria-busy=true]').length === 0")
        most = max(most, shown.value("document.querySelectorAll('*').length"))
        seen.update(shown.texts(".card h2"))
        inside = "[...document.querySelectorAll('.card')].some(c => c.getBoundingClientRect().top < 450)"
        assert shown.value(inside)
    assert most < 1500  # of 2,000 cards with thirty elements each
    assert len(seen) > 300
    shown.press("j")
    shown.run("document.querySelector('.card.current').focus()")
    shown.press("\ue010")  # End
    assert shown.texts(CURRENT) == ["001999.png"]
    assert shown.value("document.querySelector('.card.current').getAttribute('aria-posinset')") == "2000"
    assert shown.value(
        "document.querySelector('.card.current').getBoundingClientRect().bottom <= innerHeight"
    )


def test_a_folder_loads_its_rows_as_one_scrolls_and_turns_pages(tmp_path, browser):
    browser.show(1280, 900)
    with open_byte_spool() as spool:
        page = big_page(tmp_path / "many", 5060, spool=spool).page
    (tmp_path / "many" / "rows" / "00050.js").unlink()
    browser.open(page)
    browser.complaints(), browser.requests()
    assert len(list((tmp_path / "many" / "rows").iterdir())) == 101
    assert browser.texts("#page-said") == ["page 1 of 2"]
    browser.run("scrollTo(0, document.documentElement.scrollHeight)")
    browser.wait("document.querySelector('.card:last-child h2')?.textContent === '004999.png'")
    browser.run("document.querySelector('.card').focus()")
    browser.press("\ue010")
    browser.wait("document.querySelector('.card.current h2')?.textContent === '005059.png'")
    assert browser.texts("#page-said") == ["page 2 of 2"]
    asked = [Path(url).name for url in browser.requests()]
    assert "00101.js" in asked and len(asked) < 12
    assert browser.complaints() == []
    browser.click("#page-before")
    browser.run("scrollTo(0, document.documentElement.scrollHeight / 2)")
    browser.wait("document.body.textContent.includes('rows/00050.js cannot be loaded')")


def test_the_bits_of_a_hash_fit_a_column():
    assert N_BITS == 64
