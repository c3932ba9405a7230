"""Notification over HTTP. The log comes last: its paths are met by the others' too."""

from services.notification.api import inbox, internal, log, preferences, push, templates, unsubscribing, webhooks

ROUTERS = [
    templates.templates,
    templates.mails,
    preferences.preferences,
    inbox.inbox,
    push.push,
    webhooks.webhooks,
    unsubscribing.links,
    internal.internal,
    log.log,
]
