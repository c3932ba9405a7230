"""What a customer does outside of the shop to pay: answer the card's bank on its page, or transfer the money."""

import re
from collections.abc import Mapping
from html import unescape
from typing import Any
from urllib.parse import urljoin

import aiohttp

from cli.client import Company

_FORM = re.compile(r'<form method="post" action="([^"]+)">')
_KEY = re.compile(r'<input type="hidden" name="key" value="([^"]+)">')


async def answer_the_bank(url: str, result: str) -> str:
    """Open the bank's page and press one of its two buttons (`confirm`, `refuse`), as a browser does; where it goes from there,
    empty if nowhere. Who comes when there is nothing more to be asked is sent on. Raises aiohttp.ClientError."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as browser:
        async with browser.get(url, allow_redirects=False) as page:
            page.raise_for_status()
            text = await page.text()
            form, key = _FORM.search(text), _KEY.search(text)
            if form is None or key is None:
                return page.headers.get("Location", "")
        answer = {"key": unescape(key[1]), "result": result}
        async with browser.post(urljoin(url, unescape(form[1])), data=answer, allow_redirects=False) as after:
            after.raise_for_status()
            return after.headers.get("Location", "")


async def transfer(bank: Company, amount: Mapping[str, Any], reference: str, **more: str) -> None:
    """A customer transfers money to the shop, stating the reference. Raises ApiProblem."""
    await bank.call("POST", "/_control/transfers", {**amount, "reference": reference, **more})
