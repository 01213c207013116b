#include "devices/virtqueue/dma_chain.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/status_macros.h"
#include "devices/virtqueue/chain_walker.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast {
namespace {

// Descriptors come several at a time: those of one chain tend to lie side by
// side, and each transfer may be a way to the VMM and back. A chain's own do
// not change while the device has it; others that are read too early are read
// again.
class DmaSource {
 public:
  DmaSource(const DmaDescriptorTable& table, Dma& dma, absl::Span<uint8_t> room)
      : dma_(dma),
        table_(ToInt(table.descriptors)),
        entries_(table.size),
        room_(room) {}

  absl::Status Fetch(uint32_t index, vring::Descriptor* to) {
    if (index < first_ || index - first_ >= count_) {
      const auto count = std::min<uint32_t>(kTogether, entries_ - index);
      count_ = 0;
      RETURN_IF_ERROR(
          dma_.Read(GuestAddress{table_ + index * sizeof(vring::Descriptor)},
                    {reinterpret_cast<uint8_t*>(known_.data()),
                     count * sizeof(vring::Descriptor)}));
      first_ = index;
      count_ = count;
    }
    *to = known_[index - first_];
    return absl::OkStatus();
  }

  absl::Status Enter(uint64_t address, uint32_t size) {
    if (address + (size - 1) < address) {
      return RefuseChain("indirect table outside the memory");
    }
    table_ = address;
    entries_ = size / sizeof(vring::Descriptor);
    count_ = 0;
    return absl::OkStatus();
  }

  // Whether the buffer is the guest's memory is seen when it is transferred.
  absl::Span<uint8_t> Piece(uint64_t address, uint32_t size) {
    if (size > room_.size() || address + (size - 1) < address) return {};
    const absl::Span<uint8_t> piece = room_.first(size);
    room_.remove_prefix(size);
    return piece;
  }
  const char* no_piece() const {
    return "buffers larger than what is moved by message, or wrapping around";
  }

 private:
  static constexpr uint32_t kTogether = 16;

  Dma& dma_;
  uint64_t table_;
  uint32_t entries_;
  absl::Span<uint8_t> room_;
  // known_[0, count_) are the descriptors from first_ on.
  std::array<vring::Descriptor, kTogether> known_;
  uint32_t first_ = 0;
  uint32_t count_ = 0;
};

}  // namespace

absl::Status ReadChain(const DmaDescriptorTable& table, uint16_t head, Dma& dma,
                       absl::Span<uint8_t> room, Chain& chain) {
  DmaSource source(table, dma, room);
  return ChainWalker<DmaSource>(table.size, table.indirect, source, chain)
      .Walk(head);
}

absl::Status CopyIn(const Chain& chain, Dma& dma) {
  for (const ChainSegment& segment : chain.readable()) {
    RETURN_IF_ERROR(dma.Read(segment.address, {segment.data, segment.size}));
  }
  for (const ChainSegment& segment : chain.writable()) {
    std::memset(segment.data, 0, segment.size);
  }
  return absl::OkStatus();
}

absl::Status CopyOut(const Chain& chain, Dma& dma) {
  for (const ChainSegment& segment : chain.writable()) {
    RETURN_IF_ERROR(dma.Write(segment.address, {segment.data, segment.size}));
  }
  return absl::OkStatus();
}

bool IsDriversMistake(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsOutOfRange(status) ||
         absl::IsPermissionDenied(status);
}

}  // namespace holdfast
