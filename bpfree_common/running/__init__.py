"""The runner: notebooks executed in parallel and published whole."""
