"""python_test(): a unittest file as a Bazel test, without any Python rules."""

def python_test(name, src, data = [], **kwargs):
    """Runs a unittest file with the machine's python3.

    Args:
      name: ends in _test.
      src: the file; it imports the tree's modules by their path from the root.
      data: what it imports and what programs it starts.
      **kwargs: of sh_test.
    """
    native.sh_test(
        name = name,
        srcs = ["//tests/harness:run_unittest.sh"],
        args = ["$(location %s)" % src],
        data = [src, "//tests/harness:run_unittest.py"] + data,
        **kwargs
    )

def guest_test(name, src, data = [], tags = [], **kwargs):
    """A python_test that boots a guest: alone on the machine, outside the sandbox.

    Args:
      name: ends in _test.
      src: the unittest file.
      data: the device's binaries.
      tags: beside those of every guest; "long": it has a long variant.
      **kwargs: of sh_test.
    """
    python_test(
        name = name,
        src = src,
        size = "large",
        timeout = "eternal",  # A busy machine kills slowly.
        data = data + [
            "//tests/guest",
            "//tests/harness",
        ],
        tags = [
            "exclusive",
            "no-sandbox",
            "vm",
        ] + tags,
        **kwargs
    )
