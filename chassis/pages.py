"""Plain pages for people who followed a link: no login, no script, nothing from elsewhere."""

import base64
import hashlib
from html import escape
from http import HTTPStatus

from fastapi.responses import HTMLResponse

_STYLE = """
body { margin: 0; font: 1rem/1.5 system-ui, sans-serif; color: #1d2430; background: #f3f5f8 }
main { max-width: 26rem; margin: 12vh auto 0; padding: 2rem; background: #fff; border-radius: 12px }
h1 { margin: 0 0 .75rem; font-size: 1.35rem }
p { margin: 0 0 1.25rem }
.problem { padding: .6rem .8rem; color: #8c1d18; background: #fdecea; border-radius: 8px }
label { display: block; margin-bottom: 1.25rem; font-weight: 600 }
input, button { box-sizing: border-box; width: 100%; padding: .65rem; font: inherit; border-radius: 8px }
input { margin-top: .35rem; border: 1px solid #8a94a6 }
button { margin-bottom: .6rem; font-weight: 600; color: #fff; background: #1f5fd0; border: 0; cursor: pointer }
button[value=stop] { color: #8c1d18; background: #fdecea }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address of the page often has a token in it
    "X-Content-Type-Options": "nosniff",
}


def plain_page(
    title: str, text: str, rest: str = "", *, status: HTTPStatus = HTTPStatus.OK, reload_after_s: int | None = None
) -> HTMLResponse:
    """A page with a heading and a paragraph, and `rest`, which is HTML. It opens itself again after a time, if one is given."""
    again = f'<meta http-equiv="refresh" content="{reload_after_s}">' if reload_after_s else ""
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">{again}<title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>"
    )
    body = f"<main><h1>{escape(title)}</h1><p>{escape(text)}</p>{rest}</main>"
    content = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'
    return HTMLResponse(content, status, HEADERS)
