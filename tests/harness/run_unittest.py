"""Runs one unittest file for Bazel and reports every case.

    run_unittest.py FILE [ARGUMENT...]

The cases go to XML_OUTPUT_FILE, each as passed, failed or skipped, so that
the summary of a run counts them like those of C++ tests.
"""

import importlib.util
import os
import sys
import time
import unittest
from xml.etree import ElementTree


class XmlResult(unittest.TextTestResult):
    """Collects one XML element a case."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.suite = ElementTree.Element("testsuite")
        self._started = 0.0

    def startTest(self, test):
        super().startTest(test)
        self._started = time.monotonic()

    def _case(self, test, child=None, text=""):
        case = ElementTree.SubElement(
            self.suite, "testcase", name=str(test), status="run",
            time="%.3f" % (time.monotonic() - self._started))
        if child:
            ElementTree.SubElement(case, child, message=text[:4000])

    def addSuccess(self, test):
        super().addSuccess(test)
        self._case(test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._case(test, "failure", self._exc_info_to_string(err, test))

    def addError(self, test, err):
        super().addError(test, err)
        self._case(test, "error", self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._case(test, "skipped", reason)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self._case(subtest, "failure", self._exc_info_to_string(err, test))

    def write(self, path):
        root = ElementTree.Element("testsuites")
        root.append(self.suite)
        ElementTree.ElementTree(root).write(path, encoding="unicode")


def load(path):
    """Imports a test file that lies outside any package."""
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main(argv):
    # `from tests.harness import vm` works from the root of the runfiles.
    sys.path.insert(0, os.getcwd())
    module = load(argv[1])
    sys.argv = argv[1:]
    tests = unittest.defaultTestLoader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(
        resultclass=XmlResult, verbosity=2, stream=sys.stdout).run(tests)
    if os.environ.get("XML_OUTPUT_FILE"):
        result.write(os.environ["XML_OUTPUT_FILE"])
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
