#ifndef HOLDFAST_DEVICES_VHOST_USER_TESTING_FAKE_ENVIRONMENT_H_
#define HOLDFAST_DEVICES_VHOST_USER_TESTING_FAKE_ENVIRONMENT_H_

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "devices/vhost_user/session.h"

namespace holdfast::vhost_user {

// Does what it is asked and writes it down: "quiesce 0", "prepare 1 fresh".
// What a test wants to be different it sets in the public members.
class FakeEnvironment : public SessionEnvironment {
 public:
  std::vector<std::string> effects;
  std::vector<uint8_t> config = std::vector<uint8_t>(60, 0);
  // Size of the file behind a slot; larger than anything when not listed.
  std::map<store::Slot, uint64_t> file_sizes;
  uint32_t stopped_at = 0;  // What QuiesceQueue returns.
  absl::Status prepare_status;
  absl::Status stop_status;
  absl::Status config_status;

  absl::Status PrepareQueue(const SessionState& next, uint16_t queue,
                            QueueStart how) override {
    // The promise to the implementer: it can reach the ring through `next`.
    if (!RingIsMapped(next, queue)) {
      return absl::InternalError("PrepareQueue of a ring out of memory");
    }
    effects.push_back(absl::StrCat(
        "prepare ", queue, how == QueueStart::kFresh ? " fresh" : " adopt"));
    return prepare_status;
  }

  uint32_t QuiesceQueue(uint16_t queue) override {
    effects.push_back(absl::StrCat("quiesce ", queue));
    return stopped_at;
  }

  absl::StatusOr<uint32_t> StopQueue(uint16_t queue) override {
    if (!stop_status.ok()) return stop_status;
    return QuiesceQueue(queue);
  }

  void QuiesceAll() override { effects.push_back("quiesce all"); }

  void ClearInflight() override { effects.push_back("clear in-flight"); }

  absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> bytes) override {
    if (offset > config.size() || bytes.size() > config.size() - offset) {
      return absl::InternalError("ReadConfig out of range");
    }
    std::memcpy(bytes.data(), config.data() + offset, bytes.size());
    return config_status;
  }

  absl::Status WriteConfig(uint32_t offset, bool migration,
                           absl::Span<const uint8_t> bytes) override {
    if (offset > config.size() || bytes.size() > config.size() - offset) {
      return absl::InternalError("WriteConfig out of range");
    }
    effects.push_back(absl::StrCat("write config ", offset, "+", bytes.size(),
                                   migration ? " migration" : ""));
    if (!config_status.ok()) return config_status;
    if (!bytes.empty()) {
      std::memcpy(config.data() + offset, bytes.data(), bytes.size());
    }
    return absl::OkStatus();
  }

  absl::Status CheckRegion(store::Slot slot, uint64_t offset,
                           uint64_t size) override {
    const auto file = file_sizes.find(slot);
    if (file == file_sizes.end() || offset + size <= file->second) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat("the file ends at ", file->second));
  }

  void ResetDevice() override { effects.push_back("reset"); }
};

}  // namespace holdfast::vhost_user

#endif  // HOLDFAST_DEVICES_VHOST_USER_TESTING_FAKE_ENVIRONMENT_H_
