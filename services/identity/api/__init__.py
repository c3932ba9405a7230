"""Identity over HTTP."""

from services.identity.api import accounts, internal, pages, sessions, users

ROUTERS = [internal.keys, accounts.auth, accounts.me, pages.links, sessions.auth, users.users, internal.internal, internal.mails]
