#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_KILL_SYS_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_KILL_SYS_H_

// Kills servers of a torture device by the hundred while a strict client looks.

#include <cstdint>
#include <string>

#include "devices/vfio_user/testing/torture_device.h"

namespace holdfast::vfio_user {

struct KillOptions {
  uint64_t kills = 1000;
  uint64_t seed = 1;
  // Servers die at a numbered point (around the calls of their handler), or
  // else at a random instant.
  bool at_points = false;
  TortureDevice::Fault fault = TortureDevice::Fault::kNone;
};

struct KillReport {
  uint64_t kills = 0;
  uint64_t messages = 0;
  uint64_t signals = 0;   // Interrupts that the client asked for and got.
  std::string violation;  // Empty: none. The run ends at the first.
};

// The client sends random messages of all kinds, up to three at a time, some
// with descriptors, some posted. A session in its own process that nobody kills
// gets the same ones: every byte of every reply must be that session's, in
// order, and so must be the state in the end. Leaves no process behind.
KillReport RunKills(const KillOptions& options);

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_KILL_SYS_H_
