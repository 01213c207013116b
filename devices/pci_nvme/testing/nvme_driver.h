#ifndef HOLDFAST_DEVICES_PCI_NVME_TESTING_NVME_DRIVER_H_
#define HOLDFAST_DEVICES_PCI_NVME_TESTING_NVME_DRIVER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "devices/block/block_engine.h"
#include "devices/bus/dma.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/protocol.h"

namespace holdfast::nvme::testing {

// A disk that is kept in the guest's own memory, so that a kill cuts it at the
// same instant as all else.
class RamEngine final : public block::BlockEngine {
 public:
  static constexpr uint64_t kBase = 0xc000;  // In the guest's memory.
  static constexpr uint64_t kSize = 0x4000;  // Bytes.

  explicit RamEngine(Dma& dma, uint64_t base = kBase, uint64_t size = kSize)
      : dma_(dma), base_(base), size_(size) {}

  uint32_t BlockSize() const override { return 512; }
  // What the guest's resource says, if anything.
  absl::StatusOr<uint64_t> Size() const override;
  absl::Status Read(uint64_t offset, absl::Span<const Buffer> to) override;
  absl::Status Write(uint64_t offset, absl::Span<const Buffer> from) override;
  absl::Status Flush() override { return absl::OkStatus(); }
  absl::Status Discard(uint64_t offset, uint64_t size) override {
    return WriteZeroes(offset, size, true);
  }
  absl::Status WriteZeroes(uint64_t offset, uint64_t size, bool) override;

 private:
  Dma& dma_;
  const uint64_t base_;
  const uint64_t size_;
};

// A controller over a RamEngine, or over what `engine` makes.
using MakeEngine =
    std::function<std::unique_ptr<block::BlockEngine>(PciContext&)>;
holdfast::testing::PciClass NvmeClass(
    std::map<std::string, std::string> options = {{"num-queues", "2"}},
    MakeEngine engine = nullptr, uint64_t size = RamEngine::kSize);
// A controller with a namespace over each of these parts of a RamEngine.
holdfast::testing::PciClass NvmeOfParts(std::vector<uint64_t> sizes);
holdfast::testing::PciGuest::Options NvmeGuest();

// A driver: queues in the guest's memory, commands, completions. Its own state
// is plain data, so that a script that is begun anew can go on from it.
class NvmeDriver {
 public:
  static constexpr size_t kRamSize = 0x10000;
  static constexpr uint64_t kData = 0x6000;  // Six pages for data.
  static constexpr uint16_t kQueues = 3;     // The admin queue first.
  // The same for all queues, unless a test says otherwise.
  static constexpr uint16_t kEntries = 16;

  struct Ring {
    uint16_t entries = kEntries;
    uint16_t tail = 0;
    uint16_t head = 0;
    bool phase = true;
    uint16_t next_cid = 1;
  };
  using Rings = std::array<Ring, kQueues>;

  explicit NvmeDriver(holdfast::testing::PciGuest& guest) : guest_(guest) {}
  NvmeDriver(holdfast::testing::PciGuest& guest, const Rings& rings)
      : guest_(guest), rings_(rings) {}

  const Rings& rings() const { return rings_; }
  Ring& ring(uint16_t queue) { return rings_[queue]; }
  static uint64_t SqBase(uint16_t queue) { return queue * 0x2000u; }
  static uint64_t CqBase(uint16_t queue) { return queue * 0x2000u + 0x1000; }

  // Makes the function a bus master with MSI-X, and enables the controller.
  void Enable();
  void SetConfiguration(uint32_t value);
  uint32_t status();
  void CreateQueue(uint16_t queue, uint16_t entries = kEntries);
  // One whose completion queue has two entries: room for one completion. Say so
  // in its ring when all is submitted.
  bool CreateQueueOfFewCompletions(uint16_t queue);

  // Puts a command into a queue; Ring tells the controller. Returns its id.
  uint16_t Submit(uint16_t queue, Command command);
  void RingTail(uint16_t queue);
  // The next completion, if there is one; then Acknowledge.
  std::optional<Completion> Poll(uint16_t queue);
  void Acknowledge(uint16_t queue);
  // All of it; a completion of all ones if none came.
  Completion Do(uint16_t queue, Command command);
  // The status of that, without the bit that forbids to try again.
  Status Try(uint16_t queue, Command command);

  static Command Admin(AdminOpcode opcode, uint32_t cdw10 = 0,
                       uint32_t cdw11 = 0, uint64_t prp1 = 0);
  // Blocks of the namespace, data at `address`.
  static Command Io(IoOpcode opcode, uint64_t lba, uint16_t blocks,
                    uint64_t address = kData);

  absl::Span<uint8_t> Data(uint64_t address, size_t size) {
    return guest_.ram().subspan(address, size);
  }
  absl::Span<uint8_t> Disk() {
    return guest_.ram().subspan(RamEngine::kBase, RamEngine::kSize);
  }
  holdfast::testing::PciGuest& guest() { return guest_; }

 private:
  holdfast::testing::PciGuest& guest_;
  Rings rings_;
};

}  // namespace holdfast::nvme::testing

#endif  // HOLDFAST_DEVICES_PCI_NVME_TESTING_NVME_DRIVER_H_
