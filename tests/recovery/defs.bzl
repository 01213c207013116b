"""recovery_test(): a whole device in its sandbox under a real store."""

load("@rules_cc//cc:cc_test.bzl", "cc_test")

def recovery_test(name, src, data = [], deps = []):
    """A test with ManagedDevice and FrontEnd; needs real root: the device runs under a user of its own.

    Args:
      name: of the test.
      src: its source.
      data: the devices and their policies.
      deps: beside what every such test needs.
    """
    cc_test(
        name = name,
        size = "medium",
        srcs = [src],
        linkstatic = True,  # See tools/bazel/fuzz.bzl.
        data = data + [
            "//examples/hello_virtio",
            "//examples/hello_virtio:hello_virtio.policy",
            "//sandbox/policies:fragments",
            "//statestore/store:holdfast-store",
        ],
        # The device is confined: a sanitizer's calls are not in its policy.
        tags = [
            "exclusive",
            "no-san",  # Whole processes, static and under seccomp filters.
            "no-sandbox",
        ],
        deps = deps + [
            "//base/testing:matchers",
            "//devices/testing:managed_device_sys",
            "//devices/vhost_user/testing:front_end",
            "@com_google_googletest//:gtest_main",
        ],
    )
