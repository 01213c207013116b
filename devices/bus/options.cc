#include "devices/bus/options.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace holdfast {

absl::StatusOr<uint64_t> DeviceOptions::Number(absl::string_view name,
                                               uint64_t fallback,
                                               uint64_t least,
                                               uint64_t most) const {
  const auto it = values_.find(std::string(name));
  if (it == values_.end()) return fallback;
  uint64_t value;
  if (!absl::SimpleAtoi(it->second, &value) || value < least || value > most) {
    return absl::InvalidArgumentError(absl::StrCat("--", name, "=", it->second,
                                                   ": give a number from ",
                                                   least, " to ", most));
  }
  return value;
}

absl::StatusOr<bool> DeviceOptions::Switch(absl::string_view name,
                                           bool fallback) const {
  const auto it = values_.find(std::string(name));
  if (it == values_.end()) return fallback;
  if (it->second.empty() || it->second == "on") return true;
  if (it->second == "off") return false;
  return absl::InvalidArgumentError(
      absl::StrCat("--", name, "=", it->second, ": give 'on' or 'off'"));
}

std::string DeviceOptions::Text(absl::string_view name,
                                absl::string_view fallback) const {
  const auto it = values_.find(std::string(name));
  return it == values_.end() ? std::string(fallback) : it->second;
}

}  // namespace holdfast
