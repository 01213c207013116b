#include "launcher/donation.h"

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

}  // namespace holdfast::launcher
