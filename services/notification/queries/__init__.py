"""Reads of notification."""
