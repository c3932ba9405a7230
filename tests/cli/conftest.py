"""The sagas of the workflow tests, as operators meet them."""

from tests.workflows.conftest import begin, env

__all__ = ["begin", "env"]
