#ifndef HOLDFAST_DEVICES_BUS_DEVICE_SPEC_H_
#define HOLDFAST_DEVICES_BUS_DEVICE_SPEC_H_

#include <string>

#include "statestore/schema.h"

namespace holdfast {

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
