"""policy_test(): every policy that ships is linted and proven where it lies."""

load("@rules_cc//cc:cc_test.bzl", "cc_test")

def policy_test(name, policy, max_steady = 16, table = None):
    """Fails when policy_lint has a finding on `policy`.

    Args:
      name: of the test.
      policy: the .policy file; may include the fragments of sandbox/policies.
      max_steady: most system calls in steady state.
      table: a document that must have this policy's row of figures.
    """
    cc_test(
        name = name,
        size = "small",
        args = [
            "--max-steady=%d" % max_steady,
            "--include-dir=sandbox/policies",
            "$(location %s)" % policy,
        ] + (["--table=$(location %s)" % table] if table else []),
        data = [
            policy,
            "//sandbox/policies:fragments",
        ] + ([table] if table else []),
        linkstatic = True,
        deps = ["//sandbox/lint:policy_lint_main"],
    )
