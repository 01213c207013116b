#ifndef HOLDFAST_DEVICES_BUS_VIRTIO_SPEC_H_
#define HOLDFAST_DEVICES_BUS_VIRTIO_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/bus/device_spec.h"
#include "devices/bus/virtio_ids.h"
#include "statestore/cell.h"
#include "statestore/schema.h"

namespace holdfast {

struct QueueSpec {
  std::string name;
  uint16_t max_size;  // Power of two, at most kMaxQueueSize.
  // How many requests of the queue may be in OnRequest at once. 1: requests
  // run one after the other, in ring order, and may change state. More: for
  // devices without state whose requests block (disks); each runs on a thread
  // of its own, in any order.
  uint16_t workers;
};

// What a VIRTIO device is, as data: the framework prints, versions, compares
// and serves it. Built once at start.
class VirtioSpec {
 public:
  // Reason: the in-flight table and the attempt counters of a queue take 18
  // bytes an entry of locked memory; QEMU asks for at most 1024.
  static constexpr uint16_t kMaxQueueSize = 1024;
  static constexpr size_t kMaxQueues = 16;

  // `device_id` is one of virtio::kDeviceId….
  explicit VirtioSpec(uint32_t device_id) : device_id_(device_id) {}

  VirtioSpec& Queue(std::string name, uint16_t max_size, uint16_t workers = 1) {
    queues_.push_back({std::move(name), max_size, workers});
    return *this;
  }
  // Device-specific feature bits (VIRTIO 1.2, section 5), offered to the
  // driver. VERSION_1, indirect descriptors and event index are always offered.
  VirtioSpec& Features(uint64_t bits) {
    features_ |= bits;
    return *this;
  }
  // Likewise, from this compat version on: guests of earlier ones are never
  // offered them.
  VirtioSpec& FeaturesSince(uint32_t version, uint64_t bits) {
    later_features_.push_back({version, bits});
    return *this;
  }
  VirtioSpec& ConfigSize(uint32_t bytes) {
    config_size_ = bytes;
    return *this;
  }
  VirtioSpec& Resource(std::string name, std::string help) {
    resources_.push_back({std::move(name), std::move(help)});
    return *this;
  }
  // Pins what a guest can see. A device serves every version up to this one:
  // the one that VirtioContext::guest_version() says.
  VirtioSpec& CompatVersion(uint32_t version) {
    compat_version_ = version;
    return *this;
  }
  // The device's durable state; see statestore/cell.h.
  template <typename S>
  VirtioSpec& State() {
    schema_ = DescribeState<S>();
    return *this;
  }

  uint32_t device_id() const { return device_id_; }
  const std::vector<QueueSpec>& queues() const { return queues_; }
  // Those that guests of the newest compat version are offered, and of
  // `version`.
  uint64_t features() const { return features(compat_version_); }
  uint64_t features(uint32_t version) const {
    uint64_t bits = features_;
    for (const Later& later : later_features_) {
      if (later.version <= version) bits |= later.bits;
    }
    return bits;
  }
  // As guests of `version` see it.
  VirtioSpec SeenBy(uint32_t version) const {
    VirtioSpec seen = *this;
    seen.features_ = features(version);
    seen.later_features_.clear();
    return seen;
  }
  uint32_t config_size() const { return config_size_; }
  const std::vector<ResourceSpec>& resources() const { return resources_; }
  uint32_t compat_version() const { return compat_version_; }
  // An error when the state struct breaks a rule of statestore/schema.h.
  const absl::StatusOr<Schema>& schema() const { return schema_; }

 private:
  struct Later {
    uint32_t version;
    uint64_t bits;
  };

  uint32_t device_id_;
  std::vector<QueueSpec> queues_;
  uint64_t features_ = 0;
  std::vector<Later> later_features_;
  uint32_t config_size_ = 0;
  std::vector<ResourceSpec> resources_;
  uint32_t compat_version_ = 1;
  absl::StatusOr<Schema> schema_ = DescribeState<NoState>();
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_BUS_VIRTIO_SPEC_H_
