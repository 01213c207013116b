#include "devices/virtqueue/chain.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "base/shared_access.h"
#include "base/status_macros.h"
#include "devices/virtqueue/vring_layout.h"

namespace holdfast {

class ChainWalker {
 public:
  ChainWalker(const DescriptorTable& ring, const GuestMemory& memory,
              Chain& chain)
      : memory_(memory),
        chain_(chain),
        table_(ring.descriptors),
        entries_(ring.size),
        may_be_indirect_(ring.indirect) {}

  absl::Status Walk(uint16_t head) {
    Clear(head);
    absl::Status status = Follow(head);
    if (!status.ok()) Clear(head);
    return status;
  }

 private:
  static absl::Status Refuse(const char* why) {
    return absl::InvalidArgumentError(absl::StrCat("descriptor chain: ", why));
  }

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
      if (index >= entries_) return Refuse("index outside the table");
      if (followed++ == entries_) return Refuse("loop");
      vring::Descriptor d;
      SharedAccess::Copy(&d, table_ + index * sizeof(d), sizeof(d));
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
    if (!may_be_indirect_) return Refuse("indirect table not allowed here");
    may_be_indirect_ = false;
    if ((d.flags & vring::kNext) != 0) {
      return Refuse("descriptor after the indirect table");
    }
    if (d.size == 0 || d.size % sizeof(vring::Descriptor) != 0) {
      return Refuse("size of the indirect table");
    }
    table_ = memory_.Translate(GuestAddress{d.address}, d.size);
    if (table_ == nullptr) return Refuse("indirect table outside the memory");
    entries_ = d.size / sizeof(vring::Descriptor);
    return absl::OkStatus();
  }

  absl::Status Append(const vring::Descriptor& d) {
    const bool writable = (d.flags & vring::kWrite) != 0;
    if (!writable && chain_.readable_ != chain_.count_) {
      return Refuse("readable buffer after a writable one");
    }
    if (d.size == 0) return Refuse("empty buffer");
    const uint32_t used = chain_.readable_size_ + chain_.writable_size_;
    if (d.size > std::numeric_limits<uint32_t>::max() - used) {
      return Refuse("more than 4 GiB");
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
      const absl::Span<uint8_t> piece =
          memory_.TranslatePrefix(GuestAddress{address}, size);
      if (piece.empty()) return Refuse("buffer outside the memory");
      if (chain_.count_ == Chain::kMaxSegments) return Refuse("too long");
      chain_.segments_[chain_.count_++] = {piece.data(),
                                           static_cast<uint32_t>(piece.size()),
                                           GuestAddress{address}};
      // Wraps only past the last region, where the next piece is refused...
      address += piece.size();
      size -= piece.size();
      // ... unless there is memory at address 0.
      if (address == 0 && size != 0) return Refuse("buffer wraps around");
    }
    return absl::OkStatus();
  }

  const GuestMemory& memory_;
  Chain& chain_;
  const uint8_t* table_;
  uint32_t entries_;
  bool may_be_indirect_;
};

absl::Status ReadChain(const DescriptorTable& table, uint16_t head,
                       const GuestMemory& memory, Chain& chain) {
  return ChainWalker(table, memory, chain).Walk(head);
}

}  // namespace holdfast
