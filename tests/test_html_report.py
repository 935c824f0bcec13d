"""The HTML report: it says what the files say, needs no network, trusts no name, and looks right in a browser."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

import simnet
from simnet.cli import main
from simnet.experiment.load_curve import LOST, WIDTH, LoadCurve, load_curve
from simnet.report.html.bars import COLOURS, colours
from simnet.report.html.charts import Axis
from simnet.report.html.page import share
from simnet.report.report import report

EVIL = """<script>document.title = "owned"</script> & "quotes' <b>bold</b>"""
SHORT = {"limit_s": 0.02, "replications": 3}


def output(*arguments: str) -> str:
    """What a command prints; it succeeds."""
    with redirect_stdout(io.StringIO()) as text:
        assert main(arguments) == 0
    return text.getvalue()


# Folders


@pytest.fixture(scope="module")
def scenario_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest with a title that nobody should trust."""
    file = tmp_path_factory.mktemp("scenario") / "evil.yaml"
    content = {"based_on": "paper/vm", "title": EVIL, "question": EVIL, "hypotheses": [EVIL], "measure": SHORT}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def run_folder(scenario_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, with its report."""
    folder = tmp_path_factory.mktemp("run")
    output("run", str(scenario_file), "--out", str(folder))
    (folder / "printed.json").write_text(output("report", str(folder), "--json"))
    return folder


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of eight cells, of which one failed and one is missing, with its report."""
    folder = tmp_path_factory.mktemp("sweep")
    design = {
        "title": EVIL,
        "scenario": "paper/bare-metal",
        "sets": {"measure.limit_s": 0.01, "measure.replications": 2},
        "factors": {
            "reader": {"<i>none</i>": {}, "own core": {"capture.method": "pf_packet", "capture.cpu": 5}},
            "traffic.frame_bytes": [64, 1518],
            "host.nic.dca": [False, True],
        },
    }
    (folder / "d.yaml").write_text(json.dumps(design), encoding="utf-8")
    out = folder / "out"
    output("sweep", str(folder / "d.yaml"), "--out", str(out), "--jobs", "1")
    done = json.loads((out / "cells" / "000003.json").read_text())
    failure = {"cell": "000003", "factors": done["factors"], "error": f"Traceback:\n  {EVIL}\nMemoryError: {EVIL}"}
    (out / "failed" / "000003.json").write_text(json.dumps(failure))
    for cell in ("000003", "000005"):
        (out / "cells" / f"{cell}.json").unlink()
    output("report", str(out))
    return out


def compared(results: list[dict[str, Any]]) -> dict[str, Any]:
    """A comparison of results in the form that `simnet compare` writes."""

    def difference(other: dict[str, Any]) -> dict[str, Any]:
        def less(name: str) -> dict[str, Any]:
            return {"mean": other[name]["kpps"]["mean"] - results[0][name]["kpps"]["mean"], "ci95": 0.25}

        return {
            "changed": [{"field": "guest", "first": None, "value": {"reads": EVIL, "vcpus": [1, 3]}}],
            "traffic_differs": [],
            "paired": True,
            "offered_kpps": less("offered"),
            "captured_kpps": less("captured"),
            "dropped_kpps": {"nic_buffer": {"mean": -12.75, "ci95": 0.5}},
        }

    return {
        "schema": "simnet-comparison/1",
        "scenarios": [f"{EVIL} {i}" for i, _ in enumerate(results)],
        "seed": 1,
        "differences": [difference(other) for other in results[1:]],
        "stages": [
            {"stage": "driver", "side": "host", "cycles_per_captured": [900.5 + i for i, _ in enumerate(results)]},
            {"stage": "a_new_stage", "side": "host", "cycles_per_captured": [321.5 + i for i, _ in enumerate(results)]},
        ],
        "busy_cycles_per_captured": [2345.0 + i for i, _ in enumerate(results)],
        "dropped_kpps": [
            {"place": "nic_buffer", "counter": "rx_missed_errors", "kpps": [{"mean": 55.25, "ci95": 0.5}, None, None]}
        ],
        "bottlenecks": [{"text": f"{EVIL} limits"} for _ in results],
        "notes": [EVIL],
        "results": results,
    }


@pytest.fixture(scope="module")
def comparison_folder(run_folder: Path, sweep_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a comparison of three results, with its report."""
    folder = tmp_path_factory.mktemp("comparison")
    files = [sweep_folder / "cells" / "000001.json", run_folder / "result.json", sweep_folder / "cells" / "000008.json"]
    (folder / "comparison.json").write_text(json.dumps(compared([json.loads(file.read_text()) for file in files])))
    output("report", str(folder))
    return folder


@pytest.fixture(scope="module")
def folders(run_folder: Path, sweep_folder: Path, comparison_folder: Path) -> dict[str, Path]:
    """All three kinds."""
    return {"run": run_folder, "sweep": sweep_folder, "comparison": comparison_folder}


KINDS = ("run", "sweep", "comparison")


# Reading pages

VOID = {"meta", "link", "br"}
OWN = {"style", "script"}


class Page(HTMLParser):
    """A page: its elements, and the text of each section by the id of its heading."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = file.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.sections: dict[str, str] = {}
        self.section = "top"
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h2", "footer"):
            self.section = dict(attrs).get("id") or tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.sections[self.section] = self.sections.get(self.section, "") + " "

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in OWN:
            self.sections[self.section] = self.sections.get(self.section, "") + data

    def numbers(self, section: str) -> list[float]:
        """All numbers that a section shows."""
        text = self.sections[section].replace("\N{NARROW NO-BREAK SPACE}", "").replace("\N{MINUS SIGN}", "-")
        return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", text)]

    def shows(self, section: str, value: float) -> bool:
        """Does a section show a number, to its last digit or to three digits?"""
        return any(math.isclose(shown, value, rel_tol=6e-4, abs_tol=6e-4) for shown in self.numbers(section))


@pytest.fixture(scope="module")
def pages(folders: dict[str, Path]) -> dict[str, Page]:
    """The three pages."""
    return {kind: Page(folder / "report.html") for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_pages_need_nothing_from_outside(kind: str, pages: dict[str, Page]) -> None:
    page = pages[kind]
    for tag, attributes in page.elements:
        assert "src" not in attributes
        assert "srcset" not in attributes
        assert (attributes.get("href") or "data:").startswith(("data:", "#"))
        assert not any(name.startswith("on") for name in attributes), tag
    assert not re.search(r"@import|url\(|https?:|@font-face", page.source)
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert (policy or "").startswith("default-src 'none'")
    assert len(page.source) < 300_000


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_shown_and_never_obeyed(kind: str, pages: dict[str, Page]) -> None:
    page = pages[kind]
    assert "<script>document" not in page.source
    assert "<b>" not in page.source
    assert "<i>" not in page.source
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert any(EVIL in text for text in page.sections.values())


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_fit_for_everybody(kind: str, pages: dict[str, Page]) -> None:
    elements = pages[kind].elements
    assert ("html", {"lang": "en"}) in elements
    assert [tag for tag, _ in elements if tag in ("h1", "main", "header", "footer")].count("h1") == 1
    for tag, attributes in elements:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label")
        if tag == "th":
            assert attributes.get("scope") in ("col", "row")
        if "scroll" in (attributes.get("class") or "").split():
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]
    identifiers = [a["id"] for _, a in elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    assert all(a["aria-labelledby"] in identifiers for _, a in elements if "aria-labelledby" in a)


# What a run's page says


def test_every_number_of_a_run_is_where_it_belongs(run_folder: Path, pages: dict[str, Page]) -> None:
    page, result = pages["run"], json.loads((run_folder / "result.json").read_text())
    for section in ("top", "latency"):
        for which in ("offered", "captured"):
            assert page.shows(section, result[which]["kpps"]["mean"])
            assert page.shows(section, result[which]["kpps"]["ci95"])
    for which, unit in itertools.product(("offered", "captured"), ("mbps_wire", "mbps_frame")):
        assert page.shows("latency", result[which][unit]["mean"])
    packets = result["packets"]
    for count in [packets["offered"], packets["captured"], packets["in_flight"], *(d["packets"] for d in packets["dropped"])]:
        assert count == 0 or count in page.numbers("packets")
        assert count == 0 or page.shows("packets", round(count / packets["offered"] * 100, 1))
    for drop in packets["dropped"]:
        assert (drop["counter"] in page.sections["packets"]) == (drop["packets"] > 0)
    for core in (*result["cores"], *result["vcpus"]):
        for context, part in core.items():
            if context not in ("cpu", "vcpu", "idle", "halted") and part >= 0.0005:
                assert f"{context} {share(part)}" in page.sections["time"]
    for value in result["latency_us"].values():
        assert page.shows("latency", value)
    rates = {**result["rates"], **result["rates"]["exits"]}
    assert all(page.shows("latency", value) for name, value in rates.items() if name != "exits")


def test_provenance_and_citations_are_complete(run_folder: Path, pages: dict[str, Page]) -> None:
    text, result = pages["run"].sections["provenance"], json.loads((run_folder / "result.json").read_text())
    provenance = result["provenance"]
    for name, quantity in provenance["parameters"].items():
        assert name in text
        assert quantity["source"] in text
        assert pages["run"].shows("provenance", quantity["value"])
    for needed in (result["parameters"], provenance["version"], provenance["nic"]["source"], provenance["kernel"]["source"]):
        assert needed in text
    assert all(note in text for note in result["notes"])
    assert "the same packets to the last one" in text


def test_the_explanation_on_the_page_is_the_one_of_simnet_explain(run_folder: Path, pages: dict[str, Page]) -> None:
    printed = json.loads((run_folder / "printed.json").read_text())
    explained = json.loads(output("explain", str(run_folder), "--json"))
    for found in (printed["explanation"], explained):
        found["result"].pop("wall_seconds")
    assert printed["explanation"] == explained
    page = pages["run"]
    assert explained["bottleneck"]["text"] in page.sections["top"]
    for stage in explained["cycles"]["stages"]:
        assert stage["share_of_busy"] < 0.0005 or page.shows("cycles", stage["cycles_per_captured"])
    assert page.shows("cycles", explained["cycles"]["per_captured_busy"])
    assert explained["advice"]
    for advice in [*explained["advice"], *explained["sensitivity"]["what_ifs"]]:
        assert advice["title"] in page.sections["advice"]
        assert page.shows("advice", round(advice["gain"]["mean"] * 100, 1))
    assert printed["answer"][-1].startswith(f"What would help most: {explained['advice'][0]['title']}")
    for point in printed["load_curve"]["points"]:
        assert page.shows("load", point["offered"]["mean"])
        assert page.shows("load", point["captured"]["mean"])


def test_quick_leaves_out_what_needs_further_runs(run_folder: Path, tmp_path: Path) -> None:
    printed = json.loads(output("report", str(run_folder), "--quick", "--json", "--out", str(tmp_path / "new" / "q.html")))
    assert printed["schema"] == "simnet-report/1"
    assert printed["kind"] == "run"
    assert printed["load_curve"] is None
    assert printed["explanation"]["sensitivity"] is None
    page = Page(tmp_path / "new" / "q.html")
    assert "load" not in page.sections
    assert "advice" not in page.sections
    assert {"packets", "time", "cycles", "latency", "provenance"} <= set(page.sections)


def test_the_same_folder_gives_the_same_bytes(run_folder: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        report(run_folder, out=tmp_path / name, quick=True)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


# The load curve


def curve_of(*changes: str) -> tuple[LoadCurve, simnet.Result]:
    """The load curve of a short run."""
    scenario = simnet.load("paper/bare-metal", ["measure.limit_s=0.02", "measure.replications=3", *changes])
    result = simnet.run(scenario)
    curve = load_curve(scenario, result)
    assert curve is not None
    return curve, result


def test_the_knee_is_between_a_load_that_is_carried_and_one_that_is_not() -> None:
    curve, result = curve_of()
    offered = [point.offered.mean for point in curve.points]
    assert offered == sorted(offered)
    assert result.offered.kpps.mean == offered[-1]
    assert curve.carried is not None
    assert curve.overloaded is not None
    assert curve.carried.offered.mean < curve.overloaded.offered.mean < curve.carried.offered.mean * WIDTH * 1.01
    for point in curve.points:
        assert point.lost == pytest.approx(max(0.0, 1 - point.captured.mean / point.offered.mean))
        assert (point.lost <= LOST) == (point.offered.mean <= curve.carried.offered.mean)
    assert curve.carried.offered.mean == pytest.approx(result.captured.kpps.mean, rel=0.06)


@pytest.mark.parametrize(("side", "times"), [("carried", 0.98), ("overloaded", 1.02)])
def test_runs_on_both_sides_of_the_knee_agree_with_it(side: str, times: float) -> None:
    curve, _ = curve_of()
    point = getattr(curve, side)
    run = simnet.run(simnet.load("paper/bare-metal", {"traffic.offered_kpps": point.offered.mean * times}))
    lost = 1 - run.captured.kpps.mean / run.offered.kpps.mean
    assert (lost <= LOST) == (side == "carried")
    assert run.captured.kpps.mean == pytest.approx(point.captured.mean, rel=0.03)


def test_a_host_that_carries_the_line_rate_has_no_knee() -> None:
    curve, result = curve_of("traffic.frame_bytes=1518", "traffic.offered_kpps=100")
    assert curve.overloaded is None
    assert curve.points[-1].offered.mean == pytest.approx(10e6 / (1538 * 8), rel=0.01)
    assert result.offered.kpps.mean in [point.offered.mean for point in curve.points]


def test_a_capture_file_has_no_load_curve() -> None:
    scenario = simnet.load("replay/web-and-dns")
    assert load_curve(scenario, simnet.run(scenario)) is None


# What a sweep's and a comparison's page say


def test_a_sweeps_page_has_all_its_cells(sweep_folder: Path, pages: dict[str, Page]) -> None:
    page = pages["sweep"]
    assert [n for n in page.numbers("top") if n in (6, 8)][-2:] == [6, 8]
    assert "1" in re.findall(r"failed\s*(\d)", page.sections["top"])
    assert "1" in re.findall(r"not computed\s*(\d)", page.sections["top"])
    means: dict[bool, list[float]] = {False: [], True: []}
    for file in sorted((sweep_folder / "cells").glob("*.json")):
        cell = json.loads(file.read_text())
        assert cell["cell"] in page.sections["cells"]
        for value in (cell["offered"]["kpps"]["mean"], cell["captured"]["kpps"]["mean"], cell["latency_us"]["p99"]):
            assert page.shows("cells", value)
        means[cell["factors"]["host.nic.dca"]].append(cell["captured"]["kpps"]["mean"])
    for captured in means.values():
        assert page.shows("effects", sum(captured) / len(captured))
    assert "000003" not in page.sections["cells"]
    assert f"MemoryError: {EVIL}" in page.sections["failed"]
    assert "000003" in page.sections["failed"]


def test_a_comparisons_page_has_differences_and_stages(comparison_folder: Path, pages: dict[str, Page]) -> None:
    page, content = pages["comparison"], json.loads((comparison_folder / "comparison.json").read_text())
    for difference in content["differences"]:
        for name in ("captured_kpps", "offered_kpps"):
            assert page.shows("differences", difference[name]["mean"])
    assert page.shows("differences", -12.75)
    for result in content["results"]:
        assert page.shows("differences", result["captured"]["kpps"]["mean"])
        assert result["packets"]["captured"] in page.numbers("packets")
    for cycles in (900.5, 901.5, 902.5, 321.5, 322.5, 323.5, 2345, 2346, 2347, 1, 2):
        assert page.shows("cycles", cycles)
    assert "host: a new stage" in page.sections["cycles"]


def test_a_comparison_that_simnet_wrote(tmp_path: Path) -> None:
    pytest.importorskip("simnet.experiment.compare")
    sets = [argument for name, value in SHORT.items() for argument in ("--set", f"measure.{name}={value}")]
    output("compare", "paper/bare-metal", ":host.nic.dca=true", *sets, "--out", str(tmp_path))
    printed = json.loads(output("report", str(tmp_path), "--json"))
    assert printed["kind"] == "comparison"
    page, content = Page(tmp_path / "report.html"), json.loads((tmp_path / "comparison.json").read_text())
    assert page.shows("differences", content["differences"][0]["captured_kpps"]["mean"])


# Bad input


def wrecked(folder: Path, to: Path, change: Callable[[Any], Any]) -> Path:
    """A copy of a result's folder whose file was changed."""
    content = json.loads((folder / "result.json").read_text())
    changed = change(content)
    to.mkdir(exist_ok=True)
    (to / "result.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
    return to


def without(key: str) -> Callable[[Any], Any]:
    """A change: something is missing."""
    return lambda content: {name: value for name, value in content.items() if name != key}


BROKEN: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "cut off": (lambda content: json.dumps(content)[:500], ["result.json:1", "not JSON"]),
    "no cores": (without("cores"), ["cores", "missing"]),
    "no scenario": (lambda content: {**content, "provenance": {}}, ["provenance.scenario", "missing"]),
    "another schema": (lambda content: {**content, "schema": "simnet-pie/1"}, ["schema", "simnet-pie/1"]),
    "a list": (lambda content: [content], ["not a result"]),
    "a word for a number": (lambda content: {**content, "seed": "seven"}, ["seed", "seven"]),
    "shares above one": (lambda content: {**content, "cores": [{"cpu": 0, "idle": 7.0}]}, ["cores.0.shares.idle"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_half_written_result_says_what_is_missing(
    name: str, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = BROKEN[name]
    folder = wrecked(run_folder, tmp_path / "broken", change)
    assert main(["report", str(folder)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert all(word in printed.err for word in words), printed.err
    assert sorted(file.name for file in folder.iterdir()) == ["result.json"]


def test_folders_that_hold_no_result(tmp_path: Path, sweep_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        assert main(["report", *arguments]) == 2
        return capsys.readouterr().err

    empty, foreign, both = (tmp_path / name for name in ("empty", "foreign", "both"))
    for folder in (empty, foreign, both):
        folder.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"x")
    for name in ("result.json", "design.json"):
        (both / name).write_text("{}")
    assert "empty" in refused(str(empty))
    assert "result.json (simnet run --out)" in refused(str(empty))
    assert "nothing to report on" in refused(str(foreign))
    assert "no such folder" in refused(str(tmp_path / "nowhere"))
    assert "which" in refused(str(both))
    assert "holiday.jpg" in refused(str(foreign / "holiday.jpg"))
    unstarted = tmp_path / "unstarted"
    unstarted.mkdir()
    shutil.copy(sweep_folder / "design.json", unstarted)
    assert "no cell" in refused(str(unstarted))
    damaged = tmp_path / "damaged"
    shutil.copytree(sweep_folder, damaged)
    (damaged / "cells" / "000001.json").write_text("{")
    assert "000001.json" in refused(str(damaged))
    assert "expected the name of a file" in refused(str(sweep_folder), "--out", str(tmp_path))


# The pieces


def test_colours_hold_for_contexts_that_nobody_knows_yet() -> None:
    names = ["idle", *(f"context {i}" for i in range(2 * COLOURS)), "halted"]
    found = colours([dict.fromkeys(names, 0.1)])
    assert list(found) == names
    assert found["idle"] == found["halted"] == "idle"
    assert len({found[name] for name in names[1 : COLOURS + 1]}) == COLOURS


@pytest.mark.parametrize(
    ("low", "high", "log"), [(0, 14880, False), (0, 0.031, False), (10, 4500, True), (0.1, 90, True), (1, 15e6, True)]
)
def test_ticks_are_few_and_at_their_values(low: float, high: float, log: bool) -> None:
    axis = Axis(low, high, 100, 700, log)
    ticks = [(at, float(label.replace("\N{NARROW NO-BREAK SPACE}", ""))) for at, label in axis.ticks()]
    assert 2 <= len(ticks) <= 9
    for at, value in ticks:
        part = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        assert at == pytest.approx(100 + 600 * part, abs=0.1)


# In a browser

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

OVERLAPS = """
const boxes = group => [...group].map(e => [e.textContent.trim(), e.getBoundingClientRect()]).filter(([t, b]) => b.width && b.height);
const groups = [
  ...[...document.querySelectorAll('svg.chart')].map(svg => svg.querySelectorAll('text')),
  ...[...document.querySelectorAll('.bars li, .tiles, .tiles div, .legend, .legend li, .facts, main, section, .panels, body')].map(e => e.children),
];
const found = [];
for (const group of groups) {
  const all = boxes(group);
  for (let i = 0; i < all.length; i++) for (let j = 0; j < i; j++) {
    const [a, b] = [all[i][1], all[j][1]];
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 1) found.push([all[i][0].slice(0, 40), all[j][0].slice(0, 40)]);
  }
}
return found;
"""
OUTSIDE = """
return [...document.querySelectorAll('svg.chart')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(t => {
    const b = t.getBoundingClientRect();
    return b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 || b.bottom > frame.bottom + 1;
  }).map(t => t.textContent);
});
"""
SMALL = """
return [...document.querySelectorAll('main *')].filter(e => !e.ownerSVGElement || e.tagName === 'text').filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
  .map(e => [parseFloat(getComputedStyle(e).fontSize) * (e.ownerSVGElement ? e.getScreenCTM().a : 1), e.textContent])
  .filter(([size]) => size < 10);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A headless Chromium with a profile of its own."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", KINDS)
def test_pages_look_right_in_a_browser(kind: str, width: int, folders: dict[str, Path], browser: webdriver.Chrome) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    )
    browser.get((folders[kind] / "report.html").as_uri())
    for opened in (False, True):
        if opened:
            browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        across, inside = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert inside == width
        assert across <= width
        assert browser.execute_script(OVERLAPS) == []
        assert browser.execute_script(OUTSIDE) == []
        assert browser.execute_script(SMALL) == []
    assert browser.title.endswith("· simnet")
    assert browser.get_log("browser") == []


def test_the_table_of_a_sweep_sorts(sweep_folder: Path, browser: webdriver.Chrome) -> None:
    browser.get((sweep_folder / "report.html").as_uri())
    column = [th.text for th in browser.find_elements("css selector", "table.sortable th[scope=col]")].index("captured, kpps")
    values = f"return [...document.querySelectorAll('table.sortable tbody tr')].map(r => +r.cells[{column}].dataset.v)"
    button = browser.find_elements("css selector", "table.sortable th button")[column]
    captured = browser.execute_script(values)
    for descending in (False, True):
        button.send_keys("\n")
        assert browser.execute_script(values) == sorted(captured, reverse=descending)
    assert browser.get_log("browser") == []
