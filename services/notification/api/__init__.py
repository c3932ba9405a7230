"""Notification over HTTP. The log comes last: its paths are met by the others' too."""

from services.notification.api import inbox, internal, log, preferences, templates, unsubscribing

ROUTERS = [
    templates.templates,
    templates.mails,
    preferences.preferences,
    inbox.inbox,
    unsubscribing.links,
    internal.internal,
    log.log,
]
