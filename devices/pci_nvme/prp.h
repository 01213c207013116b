#ifndef HOLDFAST_DEVICES_PCI_NVME_PRP_H_
#define HOLDFAST_DEVICES_PCI_NVME_PRP_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "devices/bus/dma.h"
#include "devices/pci_nvme/protocol.h"

namespace holdfast::nvme {

// A piece of the guest's memory.
struct DmaRange {
  GuestAddress address{};
  uint64_t size = 0;  // Bytes.
};

// Where the data of one command is: what its PRP entries and lists say
// (sections 4.3 and 4.4), neighbouring pages joined. Large; keep it, it
// allocates nothing. Belongs to one thread at a time.
class PrpRanges {
 public:
  // MDTS: 2^7 pages. Reason: what the table of each worker has room for.
  static constexpr uint8_t kMaxTransferShift = 7;
  static constexpr uint64_t kMaxTransfer = uint64_t{kPageSize}
                                           << kMaxTransferShift;  // Bytes.

  // Lists are read from the guest's memory, each page once. Precondition:
  // `size` <= kMaxTransfer. Errors: kInvalidPrpOffset, an entry is not aligned
  // as its place demands; kDataTransferError, a list is not in the guest's
  // memory. Then the ranges are undefined.
  Status Walk(uint64_t prp1, uint64_t prp2, uint64_t size, Dma& dma);

  // In the order of the data.
  absl::Span<const DmaRange> ranges() const { return {ranges_.data(), count_}; }
  uint64_t size() const;  // Bytes.

 private:
  // A transfer that begins inside a page touches one more.
  static constexpr size_t kMaxRanges = (1u << kMaxTransferShift) + 1;
  static constexpr size_t kEntriesPerPage = kPageSize / sizeof(uint64_t);

  void Append(uint64_t address, uint64_t size);
  Status WalkList(uint64_t list, uint64_t size, Dma& dma);

  std::array<DmaRange, kMaxRanges> ranges_;
  size_t count_ = 0;
  std::array<uint64_t, kEntriesPerPage> list_;
};

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_PRP_H_
