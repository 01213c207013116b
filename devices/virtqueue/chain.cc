#include "devices/virtqueue/chain.h"

#include "base/shared_access.h"
#include "devices/virtqueue/chain_walker.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast {
namespace {

// Descriptors and buffers that are mapped here.
class MappedSource {
 public:
  MappedSource(const uint8_t* table, const GuestMemory& memory)
      : memory_(memory), table_(table) {}

  absl::Status Fetch(uint32_t index, vring::Descriptor* to) const {
    SharedAccess::Copy(to, table_ + index * sizeof(*to), sizeof(*to));
    return absl::OkStatus();
  }
  absl::Status Enter(uint64_t address, uint32_t size) {
    table_ = memory_.Translate(GuestAddress{address}, size);
    return table_ != nullptr ? absl::OkStatus()
                             : RefuseChain("indirect table outside the memory");
  }
  absl::Span<uint8_t> Piece(uint64_t address, uint32_t size) const {
    return memory_.TranslatePrefix(GuestAddress{address}, size);
  }
  const char* no_piece() const { return "buffer outside the memory"; }

 private:
  const GuestMemory& memory_;
  const uint8_t* table_;
};

}  // namespace

absl::Status ReadChain(const DescriptorTable& table, uint16_t head,
                       const GuestMemory& memory, Chain& chain) {
  MappedSource source(table.descriptors, memory);
  return ChainWalker<MappedSource>(table.size, table.indirect, source, chain)
      .Walk(head);
}

}  // namespace holdfast
