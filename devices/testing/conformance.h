#ifndef HOLDFAST_DEVICES_TESTING_CONFORMANCE_H_
#define HOLDFAST_DEVICES_TESTING_CONFORMANCE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "devices/testing/conformance_target.h"

namespace holdfast::testing {

// What every device that is built on the runtime must do, whatever it
// emulates, tried on its real binary through its real socket. One check is
// self-contained: it starts what it needs and leaves nothing behind. An error
// says what the device did. holdfast_device() of tools/bazel/device.bzl runs
// them all for a device; conformance_test.cc runs them on devices that are
// broken on purpose, each of which must fail.
struct ConformanceCheck {
  const char* name;  // CamelCase, as in TEST(Conformance, Name).
  absl::Status (*run)(const ConformanceTarget& target);
};

// The command line: exit codes, messages, sockets. Needs no privileges.
absl::Span<const ConformanceCheck> CommandLineChecks();

// vhost-user and the rings, the program running by itself. Needs none either.
absl::Span<const ConformanceCheck> ProtocolChecks();

// Under holdfast-store, in the sandbox, killed again and again. Needs root.
absl::Span<const ConformanceCheck> CrashChecks();

// vfio-user, whatever the bus: clients that come back, wait for one another, or
// go amid a message. Needs no privileges.
absl::Span<const ConformanceCheck> SessionChecks();

// The check of this name; null: there is none.
const ConformanceCheck* FindCheck(absl::string_view name);

// What a guest may rely on (features, queues, configuration size) and what a
// successor may (the schema of the state), one fact a line. Needs root.
absl::StatusOr<std::string> DescribeDevice(const ConformanceTarget& target);

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_TESTING_CONFORMANCE_H_
