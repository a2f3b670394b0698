"""Does our little Markdown become the HTML it means, and never a tag that somebody else wrote?"""

import pytest

from ingress.markdown import slug, to_html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Two\nlines.\n\nAnother.", "<p>Two\nlines.</p>\n<p>Another.</p>"),
        ("Say `a < b` **now**.", "<p>Say <code>a &lt; b</code> <strong>now</strong>.</p>"),
        ("## Not known yet: 202", '<h2 id="not-known-yet-202">Not known yet: 202</h2>'),
        ("- one\n- two", "<ul><li>one</li><li>two</li></ul>"),
        ("1. one\n2. two\n   goes on", "<ol><li>one</li><li>two\n   goes on</li></ol>"),
        ("```\na <b>\n\n- c\n```", "<pre><code>a &lt;b&gt;\n\n- c</code></pre>"),
    ],
)
def test_it_becomes_html(text: str, html: str) -> None:
    assert to_html(text) == html


@pytest.mark.parametrize("place", ["{}", "## {}", "- {}", "`{}`", "**{}**", "```\n{}\n```"])
def test_nothing_written_becomes_a_tag(place: str) -> None:
    assert "<script" not in to_html(place.format("<script>alert(1)</script>"))


def test_a_heading_is_called_the_same_everywhere() -> None:
    assert slug("Seats that change, in five steps") == "seats-that-change-in-five-steps"
