"""stepping_test(): a test that single-steps itself, or forks of itself."""

load("@rules_cc//cc:cc_test.bzl", "cc_test")

def stepping_test(name, srcs, deps, size = "medium", **kwargs):
    """A cc_test that no sanitizer sees: its instructions would be steps, too.

    Args:
      name: of the test.
      srcs: of the test.
      deps: of the test, besides GoogleTest.
      size: of the test.
      **kwargs: of the cc_test.
    """
    cc_test(
        name = name,
        size = size,
        srcs = srcs,
        linkstatic = True,  # See tools/bazel/fuzz.bzl.
        # Single-steps itself: a sanitizer's instructions would be steps, too.
        tags = ["no-san"],
        deps = deps + ["@com_google_googletest//:gtest_main"],
        **kwargs
    )
