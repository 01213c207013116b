#ifndef HOLDFAST_DEVICES_VIRTQUEUE_CHAIN_WALKER_H_
#define HOLDFAST_DEVICES_VIRTQUEUE_CHAIN_WALKER_H_

// How ReadChain follows a chain, wherever descriptors and buffers are. For the
// sources that include it.

#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/virtqueue/chain.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast {

inline absl::Status RefuseChain(const char* why) {
  return absl::InvalidArgumentError(absl::StrCat("descriptor chain: ", why));
}

// Source:
//   absl::Status Fetch(uint32_t index, vring::Descriptor* to): of the table.
//   absl::Status Enter(uint64_t address, uint32_t size): is the table now.
//   absl::Span<uint8_t> Piece(uint64_t address, uint32_t size): the first bytes
//       of a buffer that lie together here; empty: none do.
//   const char* no_piece(): then, why.
template <typename Source>
class ChainWalker {
 public:
  ChainWalker(uint16_t entries, bool may_be_indirect, Source& source,
              Chain& chain)
      : source_(source),
        chain_(chain),
        entries_(entries),
        may_be_indirect_(may_be_indirect) {}

  absl::Status Walk(uint16_t head) {
    Clear(head);
    absl::Status status = Follow(head);
    if (!status.ok()) Clear(head);
    return status;
  }

 private:
  void Clear(uint16_t head) {
    chain_.head_ = head;
    chain_.count_ = chain_.readable_ = 0;
    chain_.readable_size_ = chain_.writable_size_ = 0;
  }

  // Every turn but the one that enters the indirect table adds a segment, so
  // there are at most kMaxSegments + 2.
  absl::Status Follow(uint16_t head) {
    uint32_t index = head;
    uint32_t followed = 0;
    while (true) {
      if (index >= entries_) return RefuseChain("index outside the table");
      if (followed++ == entries_) return RefuseChain("loop");
      vring::Descriptor d;
      RETURN_IF_ERROR(source_.Fetch(index, &d));
      if ((d.flags & vring::kIndirect) != 0) {
        RETURN_IF_ERROR(EnterIndirect(d));
        index = followed = 0;
        continue;
      }
      RETURN_IF_ERROR(Append(d));
      if ((d.flags & vring::kNext) == 0) return absl::OkStatus();
      index = d.next;
    }
  }

  // The table takes the place of this descriptor, which is the last of the
  // ring's part of the chain (VIRTIO 1.2, 2.7.5.3).
  absl::Status EnterIndirect(const vring::Descriptor& d) {
    if (!may_be_indirect_) {
      return RefuseChain("indirect table not allowed here");
    }
    may_be_indirect_ = false;
    if ((d.flags & vring::kNext) != 0) {
      return RefuseChain("descriptor after the indirect table");
    }
    if (d.size == 0 || d.size % sizeof(vring::Descriptor) != 0) {
      return RefuseChain("size of the indirect table");
    }
    RETURN_IF_ERROR(source_.Enter(d.address, d.size));
    entries_ = d.size / sizeof(vring::Descriptor);
    return absl::OkStatus();
  }

  absl::Status Append(const vring::Descriptor& d) {
    const bool writable = (d.flags & vring::kWrite) != 0;
    if (!writable && chain_.readable_ != chain_.count_) {
      return RefuseChain("readable buffer after a writable one");
    }
    if (d.size == 0) return RefuseChain("empty buffer");
    const uint32_t used = chain_.readable_size_ + chain_.writable_size_;
    if (d.size > std::numeric_limits<uint32_t>::max() - used) {
      return RefuseChain("more than 4 GiB");
    }
    RETURN_IF_ERROR(AppendSegments(d.address, d.size));
    if (writable) {
      chain_.writable_size_ += d.size;
    } else {
      chain_.readable_ = chain_.count_;
      chain_.readable_size_ += d.size;
    }
    return absl::OkStatus();
  }

  absl::Status AppendSegments(uint64_t address, uint32_t size) {
    while (size != 0) {
      const absl::Span<uint8_t> piece = source_.Piece(address, size);
      if (piece.empty()) return RefuseChain(source_.no_piece());
      if (chain_.count_ == Chain::kMaxSegments) return RefuseChain("too long");
      chain_.segments_[chain_.count_++] = {piece.data(),
                                           static_cast<uint32_t>(piece.size()),
                                           GuestAddress{address}};
      // Wraps only past the last region, where the next piece is refused...
      address += piece.size();
      size -= piece.size();
      // ... unless there is memory at address 0.
      if (address == 0 && size != 0) return RefuseChain("buffer wraps around");
    }
    return absl::OkStatus();
  }

  Source& source_;
  Chain& chain_;
  uint32_t entries_;
  bool may_be_indirect_;
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_VIRTQUEUE_CHAIN_WALKER_H_
