"""holdfast_device(), holdfast_pci_device() and their tests: a device program, and everything that must be true of it."""

load("@rules_cc//cc:cc_test.bzl", "cc_test")
load("//sandbox/lint:defs.bzl", "policy_test")
load("//tools/bazel:static.bzl", "static_binary")

def _suite(name, suite, program, args, data, **kwargs):
    cc_test(
        name = name,
        args = ["--suite=" + suite, "--program=$(rootpath :%s)" % program] + args,
        data = [":" + program] + data,
        linkstatic = True,
        deps = ["//devices/testing:conformance_main"],
        **kwargs
    )

def _resource_args(resources):
    return ["--resource=%s:%d" % item for item in resources.items()]

def _program(name, srcs, deps, policy, max_steady, policy_table, visibility):
    static_binary(
        name = name,
        srcs = srcs,
        visibility = visibility,
        deps = deps + ["//devices/runtime:device_main"],
    )
    native.exports_files([policy], visibility = ["//visibility:public"])
    policy_test(
        name = name + "_policy_test",
        max_steady = max_steady,
        policy = policy,
        table = policy_table,
    )

def holdfast_pci_device(
        name,
        srcs,
        deps,
        policy,
        max_steady = 19,
        policy_table = None,
        resources = {},
        visibility = None):
    """The program of a PCI or platform device, static, served over vfio-user.

    Makes
      :NAME                   the binary,
      :NAME_policy_test       its policy is linted and proven against its filter,
      :NAME_sessions_test     clients that come back, wait for one another, or
                              go amid a message;
    and exports the policy.

    Args:
      name: of the program.
      srcs: of the program; one defines main(), by HOLDFAST_DEVICE_MAIN.
      deps: of srcs, besides //devices/runtime:device_main.
      policy: what it may ask of the kernel; beside the device.
      max_steady: most system calls in steady state.
      policy_table: a document that must have the policy's row of figures.
      resources: name of each file that it needs, and how large the tests make it.
      visibility: of the program.
    """
    _program(name, srcs, deps, policy, max_steady, policy_table, visibility)
    _suite(
        name = name + "_sessions_test",
        size = "small",
        args = ["--request=in:1"] + _resource_args(resources),
        data = [],
        program = name,
        suite = "sessions",
    )

def _region_device_tests(name, bus, class_of, header, deps, device, device_class, crashes):
    defines = [
        "HOLDFAST_CONFORMANCE_HEADER=\\\"devices/bus/testing/%s_conformance.h\\\"" % bus,
        "HOLDFAST_DEVICE_HEADER=\\\"%s\\\"" % header,
        "HOLDFAST_DEVICE_CLASS=%s" % (
            device_class or "holdfast::testing::%s<%s>()" % (class_of, device)
        ),
    ]
    suites = {"conformance": []}
    if crashes:
        # Single-steps itself: a sanitizer's instructions would be steps, too.
        suites["crash"] = ["no-san"]
    for suite, tags in suites.items():
        cc_test(
            name = "%s_%s_test" % (name, {"crash": "crashes"}.get(suite, suite)),
            size = "medium",
            srcs = ["//devices/bus/testing:%s_suite.cc" % suite],
            linkstatic = True,  # See tools/bazel/fuzz.bzl.
            local_defines = defines,
            tags = tags,
            deps = deps + [
                "//devices/bus/testing:%s_conformance" % bus,
                "@com_google_googletest//:gtest_main",
            ],
        )

def holdfast_pci_device_tests(
        name,
        header,
        deps,
        device = None,
        device_class = None,
        crashes = True):
    """The tests that every PCI device has, in a process of their own.

    Makes
      :NAME_conformance_test  the rules of devices/bus/testing/pci_conformance.h,
      :NAME_crashes_test      each of its registers killed after every store,
                              recovered, and compared with a life in peace.

    Args:
      name: of the device.
      header: that declares it.
      deps: of the header.
      device: its class, of which there is Spec() and a constructor.
      device_class: instead of it: a C++ expression that is a testing::PciClass.
      crashes: False, if its own crash tests say why they cover more.
    """
    _region_device_tests(
        name,
        "pci",
        "PciClassOf",
        header,
        deps,
        device,
        device_class,
        crashes,
    )

def holdfast_platform_device_tests(
        name,
        header,
        deps,
        device = None,
        device_class = None):
    """The tests that every platform device has: as holdfast_pci_device_tests().

    The rules are those of devices/bus/testing/platform_conformance.h.

    Args:
      name: of the device.
      header: that declares it.
      deps: of the header.
      device: its class, of which there is Spec() and a constructor.
      device_class: instead: a C++ expression that is a testing::PlatformClass.
    """
    _region_device_tests(
        name,
        "platform",
        "PlatformClassOf",
        header,
        deps,
        device,
        device_class,
        crashes = True,
    )

def holdfast_device(
        name,
        srcs,
        deps,
        policy,
        request,
        descriptor,
        golden,
        older_goldens = {},
        resources = {},
        arguments = [],
        repeatable = True,
        max_steady = 16,
        policy_table = None,
        visibility = None):
    """The program of a device, static, and the tests that every device has.

    Makes
      :NAME                   the binary,
      :NAME_policy_test       its policy is linted and proven against its filter,
      :NAME_descriptor_test   its file for QEMU's vhost-user directory says what
                              --print-capabilities says,
      :NAME_conformance_test  command line, vhost-user, rings, malformed input,
      :NAME_crash_test        killed under holdfast-store in its sandbox, it
                              answers as one that was left alone (root only);
    and exports the policy and the descriptor.

    Args:
      name: of the program.
      srcs: of the program; one defines main(), by HOLDFAST_DEVICE_MAIN.
      deps: of srcs, besides //devices/runtime:device_main.
      policy: what it may ask of the kernel; beside the device.
      request: one that queue 0 answers with at least one byte, whatever came
        before: "out:HEX,in:BYTES", readable buffers first.
      descriptor: the JSON file for QEMU's share/qemu/vhost-user.
      golden: what guests and segments rely on; a mismatch prints the new text.
      older_goldens: the same of each compat version before, by number, for guests
        that were started with it; each makes :NAME_compat_vN_test, which is the
        crash test of a device that is pinned to it.
      resources: name of each file that it needs, and how large the tests make it.
      arguments: of the program in the tests.
      repeatable: False, if answers are random.
      max_steady: most system calls in steady state.
      policy_table: a document that must have the policy's row of figures.
      visibility: of the program.
    """
    _program(name, srcs, deps, policy, max_steady, policy_table, visibility)
    native.exports_files(
        [descriptor, golden] + list(older_goldens.values()),
        visibility = ["//visibility:public"],
    )
    native.sh_test(
        name = name + "_descriptor_test",
        size = "small",
        srcs = ["//tools/bazel:check_descriptor.py"],
        args = [
            "$(rootpath :%s)" % name,
            "$(rootpath %s)" % descriptor,
        ],
        data = [
            descriptor,
            ":" + name,
        ],
    )
    suite_args = ["--request=" + request] + [
        "--argument=" + argument
        for argument in arguments
    ] + _resource_args(resources) + ([] if repeatable else ["--varies"])
    _suite(
        name = name + "_conformance_test",
        size = "small",
        args = suite_args,
        data = [],
        program = name,
        suite = "conformance",
    )
    crashes = {name + "_crash_test": (golden, [])}
    for version, older in older_goldens.items():
        crashes["%s_compat_v%d_test" % (name, version)] = (
            older,
            ["--argument=--compat-version=%d" % version],
        )
    for test, (described, pinned) in crashes.items():
        _suite(
            name = test,
            size = "medium",
            args = suite_args + pinned + [
                "--golden=$(rootpath %s)" % described,
                "--policy=$(rootpath %s)" % policy,
                "--policy-include=sandbox/policies",
                "--store-program=$(rootpath //statestore/store:holdfast-store)",
            ],
            data = [
                described,
                policy,
                "//sandbox/policies:fragments",
                "//statestore/store:holdfast-store",
            ],
            program = name,
            suite = "crash",
            # Real root, for users of their own. Sanitized programs are dynamic:
            # an empty root has no loader for them.
            tags = [
                "exclusive",
                "no-san",
                "no-sandbox",
            ],
        )
