"""`python -m gateway.envoy > envoy.json`: the configuration for the settings in the environment."""

import json
import sys

from gateway.envoy import render
from gateway.settings import GatewaySettings

if __name__ == "__main__":
    json.dump(render(GatewaySettings()), sys.stdout, indent=1)
    sys.stdout.write("\n")
