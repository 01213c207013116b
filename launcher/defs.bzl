"""launcher_test(): a test with a whole launcher, its store and its children."""

load("@rules_cc//cc:cc_test.bzl", "cc_test")

def launcher_test(name, srcs, deps):
    """A test with LauncherProcess; needs real root: children run as other users.

    Args:
      name: of the test.
      srcs: of the test.
      deps: beside what every such test needs.
    """
    cc_test(
        name = name,
        size = "large",
        srcs = srcs,
        linkstatic = True,  # See tools/bazel/fuzz.bzl.
        tags = [
            "exclusive",
            "no-san",  # Children are confined: a sanitizer's calls are not in their policies.
            "no-sandbox",
        ],
        deps = deps + [
            "//base/testing:matchers",
            "//launcher/testing:launcher_process",
            "@com_google_googletest//:gtest_main",
        ],
    )
