#include "devices/pci_nvme/prp.h"

#include <algorithm>

namespace holdfast::nvme {
namespace {

constexpr uint64_t kPageMask = kPageSize - 1;

}  // namespace

uint64_t PrpRanges::size() const {
  uint64_t total = 0;
  for (const DmaRange& range : ranges()) total += range.size;
  return total;
}

void PrpRanges::Append(uint64_t address, uint64_t size) {
  if (count_ > 0) {
    DmaRange& last = ranges_[count_ - 1];
    if (ToInt(last.address) + last.size == address) {
      last.size += size;
      return;
    }
  }
  // By the bound on `size`, and as every page but the first is taken whole.
  if (count_ < ranges_.size())
    ranges_[count_++] = {GuestAddress{address}, size};
}

Status PrpRanges::Walk(uint64_t prp1, uint64_t prp2, uint64_t size, Dma& dma) {
  count_ = 0;
  if (size == 0) return Status::kSuccess;
  // Data begins at a multiple of four bytes.
  if (prp1 % 4 != 0) return Status::kInvalidPrpOffset;
  const uint64_t first = std::min(size, kPageSize - (prp1 & kPageMask));
  Append(prp1, first);
  size -= first;
  if (size == 0) return Status::kSuccess;
  if (size > kPageSize) return WalkList(prp2, size, dma);
  if ((prp2 & kPageMask) != 0) return Status::kInvalidPrpOffset;
  Append(prp2, size);
  return Status::kSuccess;
}

// A list ends with its page; if more is to come, its last entry is the address
// of the next one, which begins with its page. So each but the first names many
// pages, and the walk ends.
Status PrpRanges::WalkList(uint64_t list, uint64_t size, Dma& dma) {
  if (list % sizeof(uint64_t) != 0) return Status::kInvalidPrpOffset;
  for (bool first = true;; first = false) {
    if (!first && (list & kPageMask) != 0) return Status::kInvalidPrpOffset;
    const uint64_t room = (kPageSize - (list & kPageMask)) / sizeof(uint64_t);
    const uint64_t pages = (size + kPageSize - 1) / kPageSize;
    const size_t entries = static_cast<size_t>(std::min(room, pages));
    if (!dma.Read(GuestAddress{list}, {reinterpret_cast<uint8_t*>(list_.data()),
                                       entries * sizeof(uint64_t)})
             .ok()) {
      return Status::kDataTransferError;
    }
    const size_t data = pages > room ? entries - 1 : entries;
    for (size_t i = 0; i < data; ++i) {
      if ((list_[i] & kPageMask) != 0) return Status::kInvalidPrpOffset;
      const uint64_t piece = std::min<uint64_t>(size, kPageSize);
      Append(list_[i], piece);
      size -= piece;
    }
    if (size == 0) return Status::kSuccess;
    list = list_[entries - 1];
  }
}

}  // namespace holdfast::nvme
