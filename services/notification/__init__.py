"""Notification: mails to customers, each sent once, and the log of what became of them."""
