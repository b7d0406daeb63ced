"""Text in pictures that is safe for any label: every script, control characters, dollar signs, any length."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from typing import Any

from asyncbatch.cli.terminal import need

__all__ = ["Lettering"]

# DejaVu Sans comes with matplotlib; it covers Latin, Greek, Cyrillic, Arabic and Hebrew. The others help out.
FAMILIES = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback",
            "Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS",
            "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "Segoe UI Symbol")  # fmt: skip


class Lettering:
    """Fits text into a width, for one figure.

    Args:
        figure: A matplotlib figure on an Agg canvas.

    Attributes:
        families: The fonts to draw with, for the argument `fontfamily`.
    """

    def __init__(self, figure: Any) -> None:
        manager = need("matplotlib.font_manager", "plot")
        font = need("matplotlib.ft2font", "plot").FT2Font
        installed = {entry.name for entry in manager.fontManager.ttflist}
        self.families = [family for family in FAMILIES if family in installed]
        files = (manager.findfont(manager.FontProperties(family=family)) for family in self.families)
        self._drawable = {code for file in files for code in font(file).get_charmap()}
        self._properties = manager.FontProperties
        self._renderer = figure.canvas.get_renderer()

    def fit(self, text: str, width: float, size: float) -> str:
        """Return `text` shortened in the middle to fit, with what cannot be drawn escaped as Python does.

        Args:
            text: Any string, lone surrogates of undecodable file names included.
            width: In pixels.
            size: Of the letters, in points.
        """
        letters = [c if self._can_draw(c) else _escaped(c) for c in unicodedata.normalize("NFC", text)]
        del letters[400:-400]  # more would fit in no picture, and measuring a megabyte takes minutes
        properties = self._properties(family=self.families, size=size)

        def shortened(kept: int) -> str:
            return "".join([*letters[: (kept + 1) // 2], "…", *letters[len(letters) - kept // 2 :]])

        def length(text: str) -> float:
            return float(self._renderer.get_text_width_height_descent(text, properties, ismath=False)[0])

        whole = "".join(letters)
        if length(whole) <= width:
            return whole
        longer = bisect_right(range(len(letters)), width, lo=1, key=lambda kept: length(shortened(kept)))
        return shortened(longer - 1)

    def _can_draw(self, character: str) -> bool:
        return character.isprintable() and ord(character) in self._drawable


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
