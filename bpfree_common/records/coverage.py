"""Which changes of a laboratory a quick run has put to the test, and which it has not.

The argument: a run is deterministic, so two laboratories give different results only
through a changed unit that the run executes. If a quick run executed every changed unit
that the standard run may execute, and nothing came out differently, the change is taken
to be harmless. A unit that is gone needs no test of its own: whoever called it has
changed too, and is asked for. A changed constant is tested when everything that names it
is; a class whose attributes, bases or list of methods have changed when a method of it
or of a class made from it ran, for all its objects have changed alike. What this cannot
see are branches that only large runs take; for them a confirmation remakes some reports
(see `confirmation`).
"""

from bpfree_common.records.units import Units

Laboratory = dict[str, Units]  #: module -> its units


class Changes:
    """The old and the new laboratory, and what a run on the new one executed."""

    def __init__(self, old: Laboratory, new: Laboratory, run: dict[str, dict[str, str]]):
        self.old, self.new, self.run = old, new, run
        self.watched: dict[str, dict[str, str]] = {m: dict(u) for m, u in run.items()}

    def untested(self, listed: dict[str, set[str]]) -> list[str]:
        """Changed units that the standard run may execute but the quick one has not.

        listed: module of the old laboratory -> its units that the standard run executed.
        Unchanged units are added to `watched`, where they now are.
        """
        found = []
        for module, executed in listed.items():
            units = self.old[module]
            for name, digest in units.functions.items():
                if name in executed:
                    found += self._function(module, name, digest, listed)
            for name, digest in units.bindings.items():
                found += self._binding(module, name, digest, listed)
        return sorted(set(found))

    def _function(self, module: str, name: str, digest: str, listed) -> list[str]:
        if self._unchanged(name, digest):
            return []
        made = self._made_with({_word(name)}, listed)  # values that it made at import
        return self._user(module, name) + self._users(made, listed)

    def _binding(self, module: str, name: str, digest: str, listed) -> list[str]:
        if digest.startswith("import ") or self._unchanged(name, digest):
            return []
        if name == "":
            return [f"{module}, outside its functions"]
        words = {_word(name)}
        if self._is_class(module, name):
            family = words | self._made_with(words, listed)
            if any(self._ran(m) for m in self._methods(family, listed)):
                return []
        return self._users(words | self._made_with(words, listed), listed)

    def _is_class(self, module: str, name: str) -> bool:
        """Whether a binding is what is left of a class when its methods are taken out."""
        return any(f.startswith(f"{name}.") for f in self.old[module].functions)

    def _methods(self, classes: set[str], listed) -> list[str]:
        """The methods of these classes."""
        return [
            name
            for module in listed
            for name in self.old[module].functions
            if classes & set(name.split(".")[:-1])
        ]

    def _made_with(self, words: set[str], listed) -> set[str]:
        """The constants and classes that are made from these names, and from those."""
        found: set[str] = set()
        while True:
            more = {
                _word(name)
                for module in listed
                for name in self.old[module].bindings
                if name and self.old[module].words[name] & (words | found)
            }
            if more <= found:
                return found
            found |= more

    def _users(self, words: set[str], listed) -> list[str]:
        """Functions that name one of these, or are methods of it, and were not run.

        Of those that the standard run executed: no other can have taken part.
        """
        return [
            place
            for module, executed in listed.items()
            for name in self.old[module].functions
            if name in executed
            and words & (self.old[module].words[name] | set(name.split(".")[:-1]))
            for place in self._user(module, name)
        ]

    def _user(self, module: str, name: str) -> list[str]:
        """A function that has changed, or names something changed: it must have run."""
        if self._ran(name) or not self._has(name):
            return []
        return [f"{module}.{name}"]

    def _unchanged(self, name: str, digest: str) -> bool:
        """Whether the new laboratory has this very unit; if so it is watched there."""
        having = [m for m, units in self.new.items() if name in units.all]
        loaded = [m for m in having if m in self.run]
        same = [m for m in loaded or having if self.new[m].all[name] == digest]
        for module in same:
            self.watched.setdefault(module, {})[name] = digest
        return bool(same)

    def _ran(self, name: str) -> bool:
        return any(
            name in done and name in self.new[module].functions
            for module, done in self.run.items()
            if module in self.new
        )

    def _has(self, name: str) -> bool:
        return any(name in units.all for units in self.new.values())


def _word(name: str) -> str:
    """The identifier that others use for a unit."""
    return name.rpartition(".")[2].partition("[")[0]
