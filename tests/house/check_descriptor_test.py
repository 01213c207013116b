"""The check of descriptor files for QEMU's vhost-user directory can fail."""

import json
import unittest

from tools.bazel.check_descriptor import findings

GOOD = {"description": "a disk", "type": "block", "binary": "/usr/libexec/b"}
SAID = '{"type":"block","features":["read-only"],"holdfast":{}}\n'


class CheckDescriptor(unittest.TestCase):

    def check(self, name="50-b.json", said=SAID, **changes):
        text = json.dumps({k: v for k, v in {**GOOD, **changes}.items()
                           if v is not None})
        return "; ".join(findings(name, text, said))

    def test_a_good_one_has_no_findings(self):
        self.assertEqual(self.check(), "")
        self.assertEqual(self.check(tags=["any"]), "")

    def test_missing_and_unknown_members_are_named(self):
        self.assertIn("description is missing", self.check(description=None))
        self.assertIn("binary is missing", self.check(binary=""))
        self.assertIn("no other", self.check(other=1))

    def test_the_type_is_the_programs(self):
        self.assertIn("the program says it is of type 'block'",
                      self.check(type="rng"))
        self.assertIn("QEMU has no type 'disk'", self.check(type="disk"))

    def test_features_are_of_the_type(self):
        said = '{"type":"rng","features":["blk-file"]}'
        self.assertIn("no feature 'blk-file' for 'rng'",
                      self.check(type="rng", said=said))

    def test_names_paths_and_syntax(self):
        self.assertIn("name it 50-NAME.json", self.check(name="b.json"))
        self.assertIn("no absolute path", self.check(binary="b"))
        self.assertIn("no JSON", "; ".join(findings("50-b.json", "{", SAID)))


if __name__ == "__main__":
    unittest.main()
