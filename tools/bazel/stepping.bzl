"""stepping_test(): a test that single-steps itself, or forks of itself."""

load("@rules_cc//cc:cc_test.bzl", "cc_test")

# The C library stores 16 to 64 bytes at a time, as the processor allows: with
# the least, instants of death are as fine as on any machine, and as many.
_NARROW_STORES = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2"

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
        env = {"GLIBC_TUNABLES": _NARROW_STORES},
        # Single-steps itself: a sanitizer's instructions would be steps, too.
        tags = ["no-san"],
        deps = deps + ["@com_google_googletest//:gtest_main"],
        **kwargs
    )
