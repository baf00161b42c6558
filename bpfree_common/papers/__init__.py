"""The papers: the catalogue, notebooks as data and as modules, their parameters."""
