"""Characters that a browser would hide or obey are shown by their codes."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest

from gatehouse.operator.page.hidden import HIDDEN
from gatehouse.operator.page.visible import start, visible

#: Unicode's default-ignorable letters and marks, a blank symbol, and the selectors of emoji.
BLANK = "\u034f\u115f\u1160\u17b4\u180b\u2800\u3164\uffa0\ufe00\ufe0f\U000e0100\U000e0041"


def test_each_control_and_format_character_is_hidden() -> None:
    categories = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    known = (chr(code) for code in range(sys.maxunicode + 1) if chr(code) not in "\t\n")

    assert [one for one in known if unicodedata.category(one) in categories and not HIDDEN.search(one)] == []
    assert [one for one in BLANK if not HIDDEN.search(f"sale{one}.created")] == []
    assert HIDDEN.search("naïve 日本\t\n\N{HEAVY BLACK HEART}\ufe0f \N{COPYRIGHT SIGN}\ufe0f") is None


@pytest.mark.case("S-49")
def test_text_is_escaped_and_hidden_characters_have_codes() -> None:
    shown = visible("<b>\u202e&\ufe0f</b>")

    assert shown == (
        '&lt;b&gt;<span class="hidden-char" title="U+202E RIGHT-TO-LEFT OVERRIDE">U+202E</span>&amp;'
        '<span class="hidden-char" title="U+FE0F VARIATION SELECTOR-16">U+FE0F</span>&lt;/b&gt;'
    )


def test_many_hidden_characters_cost_little() -> None:
    """A list has 50 events with three values of 1,024 characters, and blocks the process meanwhile."""
    began = time.process_time()
    visible("\u200b\u200c" * 50_000)

    assert time.process_time() - began < 0.5
    assert len(start("\u200b" * 1024)) < 12_000
    assert start("<" * 161) == "&lt;" * 160 + "…"
    assert start("<" * 160) == "&lt;" * 160
