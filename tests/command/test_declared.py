"""What files say of themselves, through the real command: columns, verdicts, ledger, `inspect`."""

from __future__ import annotations

import csv
import io
import json
import re
import time

import pytest

from benchmarks.signatures import USUAL, action, signed
from bladescan.base.exit_codes import ExitCode
from bladescan.provenance import credentials, reading
from bladescan.provenance.credentials import WITHOUT_EXTRA
from tests.provenance.files import jpeg, picture, png, source_type, with_xmp
from tests.provenance.generators import A1111, COMFY, SECRET
from tests.provenance.signing import authority

FAST = ("--faces", "none", "--false-alarm", "0.01")
"""No picture here is flagged by the detector at this rate."""
HOSTILE = "=cmd|' /C calc'!A0\x1b[2J\r\nclean.jpg,photographic"


def rows(text):
    return list(csv.DictReader(io.StringIO(text.decode(), newline="")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files with a mark, with a near miss, and with none."""
    folder = tmp_path_factory.mktemp("declared")
    (folder / "a1111.png").write_bytes(png({"parameters": A1111}))
    (folder / "about.png").write_bytes(png({"Description": "midjourney and Stable Diffusion, a workflow"}))
    (folder / "edited.jpg").write_bytes(source_type("compositeWithTrainedAlgorithmicMedia"))
    (folder / "iptc.jpg").write_bytes(source_type("trainedAlgorithmicMedia"))
    (folder / "plain.jpg").write_bytes(jpeg())
    return folder


@pytest.fixture(scope="module")
def signed_folder(tmp_path_factory):
    """A signed picture, and what becomes of it: cut, re-saved, appended to, its signature flipped."""
    trusted = authority(USUAL).certificate
    folder = tmp_path_factory.mktemp("signed")
    whole = signed(jpeg(picture(256, 256)), action("c2pa.created", "trainedAlgorithmicMedia", "Painter"))
    at = whole.index(b"\xf6\x58\x40") + 20  # in the 64 bytes of the signature itself
    cut, flipped = bytearray(whole), bytearray(whole)
    cut[-40] ^= 1
    flipped[at] ^= 1
    (folder / "1-whole.jpg").write_bytes(whole)
    (folder / "2-changed.jpg").write_bytes(cut)
    (folder / "3-saved-again.jpg").write_bytes(jpeg(picture(256, 256)))
    (folder / "4-longer.jpg").write_bytes(whole + bytes(13))
    (folder / "5-flipped.jpg").write_bytes(flipped)
    (folder.parent / "trust.pem").write_text(trusted)
    return folder


def scan(in_process, *arguments):
    return in_process("scan", *FAST, "-q", *arguments)


def images(done):
    return [json.loads(line) for line in done.stdout_bytes.splitlines()[1:-1]]


def test_a_file_that_declares_itself_is_flagged_and_a_near_miss_is_not(in_process, folder):
    done = scan(in_process, folder)
    assert done.exit_code == ExitCode.FLAGGED
    found = [
        (r["verdict"], r["flagged_by"], r["declared"], r["declared_by"]) for r in rows(done.stdout_bytes)
    ]
    assert found == [
        ("ai-generated", "declared", "ai-generated", "png-text"),
        ("not-flagged", "", "none", ""),
        ("not-flagged", "", "ai-edited", "iptc"),
        ("ai-generated", "declared", "ai-generated", "iptc"),
        ("not-flagged", "", "none", ""),
    ]
    assert {row["face_verdict"] for row in rows(done.stdout_bytes)} == {"not-flagged"}
    assert rows(done.stdout_bytes)[0]["declared_tool"].startswith("Stable Diffusion web UI")


@pytest.mark.parametrize("choice,declared", [("report", "ai-generated"), ("ignore", "")])
def test_the_detector_decides_alone_if_asked(in_process, folder, choice, declared):
    done = scan(in_process, folder, "--declared", choice)
    assert done.exit_code == ExitCode.CLEAN
    first = rows(done.stdout_bytes)[0]
    assert (first["verdict"], first["flagged_by"], first["declared"]) == ("not-flagged", "", declared)


def test_an_image_without_a_face_is_flagged_too(in_process, folder):
    done = in_process("scan", "-q", folder / "a1111.png")
    (row,) = rows(done.stdout_bytes)
    assert (row["verdict"], row["flagged_by"], row["face"]) == ("ai-generated", "declared", "")
    assert done.exit_code == ExitCode.FLAGGED


def test_every_format_says_the_same(in_process, folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("v.csv", "v.json", "v.jsonl", "v.parquet"):
        scan(in_process, folder, "-o", tmp_path / name)
    names = ("flagged_by", "declared", "declared_by", "declared_tool", "declared_signer", "c2pa_status")

    def said(found):
        return [tuple(row[name] or None for name in names) for row in found]

    document = json.loads((tmp_path / "v.json").read_text())
    wanted = said(document["images"])
    assert said(rows((tmp_path / "v.csv").read_bytes())) == wanted
    assert said(map(json.loads, (tmp_path / "v.jsonl").read_text().splitlines()[1:-1])) == wanted
    assert said(parquet.read_table(tmp_path / "v.parquet").to_pylist()) == wanted
    assert document["images"][0]["evidence"][0]["where"] == "png-text:parameters"
    assert document["images"][0]["camera"]["word"] == "none"
    assert document["summary"]["declared"] == {
        **{"ai-generated": 2, "ai-edited": 1, "captured": 0, "none": 2, "invalid": 0}
    }
    assert document["summary"]["flagged_by"] == {"detector": 0, "declared": 2, "detector+declared": 0}
    assert document["run"]["declared"] == "flag" and len(document["run"]["provenance_reader"]) == 16
    table = scan(in_process, folder, "--format", "table").stdout
    assert "a1111.png  (declared ai-generated: png-text, Stable Diffusion web UI" in table


def test_the_metrics_count_what_is_declared(in_process, folder, tmp_path):
    scan(in_process, folder, "--metrics", tmp_path / "m.prom")
    text = (tmp_path / "m.prom").read_text()
    assert 'bladescan_last_run_declared_images{scan="m",declared="ai-generated"} 2' in text
    assert 'bladescan_last_run_flagged_images{scan="m",by="declared"} 2' in text


def without_threshold(text):
    return [row | {"threshold": ""} for row in rows(text)]


def test_workers_a_discovery_rate_and_a_stream_give_the_same_rows(bladescan, folder):
    plain = bladescan("scan", folder, *FAST)
    assert b"declared by the files themselves: 2 ai-generated, 1 ai-edited" in plain.stderr
    several = bladescan("scan", folder, *FAST, "--workers", "2")
    assert several.stdout == plain.stdout
    judged = bladescan("scan", folder, "--faces", "none", "--fdr", "0.05")
    # the batch's threshold differs from the rate's, and here no verdict does
    assert without_threshold(judged.stdout) == without_threshold(plain.stdout)
    assert judged.returncode == ExitCode.FLAGGED


# Signed pictures


def test_a_signature_holds_or_does_not_and_only_one_that_holds_flags(in_process, signed_folder):
    done = scan(in_process, signed_folder)
    found = {row["path"][-9:-4]: row for row in rows(done.stdout_bytes)}
    whole, changed, again, longer, flipped = found.values()
    assert (whole["verdict"], whole["c2pa_status"], whole["declared_by"]) == ("ai-generated", "valid", "c2pa")
    assert whole["declared_tool"] == "Painter" and "Test Signer" in whole["declared_signer"]
    assert (again["c2pa_status"], again["declared"]) == ("absent", "none")
    for broken in (changed, longer, flipped):
        assert broken["c2pa_status"].startswith("invalid:"), broken
        assert (broken["declared"], broken["declared_signer"]) == ("invalid", "")
        assert (broken["verdict"], broken["flagged_by"]) == ("not-flagged", "")


def test_a_trust_list_tells_whose_signature_it_is(in_process, signed_folder, tmp_path):
    whole = signed_folder / "1-whole.jpg"
    other = tmp_path / "other.pem"
    other.write_text(authority("Another Authority").certificate)
    for file, status in ((signed_folder.parent / "trust.pem", "trusted"), (other, "untrusted")):
        (row,) = rows(scan(in_process, whole, "--trust-list", file).stdout_bytes)
        assert (row["c2pa_status"], row["declared"]) == (status, "ai-generated")
    (tmp_path / "none.pem").write_text("no certificate")
    assert scan(in_process, whole, "--trust-list", tmp_path / "none.pem").exit_code == ExitCode.FAILED


def test_a_picture_that_is_cut_off_stays_unreadable_and_shows_what_it_says(in_process, tmp_path):
    whole = source_type("trainedAlgorithmicMedia")
    (tmp_path / "cut.jpg").write_bytes(whole[:-100])
    done = scan(in_process, tmp_path / "cut.jpg")
    (row,) = rows(done.stdout_bytes)
    assert (row["verdict"], row["reason"], row["declared"]) == ("unreadable", "truncated", "ai-generated")
    assert (row["flagged_by"], done.exit_code) == ("", ExitCode.INCOMPLETE)


WITHOUT_C2PA = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "c2pa":
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
"""


def test_without_the_extra_a_signature_is_said_to_be_unchecked(bladescan, signed_folder, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_C2PA)
    done = bladescan("scan", signed_folder, *FAST, "-q", env={"PYTHONPATH": str(tmp_path)})
    whole, *_, flipped = rows(done.stdout)
    for row in (whole, flipped):
        assert (row["c2pa_status"], row["declared"], row["verdict"]) == (
            WITHOUT_EXTRA,
            "none",
            "not-flagged",
        )
    assert done.returncode == ExitCode.CLEAN


# Earlier verdicts


@pytest.fixture
def remembered(in_process, folder, tmp_path):
    """Scan with a ledger; how many files were not read again."""
    time.sleep(0.05)

    def run(*options):
        done = scan(in_process, folder, "--ledger", tmp_path / "ledger", "--format", "jsonl", *options)
        return json.loads(done.stdout_bytes.splitlines()[-1])["n_unchanged"], images(done)

    return run


def test_a_ledger_gives_back_all_that_was_said(remembered):
    assert remembered()[0] == 0
    (n_unchanged, again), (_, third) = remembered(), remembered()
    assert n_unchanged == 5 and again == third
    assert again[0]["evidence"][0]["tool"].startswith("Stable Diffusion") and again[0]["camera"] is not None


@pytest.mark.parametrize("options", [("--declared", "report"), ("--prompts",), ("--trust-list", "any.pem")])
def test_another_choice_makes_entries_stale(remembered, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "any.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    remembered()
    assert remembered(*options)[0] == 0 and remembered(*options)[0] == 5


def test_another_table_of_rules_or_another_c2pa_makes_entries_stale(remembered, monkeypatch):
    remembered()
    monkeypatch.setattr(reading, "RULES_DIGEST", "of other rules")
    assert remembered()[0] == 0 and remembered()[0] == 5
    monkeypatch.setattr(credentials, "library_version", lambda: "99")
    monkeypatch.setattr(reading, "library_version", lambda: "99")
    assert remembered()[0] == 0


# Inspecting one file


def test_inspect_tells_a_person_all_that_is_known(in_process, samples, folder):
    done = in_process("inspect", folder / "a1111.png", "--faces", "none")
    assert done.exit_code == ExitCode.FLAGGED
    for line in ("verdict: ai-generated, flagged by: declared", "C2PA manifest: absent", "exif: none"):
        assert line in done.stdout
    assert "png-text:parameters says ai-generated (Stable Diffusion web UI" in done.stdout
    portrait = in_process("inspect", samples / "portrait.jpg").stdout
    assert re.search(
        r"^  0: \S+, score \S+, threshold \S+, p value 0\.\d+, .*, at \(.*\) to \(.*\), found with 0\.\d+",
        portrait,
        re.M,
    )
    flags = ("--model", "blades", "--false-alarm", "0.9", "--explain")
    told = in_process("inspect", samples / "portrait.jpg", *flags).stdout
    assert re.search(
        r"^  0 rests on: the [a-z ]+, from \(.*\) to \(.*\): covered, its score (falls|rises) by \d.*, "
        r"\d+ of 110 photographs score as high, the nearest at \d.* degrees, \d+ are as far from theirs, "
        r"the same verdict in \d+% of changed copies",
        told,
        re.M,
    )
    broken = in_process("inspect", samples / "cut-off.jpg")
    assert "verdict: unreadable: truncated" in broken.stdout and broken.exit_code == ExitCode.INCOMPLETE


def test_inspect_as_json_has_what_json_lines_has_and_the_exif(in_process, folder, tmp_path):
    taken = jpeg(Make="Canon", Model="Canon EOS R5", ISO=200, FNumber=(28, 10))
    (tmp_path / "taken.jpg").write_bytes(taken)
    found = json.loads(in_process("inspect", tmp_path / "taken.jpg", *FAST, "--json").stdout)
    (row,) = images(scan(in_process, tmp_path / "taken.jpg", "--format", "jsonl"))
    assert found["image"] == {key: value for key, value in row.items() if key != "type"}
    assert found["exif"]["camera"] == "canon eos r5"
    assert found["exif"]["tags"] == {"iso_speed": 200.0, "aperture": 2.8, "make": "Canon"}
    assert found["n_bytes"] == len(taken)


@pytest.mark.parametrize("name", ["", "no-such.jpg", "s3://bucket/a.jpg"])
def test_inspect_takes_one_file(in_process, tmp_path, name):
    assert in_process("inspect", name if "://" in name else tmp_path / name).exit_code == ExitCode.FAILED


# What strangers write


def test_what_a_stranger_wrote_runs_in_no_spreadsheet_and_steers_no_terminal(in_process, tmp_path):
    said = (
        f"<Iptc4xmpExt:AISystemUsed>{HOSTILE.replace(chr(27), '&#x9b;')}</Iptc4xmpExt:AISystemUsed>"
        "<xmp:CreatorTool>@SUM(1)</xmp:CreatorTool>"
    )
    path = tmp_path / "hostile\x1b[2J.jpg"
    path.write_bytes(with_xmp(said))
    (row,) = rows(scan(in_process, path).stdout_bytes)
    assert row["declared"] == "ai-generated" and row["declared_tool"].startswith("'=cmd")
    for command in (("scan", "--format", "table", "-q"), ("inspect",)):
        text = in_process(*command, *FAST, path).stdout
        assert text.count("clean.jpg") >= 1 and "\x1b" not in text and "\x9b" not in text
        assert not any(line.startswith("clean.jpg") for line in text.splitlines())


PROMPTED = {
    "a1111.png": png({"parameters": A1111}),
    "comfy.png": png({"prompt": json.dumps(COMFY)}),
    "model.jpg": jpeg(Model=f"prompt:{json.dumps(COMFY)}"),
}


@pytest.mark.parametrize("name", PROMPTED)
def test_a_prompt_is_nowhere_unless_asked_for(in_process, tmp_path, name):
    (tmp_path / name).write_bytes(PROMPTED[name])
    for format in ("csv", "json", "jsonl", "table"):
        done = scan(in_process, tmp_path / name, "--format", format)
        assert done.exit_code == ExitCode.FLAGGED and not told(done.stdout)
    for more in ((), ("--json",)):
        assert not told(in_process("inspect", *FAST, tmp_path / name, *more).stdout)
        assert told(in_process("inspect", *FAST, tmp_path / name, *more, "--prompts").stdout)
    (image,) = images(scan(in_process, tmp_path / name, "--format", "jsonl", "--prompts"))
    assert told(" ".join(image["prompts"]))
    assert not told(scan(in_process, tmp_path / name, "--prompts").stdout)


def told(text):
    return SECRET.lower() in text.lower()


@pytest.mark.parametrize(
    "options,said",
    [
        (("--declared", "flags"), "unknown choice of --declared"),
        (("--declared", "ignore", "--prompts"), "--declared ignore reads nothing"),
        (("--trust-list", "no-such.pem"), "trust list no-such.pem"),
    ],
)
def test_a_choice_that_is_none_is_an_error_before_any_work(in_process, folder, caplog, options, said):
    assert scan(in_process, folder, *options).exit_code == ExitCode.FAILED
    assert said in caplog.text
