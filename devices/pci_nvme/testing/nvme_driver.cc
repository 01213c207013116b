#include "devices/pci_nvme/testing/nvme_driver.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "devices/pci_nvme/pci_nvme.h"
#include "devices/pci_nvme/registers.h"

namespace holdfast::nvme::testing {

using ::holdfast::testing::PciClass;
using ::holdfast::testing::PciGuest;

absl::StatusOr<uint64_t> RamEngine::Size() const {
  const uint64_t now = PciGuest::Resource();
  return now == 0 ? size_ : now;
}

absl::Status RamEngine::Read(uint64_t offset, absl::Span<const Buffer> to) {
  for (const Buffer& buffer : to) {
    RETURN_IF_ERROR(
        dma_.Read(GuestAddress{base_ + offset}, {buffer.data, buffer.size}));
    offset += buffer.size;
  }
  return absl::OkStatus();
}

absl::Status RamEngine::Write(uint64_t offset, absl::Span<const Buffer> from) {
  for (const Buffer& buffer : from) {
    RETURN_IF_ERROR(
        dma_.Write(GuestAddress{base_ + offset}, {buffer.data, buffer.size}));
    offset += buffer.size;
  }
  return absl::OkStatus();
}

absl::Status RamEngine::WriteZeroes(uint64_t offset, uint64_t size, bool) {
  static constexpr uint8_t kZeroes[kSize] = {};
  return dma_.Write(GuestAddress{base_ + offset}, {kZeroes, size});
}

PciClass NvmeClass(std::map<std::string, std::string> options,
                   MakeEngine engine, uint64_t size) {
  DeviceOptions parsed(std::move(options));
  if (engine == nullptr) {
    engine = [size](PciContext& context) {
      return std::make_unique<RamEngine>(context.dma(), RamEngine::kBase, size);
    };
  }
  return {*PciNvme::Spec(parsed),
          [engine, size](PciContext& context) {
            std::vector<PciNvme::Backing> backings;
            backings.push_back({engine(context), size});
            return PciNvme::MakeOver(context, std::move(backings));
          },
          parsed};
}

PciClass NvmeOfParts(std::vector<uint64_t> sizes) {
  PciClass result = NvmeClass();
  result.make = [sizes](PciContext& context) {
    std::vector<PciNvme::Backing> backings;
    uint64_t base = RamEngine::kBase;
    for (const uint64_t size : sizes) {
      backings.push_back(
          {std::make_unique<RamEngine>(context.dma(), base, size), size});
      base += size;
    }
    return PciNvme::MakeOver(context, std::move(backings));
  };
  return result;
}

PciGuest::Options NvmeGuest() {
  PciGuest::Options options;
  options.ram_size = NvmeDriver::kRamSize;
  // As under a VMM: masks are its own.
  options.has_vector_table = true;
  return options;
}

void NvmeDriver::SetConfiguration(uint32_t value) {
  guest_.Write32(0, kConfiguration.offset(), value);
}

uint32_t NvmeDriver::status() { return guest_.Read32(0, kStatus.offset()); }

void NvmeDriver::Enable() {
  guest_.EnableMaster();
  guest_.EnableMsix();
  const Ring& ring = rings_[0];
  guest_.Write32(0, kAdminQueues.offset(),
                 (ring.entries - 1u) << 16 | (ring.entries - 1u));
  guest_.Write(0, kAdminSq.offset(), SqBase(0), 8);
  guest_.Write(0, kAdminCq.offset(), CqBase(0), 8);
  SetConfiguration(0x00460001);
}

void NvmeDriver::CreateQueue(uint16_t queue, uint16_t entries) {
  rings_[queue].entries = entries;
  const uint32_t cdw10 = (entries - 1u) << 16 | queue;
  Do(0, Admin(AdminOpcode::kCreateCq, cdw10,
              static_cast<uint32_t>(queue) << 16 | 3, CqBase(queue)));
  Do(0, Admin(AdminOpcode::kCreateSq, cdw10,
              static_cast<uint32_t>(queue) << 16 | 1, SqBase(queue)));
}

bool NvmeDriver::CreateQueueOfFewCompletions(uint16_t queue) {
  const uint32_t high = static_cast<uint32_t>(queue) << 16;
  const Status cq = Try(0, Admin(AdminOpcode::kCreateCq, 1u << 16 | queue,
                                 high | 3, CqBase(queue)));
  const Status sq =
      Try(0, Admin(AdminOpcode::kCreateSq, (kEntries - 1u) << 16 | queue,
                   high | 1, SqBase(queue)));
  return cq == Status::kSuccess && sq == Status::kSuccess;
}

uint16_t NvmeDriver::Submit(uint16_t queue, Command command) {
  Ring& ring = rings_[queue];
  command.cid = ring.next_cid++;
  uint8_t bytes[sizeof(command)];
  std::memcpy(bytes, &command, sizeof(bytes));
  guest_.StoreRam(SqBase(queue) + ring.tail * sizeof(command), bytes);
  ring.tail = static_cast<uint16_t>((ring.tail + 1) % ring.entries);
  return command.cid;
}

void NvmeDriver::RingTail(uint16_t queue) {
  guest_.Write32(0, kDoorbells.offset() + 8 * queue, rings_[queue].tail);
}

std::optional<Completion> NvmeDriver::Poll(uint16_t queue) {
  Ring& ring = rings_[queue];
  Completion completion;
  std::memcpy(
      &completion,
      guest_.ram().data() + CqBase(queue) + ring.head * sizeof(completion),
      sizeof(completion));
  if (((completion.status & 1) != 0) != ring.phase) return std::nullopt;
  ring.head = static_cast<uint16_t>((ring.head + 1) % ring.entries);
  if (ring.head == 0) ring.phase = !ring.phase;
  return completion;
}

void NvmeDriver::Acknowledge(uint16_t queue) {
  guest_.Write32(0, kDoorbells.offset() + 8 * queue + 4, rings_[queue].head);
}

Completion NvmeDriver::Do(uint16_t queue, Command command) {
  Submit(queue, command);
  RingTail(queue);
  const std::optional<Completion> completion = Poll(queue);
  if (!completion.has_value()) {
    Completion none;
    std::memset(&none, 0xff, sizeof(none));
    return none;
  }
  Acknowledge(queue);
  return *completion;
}

Status NvmeDriver::Try(uint16_t queue, Command command) {
  return static_cast<Status>(Do(queue, command).status >> 1 & 0x7ff);
}

Command NvmeDriver::Admin(AdminOpcode opcode, uint32_t cdw10, uint32_t cdw11,
                          uint64_t prp1) {
  Command command = {};
  command.opcode = static_cast<uint8_t>(opcode);
  command.prp1 = prp1;
  command.cdw10 = cdw10;
  command.cdw11 = cdw11;
  return command;
}

Command NvmeDriver::Io(IoOpcode opcode, uint64_t lba, uint16_t blocks,
                       uint64_t address) {
  Command command = {};
  command.opcode = static_cast<uint8_t>(opcode);
  command.nsid = 1;
  command.prp1 = address;
  command.prp2 = address / kPageSize * kPageSize + kPageSize;
  command.cdw10 = static_cast<uint32_t>(lba);
  command.cdw11 = static_cast<uint32_t>(lba >> 32);
  command.cdw12 = blocks - 1u;
  return command;
}

}  // namespace holdfast::nvme::testing
