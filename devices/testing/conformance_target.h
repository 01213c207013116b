#ifndef HOLDFAST_DEVICES_TESTING_CONFORMANCE_TARGET_H_
#define HOLDFAST_DEVICES_TESTING_CONFORMANCE_TARGET_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "devices/vhost_user/testing/front_end.h"

namespace holdfast::testing {

// All that the conformance suite must be told of a device; the rest it finds
// out. Paths are those of the program that runs the suite.
struct ConformanceTarget {
  std::string program;                        // The device's binary.
  std::vector<std::string> arguments;         // Of every run.
  std::map<std::string, uint64_t> resources;  // Name -> bytes of the file.
  // One that queue 0 answers with at least one byte, whatever came before.
  std::vector<FrontEnd::Buffer> request;
  // False: answers are random, so that only their lengths can be compared.
  bool repeatable = true;
  // A text of everything that a guest and a successor may rely on; see
  // DescribeDevice. Empty: not compared.
  std::string golden;

  // For the part that kills.
  std::string policy;
  std::vector<std::string> policy_includes;
  std::string store_program;

  absl::Duration patience = absl::Seconds(20);  // Of every wait.
};

// Parses "out:00ff,in:512": a readable buffer of these bytes, then a writable
// one of that size. Errors name the part.
absl::StatusOr<std::vector<FrontEnd::Buffer>> ParseRequest(
    absl::string_view text);

// Parses the command line that tools/bazel/device.bzl writes:
//   --program=FILE --argument=TEXT... --resource=NAME:BYTES... --request=TEXT
//   --varies --golden=FILE --policy=FILE --policy-include=DIR...
//   --store-program=FILE
absl::StatusOr<ConformanceTarget> ParseTarget(
    const std::vector<std::string>& arguments);

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_TESTING_CONFORMANCE_TARGET_H_
