#ifndef HOLDFAST_LAUNCHER_DONATION_H_
#define HOLDFAST_LAUNCHER_DONATION_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "base/handoff.h"

namespace holdfast::launcher {

// What a child's descriptor comes from.
enum class Gift {
  kNull,          // The null device.
  kLog,           // The launcher's standard error.
  kStoreChannel,  // A child's channel to the store.
  kControl,       // A child's channel to the launcher.
  kSegment,       // The instance's state.
  kFilter,        // The steady-state program, sealed.
  kLauncherLink,  // The store's channel to the launcher.
  kApiListener,   // Where the api's clients connect.
  kCoreWatch,     // The api's connection to the core for Op::kBeat.
  kCoreLink,      // Its connections for requests, one after the other.
};

struct Donation {
  Gift gift;
  int number;  // In the child.
  absl::string_view name;
};

// The whole descriptor table that a process is born with: these numbers and no
// others. Pure; the executor resolves each gift, the sandbox closes the rest.
std::vector<Donation> DeviceDonations();
std::vector<Donation> StoreDonations();
std::vector<Donation> ApiDonations();

// Where holdfast-store finds its channel to the launcher.
inline constexpr int kStoreLauncherFd = 3;

// Where holdfast-api finds its listener, the connection that it says on that it
// lives, and its links to the core; its filter is at kHandoffFilterFd.
inline constexpr int kApiListenerFd = 3;
inline constexpr int kApiWatchFd = 4;
inline constexpr int kApiFirstLinkFd = kHandoffEnd;
inline constexpr int kApiLinks = 4;

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_DONATION_H_
