#ifndef HOLDFAST_DEVICES_VIRTIO_BLK_VIRTIO_BLK_H_
#define HOLDFAST_DEVICES_VIRTIO_BLK_VIRTIO_BLK_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/log_limiter.h"
#include "devices/block/block_engine.h"
#include "devices/block/topology.h"
#include "devices/bus/virtio_device.h"
#include "devices/virtio_blk/protocol.h"

namespace holdfast::virtio_blk {

// A VIRTIO block device (VIRTIO 1.2, section 5.2) over a raw image file or a
// block device. It has no state beside the image: every request is idempotent,
// so one that was in flight at a crash is executed again.
class VirtioBlk final : public VirtioDevice {
 public:
  static std::vector<OptionSpec> Options();
  static absl::StatusOr<VirtioSpec> Spec(const DeviceOptions& options);
  static absl::StatusOr<std::unique_ptr<VirtioDevice>> Make(
      VirtioContext& context);

  // For tests: over any engine. `capacity` is the disk's size in bytes.
  VirtioBlk(VirtioContext& context, std::unique_ptr<block::BlockEngine> engine,
            uint64_t capacity, bool read_only, std::string serial,
            uint16_t queue_count, uint16_t queue_size,
            const block::Topology& topology = {});

  absl::Status OnRequest(Request& request, Txn& txn) override;
  void OnPoisoned(Request& request, Txn& txn) override;
  void ReadConfig(uint32_t offset, absl::Span<uint8_t> out) const override;
  void OnFeatures(uint64_t accepted) override;
  void OnResourceChanged() override;

 private:
  RequestStatus Execute(const RequestHeader& header, Request& request,
                        size_t* written);
  RequestStatus ReadOrWrite(bool write, uint64_t sector, Request& request,
                            size_t* written);
  RequestStatus GetId(Request& request, size_t* written);
  RequestStatus Ranges(RequestType type, Request& request);
  RequestStatus Range(RequestType type, const RangeSegment& segment);
  bool InsideDisk(uint64_t sector, uint64_t bytes) const;
  RequestStatus Report(const absl::Status& status, const char* what);

  VirtioContext& context_;
  std::unique_ptr<block::BlockEngine> engine_;
  const uint32_t block_size_;       // Bytes.
  std::atomic<uint64_t> capacity_;  // Sectors.
  const bool read_only_;
  const std::string serial_;
  const uint16_t queue_count_;
  const uint16_t queue_size_;
  const block::Topology topology_;
  // Without VIRTIO_BLK_F_FLUSH the driver expects every completed write to be
  // durable (section 5.2.5.2).
  std::atomic<bool> write_through_{true};
  LogLimiter errors_log_;  // A guest could fill the log otherwise.
};

}  // namespace holdfast::virtio_blk

#endif  // HOLDFAST_DEVICES_VIRTIO_BLK_VIRTIO_BLK_H_
