#ifndef HOLDFAST_BENCH_NVME_QUEUE_SYS_H_
#define HOLDFAST_BENCH_NVME_QUEUE_SYS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/shm_sys.h"
#include "base/unique_fd.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/vfio_user/testing/client_sys.h"
#include "tests/load/io_queue.h"

namespace holdfast::bench {

// One I/O queue of an NVMe controller over vfio-user, driven as a guest's
// driver under QEMU does it: memory by a descriptor, doorbells as posted
// writes, one MSI-X vector. Not thread-safe.
//
// With shadow doorbells it rings as drivers do (section B.5 of the
// specification): when a value passes the event that the controller has left.
class NvmeQueue final : public load::IoQueue {
 public:
  struct Options {
    std::string socket;
    uint32_t depth = 1;                           // At most 63.
    size_t max_request_bytes = load::kBlockSize;  // At most two pages.
    bool shadow_doorbells = false;
  };

  // Connects, enables the controller, makes the queue.
  static absl::StatusOr<std::unique_ptr<NvmeQueue>> Open(
      const Options& options);

  // Of namespace 1, in bytes.
  uint64_t size() const { return size_; }

  absl::Span<uint8_t> buffer(uint32_t slot) override;
  void Add(uint32_t slot, const load::LoadRequest& request) override;
  absl::Status Submit() override;
  absl::StatusOr<std::vector<Completion>> Wait(int timeout_ms) override;

 private:
  // A submission queue and its completion queue.
  struct Ring {
    uint32_t number;
    uint32_t tail = 0;
    uint32_t head = 0;
    uint16_t phase = 1;
  };

  explicit NvmeQueue(const Options& options) : options_(options) {}
  absl::Status Connect();
  absl::Status EnableInterrupts();
  absl::Status Enable();
  absl::Status CreateQueue();
  absl::Status FindSize();

  uint8_t* At(uint64_t address) const;
  void Put(Ring& ring, const nvme::Command& command);
  bool Take(Ring& ring, nvme::Completion* completion);
  // True: it is to be rung.
  bool UpdateShadow(uint32_t doorbell, uint16_t value);
  absl::Status RingDoorbell(const Ring& ring, bool completions);
  // An admin command, and its end.
  absl::Status Do(const nvme::Command& command);

  const Options options_;
  std::unique_ptr<vfio_user::Client> client_;
  UniqueFd file_;
  Mapping memory_;
  UniqueFd interrupt_;
  Ring admin_ = {0};
  Ring io_ = {1};
  bool shadows_ = false;  // They are in use.
  uint64_t size_ = 0;
  uint32_t block_shift_ = 9;
};

}  // namespace holdfast::bench

#endif  // HOLDFAST_BENCH_NVME_QUEUE_SYS_H_
