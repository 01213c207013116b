"""External repositories, all made on the build machine: nothing is downloaded."""

def _write(ctx, files):
    ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % ctx.name, executable = False)
    for path, content in files.items():
        ctx.file(path, content, executable = False)

def _need(ctx, modules):
    """Stops with the package to install when a pkg-config module is missing."""
    for module, package in modules.items():
        if ctx.execute(["pkg-config", "--exists", module]).return_code != 0:
            fail("pkg-config does not know %s: apt-get install pkg-config %s" % (module, package))

# --- 1. What Bazel 4 itself would fetch -------------------------------------------------

def _stub_impl(ctx):
    _write(ctx, ctx.attr.files)
    for path, label in ctx.attr.links.items():
        ctx.symlink(ctx.path(Label(label)), path)

_stub = repository_rule(
    implementation = _stub_impl,
    attrs = {"files": attr.string_dict(), "links": attr.string_dict()},
    local = True,
)

def _native(names):
    return "".join(["%s = native.%s\n" % (n, n) for n in names])

def _bazel_builtins():
    cc = ["cc_binary", "cc_import", "cc_library", "cc_test", "cc_toolchain", "cc_toolchain_suite", "cc_proto_library"]
    files = {"cc/BUILD.bazel": "", "cc/defs.bzl": _native(cc)}
    for rule in cc:
        files["cc/%s.bzl" % rule] = _native([rule])
    _stub(name = "rules_cc", files = files)
    _stub(name = "rules_java", files = {
        "java/BUILD.bazel": "",
        "java/defs.bzl": _native(["java_binary", "java_import", "java_library", "java_runtime", "java_toolchain"]),
    })
    _stub(
        name = "remote_coverage_tools",
        files = {"BUILD.bazel": """
package(default_visibility = ["//visibility:public"])
filegroup(name = "lcov_merger", srcs = ["merge.py"])
filegroup(name = "coverage_output_generator", srcs = ["merge.py"])
filegroup(name = "coverage_report_generator", srcs = ["report.py"])
"""},
        links = {
            "merge.py": "@holdfast//tools/bazel:lcov_merge.py",
            "report.py": "@holdfast//tools/bazel:lcov_report.py",
        },
    )

# --- 2. Debian's libraries, under their upstreams' labels -------------------------------

_PKG = "package(default_visibility = [\"//visibility:public\"])\n"

def _lib(name, linkopts = [], deps = []):
    return "cc_library(name = %r, linkopts = %r, deps = %r)\n" % (name, linkopts, deps)

def _system_impl(ctx):
    _need(ctx, ctx.attr.modules)
    files = {}
    for target, opts in ctx.attr.targets.items():
        files[""] = files.get("", _PKG) + _lib(target, opts, ctx.attr.target_deps.get(target, []))
    _write(ctx, {"BUILD.bazel": files[""]})

_system = repository_rule(
    implementation = _system_impl,
    attrs = {
        "modules": attr.string_dict(),
        "target_deps": attr.string_list_dict(),
        "targets": attr.string_list_dict(),
    },
    local = True,
)

def _abseil_impl(ctx):
    _need(ctx, {"absl_status": "libabsl-dev"})
    libdir = ctx.execute(["pkg-config", "--variable=libdir", "absl_status"]).stdout.strip()
    libs = sorted([
        "-l" + e.basename[len("lib"):-len(".a")]
        for e in ctx.path(libdir).readdir()
        if e.basename.startswith("libabsl_") and e.basename.endswith(".a")
    ])

    # One group: of the shared libraries only the needed ones get a DT_NEEDED, and of the
    # archives the order does not matter.
    linkopts = ["-Wl,--push-state,--as-needed,--start-group"] + libs + ["-Wl,--end-group,--pop-state", "-pthread"]
    files = {"absl/BUILD.bazel": _PKG + _lib("absl", linkopts)}
    for pkg, targets in ctx.attr.packages.items():
        files["absl/%s/BUILD.bazel" % pkg] = _PKG + "".join([_lib(t, deps = ["//absl"]) for t in targets])
    _write(ctx, files)

_abseil = repository_rule(
    implementation = _abseil_impl,
    attrs = {"packages": attr.string_list_dict()},
    local = True,
)

def _system_libraries():
    _abseil(name = "com_google_absl", packages = {
        "base": ["core_headers", "log_severity"],
        "cleanup": ["cleanup"],
        "container": ["fixed_array", "flat_hash_map", "flat_hash_set", "inlined_vector"],
        "flags": ["flag", "parse", "usage"],
        "functional": ["bind_front", "function_ref"],
        "status": ["status", "statusor"],
        "strings": ["strings", "str_format"],
        "synchronization": ["synchronization"],
        "time": ["time"],
        "types": ["optional", "span"],
    })
    _system(
        name = "com_google_protobuf",
        modules = {"protobuf": "libprotobuf-dev"},
        targets = {"protobuf": ["-lprotobuf", "-pthread"], "protobuf_lite": ["-lprotobuf-lite", "-pthread"]},
    )
    _system(
        name = "com_github_grpc_grpc",
        modules = {"grpc++": "libgrpc++-dev"},
        targets = {
            # The rest is for a static program; a shared libgrpc brings it along.
            "grpc++": ["-lgrpc++", "-lgrpc", "-lgpr", "-Wl,--push-state,--as-needed"] +
                      ["-lupb", "-laddress_sorting", "-lre2", "-lcares", "-lssl", "-lcrypto", "-lz", "-Wl,--pop-state"],
            "grpc++_reflection": ["-lgrpc++_reflection"],
        },
        target_deps = {
            "grpc++": ["@com_google_absl//absl", "@com_google_protobuf//:protobuf"],
            "grpc++_reflection": [":grpc++"],
        },
    )
    _system(
        name = "com_google_googletest",
        modules = {"gmock": "libgmock-dev", "gtest": "libgtest-dev"},
        targets = {"gtest": ["-lgmock", "-lgtest", "-pthread"], "gtest_main": ["-lgmock_main"]},
        target_deps = {"gtest_main": [":gtest"]},
    )
    _system(
        name = "com_github_google_benchmark",
        modules = {"benchmark": "libbenchmark-dev"},
        targets = {"benchmark": ["-lbenchmark", "-pthread"], "benchmark_main": ["-lbenchmark_main"]},
        target_deps = {"benchmark_main": [":benchmark"]},
    )
    _system(name = "libseccomp", modules = {"libseccomp": "libseccomp-dev"}, targets = {"seccomp": ["-lseccomp"]})
    _system(name = "libselinux", modules = {"libselinux": "libselinux1-dev"}, targets = {"selinux": ["-lselinux"]})

def project_repositories():
    _bazel_builtins()
    _system_libraries()
