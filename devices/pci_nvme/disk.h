#ifndef HOLDFAST_DEVICES_PCI_NVME_DISK_H_
#define HOLDFAST_DEVICES_PCI_NVME_DISK_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/log_limiter.h"
#include "devices/block/block_engine.h"
#include "devices/bus/dma.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/prp.h"

namespace holdfast::nvme {

// What a worker needs to execute commands without allocating. One thread at a
// time.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

 private:
  friend class Disk;
  PrpRanges prp_;
  std::vector<DmaMapping> mappings_;  // Of the command that is executed.
  std::vector<Buffer> buffers_;
  // For memory that is not mapped here. Touched only when it is needed.
  std::unique_ptr<uint8_t[]> bounce_;
};

// A namespace: the commands of the NVM command set over an engine. Every
// command may be executed again; see exactly once, README.md.
//
// Thread-safe; each thread brings its own Scratch.
class Disk {
 public:
  struct Options {
    bool read_only = false;
    uint32_t nsid = 1;
  };

  // `size`: bytes; what is no whole block is left out.
  Disk(std::unique_ptr<block::BlockEngine> engine, uint64_t size,
       Options options);

  uint64_t blocks() const { return blocks_.load(std::memory_order_relaxed); }
  // Looks how large the storage is now; a command that is being executed may
  // see either size. Whether blocks() has changed.
  bool Measure();
  uint32_t block_shift() const { return block_shift_; }  // Log2 of bytes.
  bool read_only() const { return options_.read_only; }

  // Executes a command of an I/O queue. `write_through`: what is written is
  // durable when this returns.
  Status Execute(const Command& command, bool write_through, Dma& dma,
                 Scratch& scratch);

  // Makes all that was written durable.
  Status Flush();

 private:
  enum class Direction { kToGuest, kFromGuest };

  // The blocks of a command: its first one, and how many.
  struct Extent {
    uint64_t offset = 0;  // Bytes.
    uint64_t size = 0;    // Bytes.
  };
  Status ExtentOf(const Command& command, Extent* extent) const;

  Status Transfer(const Command& command, bool write_through, Dma& dma,
                  Scratch& scratch);
  Status WriteZeroes(const Command& command, bool write_through);
  Status Compare(const Command& command, Dma& dma, Scratch& scratch);
  Status Deallocate(const Command& command, Dma& dma, Scratch& scratch);

  // Makes the data of a command buffers. False: not all of it is mapped here.
  Status Map(Direction direction, Dma& dma, Scratch& scratch, bool* mapped);
  Status Move(Direction direction, const Extent& extent, Dma& dma,
              Scratch& scratch);
  Status Report(const absl::Status& status, const char* what, Status failure);

  const std::unique_ptr<block::BlockEngine> engine_;
  const Options options_;
  const uint32_t block_shift_;
  std::atomic<uint64_t> blocks_;
  LogLimiter errors_log_;  // A guest could fill the log otherwise.
};

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_DISK_H_
