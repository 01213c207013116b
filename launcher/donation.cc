#include "launcher/donation.h"

#include <utility>

namespace holdfast::launcher {
namespace {

std::vector<Donation> WithStandardStreams(std::vector<Donation> rest) {
  std::vector<Donation> plan = {{Gift::kNull, 0, "stdin"},
                                {Gift::kLog, 1, "stdout"},
                                {Gift::kLog, 2, "stderr"}};
  plan.insert(plan.end(), rest.begin(), rest.end());
  return plan;
}

}  // namespace

std::vector<Donation> DeviceDonations() {
  return WithStandardStreams({{Gift::kStoreChannel, kHandoffStoreFd, "store"},
                              {Gift::kControl, kHandoffControlFd, "control"},
                              {Gift::kSegment, kHandoffSegmentFd, "segment"},
                              {Gift::kFilter, kHandoffFilterFd, "filter"}});
}

std::vector<Donation> StoreDonations() {
  return WithStandardStreams(
      {{Gift::kLauncherLink, kStoreLauncherFd, "launcher"},
       {Gift::kFilter, kHandoffFilterFd, "filter"}});
}

std::vector<Donation> ApiDonations() {
  std::vector<Donation> rest = {
      {Gift::kApiListener, kApiListenerFd, "listener"},
      {Gift::kCoreWatch, kApiWatchFd, "watch"},
      {Gift::kFilter, kHandoffFilterFd, "filter"}};
  static constexpr absl::string_view kNames[kApiLinks] = {"link 0", "link 1",
                                                          "link 2", "link 3"};
  for (int i = 0; i < kApiLinks; ++i) {
    rest.push_back({Gift::kCoreLink, kApiFirstLinkFd + i, kNames[i]});
  }
  return WithStandardStreams(std::move(rest));
}

}  // namespace holdfast::launcher
