#ifndef HOLDFAST_DEVICES_BUS_OPTIONS_H_
#define HOLDFAST_DEVICES_BUS_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace holdfast {

// One command line option of a device, beside the standard ones
// (devices/runtime/command_line.h).
struct OptionSpec {
  std::string name;   // Without the dashes: "num-queues".
  std::string value;  // What to print for its value: "N"; empty: a switch.
  std::string help;   // One line.
};

// The values of a device's own options. Immutable after parsing; thread-safe.
class DeviceOptions {
 public:
  DeviceOptions() = default;
  explicit DeviceOptions(std::map<std::string, std::string> values)
      : values_(std::move(values)) {}

  // The value, or `fallback` when the option was not given. An error names the
  // option, its value and the range.
  absl::StatusOr<uint64_t> Number(absl::string_view name, uint64_t fallback,
                                  uint64_t least, uint64_t most) const;
  // A switch: present or "on"/"off".
  absl::StatusOr<bool> Switch(absl::string_view name, bool fallback) const;
  std::string Text(absl::string_view name, absl::string_view fallback) const;

 private:
  std::map<std::string, std::string> values_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_OPTIONS_H_
