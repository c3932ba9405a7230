"""Envoy's configuration: `gateway/routes.py` and the settings, rendered. `python -m gateway.envoy` prints it as JSON."""

from gateway.envoy.bootstrap import render

__all__ = ["render"]
