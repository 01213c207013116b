"""cc_proto(): a C++ library from one .proto file, with Debian's protoc and grpc_cpp_plugin."""

load("@rules_cc//cc:cc_library.bzl", "cc_library")

def cc_proto(name, src, proto_deps = [], grpc = False, visibility = None):
    """Makes :name (cc_library) and :name_src (the .proto files, for dependants).

    Args:
      name: the library.
      src: the .proto file.
      proto_deps: other cc_proto libraries whose files src imports.
      grpc: whether to generate the service stubs as well.
      visibility: of the library.
    """
    if not src.endswith(".proto"):
        fail("src must end in .proto")
    base = src[:-len(".proto")]
    dep_srcs = [d + "_src" for d in proto_deps]
    native.filegroup(name = name + "_src", srcs = [src] + dep_srcs, visibility = visibility)
    outs = [base + ".pb.h", base + ".pb.cc"]
    out_flags = "--cpp_out=$(GENDIR)"
    if grpc:
        outs += [base + ".grpc.pb.h", base + ".grpc.pb.cc"]
        out_flags += " --plugin=protoc-gen-grpc=$$(command -v grpc_cpp_plugin) --grpc_out=$(GENDIR)"
    native.genrule(
        name = name + "_gen",
        srcs = [src] + dep_srcs,
        outs = outs,
        cmd = "protoc -I. %s $(location %s)" % (out_flags, src),
        message = "Generating C++ from " + src,
    )
    cc_library(
        name = name,
        srcs = [o for o in outs if o.endswith(".cc")],
        hdrs = [o for o in outs if o.endswith(".h")],
        copts = ["-w"],
        visibility = visibility,
        deps = proto_deps + ["@com_google_protobuf//:protobuf"] +
               (["@com_github_grpc_grpc//:grpc++"] if grpc else []),
    )
