"""forbidden(): a dependency that the house does not allow, as a test."""

def _query_test(name, target, pattern, want):
    native.genquery(
        name = name + "_found",
        testonly = True,
        expression = "filter(\"%s\", deps(%s))" % (pattern, target),
        scope = [target],
    )
    native.sh_test(
        name = name,
        size = "small",
        srcs = ["found_test.sh"],
        args = [
            want,
            "$(location :%s_found)" % name,
        ],
        data = [":%s_found" % name],
    )

def forbidden(name, target, pattern):
    """Fails, and prints what it found, when `target` needs what it must not.

    Args:
      name: of the test.
      target: whose dependencies are looked at, all of them.
      pattern: regular expression of labels.
    """
    _query_test(name, target, pattern, "nothing")

def required(name, target, pattern):
    """The negative control: fails when the query finds nothing.

    Args:
      name: of the test.
      target: whose dependencies are looked at.
      pattern: regular expression of labels.
    """
    _query_test(name, target, pattern, "something")
