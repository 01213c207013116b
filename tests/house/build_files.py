"""The C++ targets of the tree, without Bazel.

BUILD and .bzl files are Python but for load(): they are run here with recorders
in the place of Bazel's rules, so that macros count as what they make.
"""

import builtins
import os

from tests.house import sources


class Target:
    """A cc_library, cc_binary or cc_test: its files and direct dependencies."""

    def __init__(self, package, arguments):
        def labels(name):
            return [label(package, x) for x in arguments.get(name) or []]
        self.name = label(package, ":" + arguments["name"])
        self.hdrs = labels("hdrs") + labels("textual_hdrs")
        self.files = self.hdrs + labels("srcs")
        self.deps = labels("deps")


def label(package, text):
    """The full label: "//base:log" for ":log", "log" and "//base:log"."""
    if text.startswith("@"):
        return text
    if text.startswith("//"):
        return text if ":" in text else text + ":" + text.rsplit("/", 1)[-1]
    return "//%s:%s" % (package, text.lstrip(":"))


def path(label_text):
    """Where the file of a label is, from the root."""
    return label_text[2:].replace(":", "/").lstrip("/")


class _Anything:
    """Stands for what Bazel defines and no C++ target needs."""

    def __call__(self, *_, **__):
        return _Anything()

    def __getattr__(self, _):
        return _Anything()


class _Bazel(dict):
    """The names that a BUILD or .bzl file sees."""

    def __init__(self, package, targets, read):
        super().__init__()
        self._package, self._read, self._targets = package, read, targets
        self._record = lambda **arguments: targets.append(
            Target(package, arguments))
        self["load"] = self._load
        self["select"] = lambda branches: sum(branches.values(), [])
        self["glob"] = lambda *_, **__: []

    def __missing__(self, name):
        if hasattr(builtins, name):
            raise KeyError(name)
        return _Anything()

    def _load(self, source, *names):
        if source.startswith("@rules_cc//"):
            loaded = {name: self._record for name in names}
        elif source.startswith("@"):
            loaded = {}
        else:
            loaded = _Bazel(self._package, self._targets, self._read)
            _run(path(label(self._package, source)), loaded, self._read)
        for name in names:
            self[name] = loaded[name] if name in loaded else _Anything()


def _run(file, names, read):
    exec(compile(read(file), file, "exec"), names)  # pylint: disable=exec-used


def targets_of(file, read=sources.text):
    """The C++ targets that a BUILD file makes."""
    found = []
    _run(file, _Bazel(os.path.dirname(file), found, read), read)
    return found
