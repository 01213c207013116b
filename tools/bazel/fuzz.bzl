"""fuzz_test(): one source, a libFuzzer program and a test that replays its corpus."""

load("@rules_cc//cc:cc_binary.bzl", "cc_binary")
load("@rules_cc//cc:cc_test.bzl", "cc_test")

def fuzz_test(name, src, deps, corpus = [], tags = [], size = "small"):
    """Makes :name (cc_test that replays the corpus and mutations of it) and :name_libfuzzer.

    Args:
      name: ends in _fuzz.
      src: defines LLVMFuzzerTestOneInput.
      deps: of src.
      corpus: files that are replayed.
      tags: of the replay test.
      size: of the replay test.
    """
    cc_test(
        name = name,
        size = size,
        srcs = [src],
        args = ["$(locations %s)" % c for c in corpus],
        data = corpus,
        # Abseil comes in with --as-needed: a program that uses none of it itself would not
        # load it for its shared libraries.
        linkstatic = True,
        tags = tags,
        deps = deps + ["//base/testing:fuzz_replay_main"],
    )
    cc_binary(
        name = name + "_libfuzzer",
        testonly = True,
        srcs = [src],
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = deps,
    )
