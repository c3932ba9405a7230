"""How the platform uses Temporal: the client, names, search attributes, retry presets, and refusals as failures."""
