#ifndef HOLDFAST_DEVICES_VIRTQUEUE_CHAIN_H_
#define HOLDFAST_DEVICES_VIRTQUEUE_CHAIN_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "devices/bus/guest_memory.h"

namespace holdfast {

// A piece of a request in guest memory. The guest may write it at any time.
struct ChainSegment {
  uint8_t* data;
  uint32_t size;  // Never 0.
  GuestAddress address;
};

// The buffers of one request, in the driver's order. Large: keep one per
// request in flight and fill it again, not one on the stack. Threads: none.
class Chain {
 public:
  // As many as a system call takes buffers (IOV_MAX) and as other devices
  // allow (QEMU: 1024). A longer chain is refused.
  static constexpr size_t kMaxSegments = 1024;

  Chain() = default;
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;

  uint16_t head() const { return head_; }
  absl::Span<const ChainSegment> readable() const {
    return {segments_, readable_};
  }
  absl::Span<const ChainSegment> writable() const {
    return {segments_ + readable_, count_ - readable_};
  }
  // Bytes. Their sum fits 32 bits, as VIRTIO demands.
  uint32_t readable_size() const { return readable_size_; }
  uint32_t writable_size() const { return writable_size_; }

 private:
  template <typename Source>
  friend class ChainWalker;

  ChainSegment segments_[kMaxSegments];  // The readable ones first.
  size_t count_ = 0;
  size_t readable_ = 0;
  uint32_t readable_size_ = 0;
  uint32_t writable_size_ = 0;
  uint16_t head_ = 0;
};

// The descriptor table of a split ring.
struct DescriptorTable {
  const uint8_t* descriptors = nullptr;  // `size` of vring::Descriptor.
  uint16_t size = 0;
  bool indirect = false;  // VIRTIO_F_INDIRECT_DESC is negotiated.
};

// Follows the chain that starts at `head` (VIRTIO 1.2, 2.7.5). Reads every
// descriptor once, at most kMaxSegments of them. A buffer that crosses from one
// memory region into the next becomes several segments.
// Errors: INVALID_ARGUMENT saying which rule the driver broke; `chain` is then
// empty. Threads: any, with a chain each.
absl::Status ReadChain(const DescriptorTable& table, uint16_t head,
                       const GuestMemory& memory, Chain& chain);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_VIRTQUEUE_CHAIN_H_
