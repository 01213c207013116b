#ifndef HOLDFAST_DEVICES_BUS_DEVICE_SPEC_H_
#define HOLDFAST_DEVICES_BUS_DEVICE_SPEC_H_

#include <cstdint>
#include <string>

#include "statestore/schema.h"

namespace holdfast {

// Of what accesses order, and of the threads that do it (OnWork). Reason: work
// has a bit in a word.
inline constexpr uint32_t kMaxWorks = 64;

// The state of a device that has none.
struct NoState {
  static constexpr SchemaId kSchema{"stateless", /*version=*/1};
};

// A descriptor that the device needs from outside: the launcher opens it and
// hands it over; stand-alone, --NAME=PATH opens it.
struct ResourceSpec {
  std::string name;
  std::string help;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_DEVICE_SPEC_H_
