"""The one layout of all mails: how a text becomes HTML, how HTML becomes a text, and what stands below both."""

import re
from html import escape
from html.parser import HTMLParser

_LINK = re.compile(r"https?://[^\s<>\"]+[^\s<>\".,;:!?)]")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_HEAD = (
    '<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light">\n'
    "<title>{title}</title></head>\n"
    '<body style="margin:0;padding:24px 12px;background:#f3f5f8;color:#1d2430;font:16px/1.5 system-ui,-apple-system,Segoe UI,'
    'Roboto,Arial,sans-serif">\n'
    '<div style="max-width:560px;margin:0 auto;padding:28px 32px;background:#ffffff;border-radius:12px">\n'
    '<h1 style="margin:0 0 16px;font-size:20px;line-height:1.3">{title}</h1>\n'
)
_FOOT = "</div>\n{footer}</body></html>\n"
_BELOW = (
    '<p style="max-width:560px;margin:16px auto 0;padding:0 32px;font-size:13px;color:#5b6577">{text} '
    '<a href="{url}" style="color:#5b6577">Unsubscribe</a></p>\n'
)
_WHY = "You get this because you have an account with us."


def page(title: str, content: str, *, language: str, unsubscribe_url: str | None = None) -> str:
    """A whole HTML mail around `content`, which is HTML; `title` is text."""
    footer = _BELOW.format(text=_WHY, url=escape(unsubscribe_url)) if unsubscribe_url else ""
    return _HEAD.format(title=escape(title), language=escape(language)) + content + _FOOT.format(footer=footer)


def paragraphs(text: str) -> str:
    """A plain text as HTML: empty lines part paragraphs, addresses become links, and nothing in it is markup."""
    return "".join(
        f'<p style="margin:0 0 16px">{_linked(part.strip())}</p>\n' for part in _PARAGRAPHS.split(text) if part.strip()
    )


def with_footer(text: str, unsubscribe_url: str | None) -> str:
    """The plain-text part, with what the HTML part has below."""
    return f"{text.rstrip()}\n\n-- \n{_WHY} Unsubscribe: {unsubscribe_url}\n" if unsubscribe_url else text


def _linked(text: str) -> str:
    """Escaped, with line breaks and links."""
    parts, last = [], 0
    for found in _LINK.finditer(text):
        url = escape(found[0])
        parts += [escape(text[last : found.start()]), f'<a href="{url}" style="color:#1f5fd0">{url}</a>']
        last = found.end()
    return "".join((*parts, escape(text[last:]))).replace("\n", "<br>\n")


def as_text(html: str) -> str:
    """What HTML says, as plain text: for a template that has no text of its own."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


class _Reader(HTMLParser):
    """Collects text; blocks begin a new line, links are followed by their address."""

    _BLOCKS = frozenset({"p", "div", "h1", "h2", "h3", "ul", "ol", "table", "blockquote", "hr"})
    _LINES = frozenset({"br", "li", "tr"})
    _HIDDEN = frozenset({"style", "script", "head", "title"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0
        self._links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in self._HIDDEN
        if tag in self._BLOCKS:
            self.parts.append("\n\n")
        elif tag in self._LINES:
            self.parts.append("\n" + ("- " if tag == "li" else ""))
        elif tag == "a":
            self._links.append(dict(attrs).get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self._HIDDEN and self._hidden > 0
        if tag in self._BLOCKS:
            self.parts.append("\n\n")
        elif tag == "a" and self._links and (url := self._links.pop()):
            self.parts.append(f" ({url})")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            # Line breaks of the source are no line breaks of the text.
            self.parts.append(re.sub(r"\s+", " ", data))
