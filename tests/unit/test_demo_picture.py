"""The picture of the demo: what is on it, and that the one in docs/ needs nothing from the network."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from gatehouse.reference.demo_picture import draw, final_screen, shortened

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "demo.svg"
SVG = "{http://www.w3.org/2000/svg}"
#: The largest picture that the README may contain, in bytes.
MAX_BYTES = 60_000


def texts(svg: str) -> list[tuple[str, float, float]]:
    """Return each piece of text with its place."""
    root = ET.fromstring(svg)  # noqa: S314 - our own file
    return [
        (str(one.text), float(one.attrib["x"]), float(one.attrib["y"])) for one in root.iter(f"{SVG}text")
    ]


def test_only_the_last_drawing_of_the_table_stays_on_the_screen() -> None:
    output = "intro\n\n\x1b[?25l2 rows\x1b[2K\x1b[1A\x1b[2K3 rows\n\x1b[?25h\nthe end\n"

    assert final_screen(output) == "intro\n\n3 rows\n\nthe end\n"


def test_the_picture_shows_the_introduction_the_table_and_the_verdict() -> None:
    assert shortened("intro\n\ntable\n  \nevent\n\nmetrics\n\nverdict\n\n") == "intro\n\ntable\n\nverdict"


def test_columns_are_at_the_same_place_in_every_row_and_colors_are_kept() -> None:
    drawn = draw("name      answer\n\x1b[1mMando\x1b[0m     \x1b[32m200 <ok>\x1b[0m")
    places = {text: x for text, x, _ in texts(drawn)}

    assert places["name"] == places["Mando"]
    assert places["answer"] == places["200 <ok>"] > places["name"]
    assert 'fill="#7ddb8a">200 &lt;ok&gt;<' in drawn


def test_the_picture_in_the_documentation_is_small_and_fetches_nothing() -> None:
    svg = PICTURE.read_text(encoding="utf-8")
    references = svg.replace('xmlns="http://www.w3.org/2000/svg"', "")

    assert len(svg.encode()) <= MAX_BYTES
    assert "//" not in references
    assert "url(" not in references


def test_the_picture_in_the_documentation_shows_every_answer_of_the_demo() -> None:
    shown = [text for text, _, _ in texts(PICTURE.read_text(encoding="utf-8"))]

    assert {"200 accepted", "200 duplicate", "401 refused", "signature ok"} <= set(shown)
    assert shown[0] == "$ make demo"
    assert shown[-1].startswith("All as expected: 18 answers, and 5 events")
