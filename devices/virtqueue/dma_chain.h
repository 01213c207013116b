#ifndef HOLDFAST_DEVICES_VIRTQUEUE_DMA_CHAIN_H_
#define HOLDFAST_DEVICES_VIRTQUEUE_DMA_CHAIN_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "devices/bus/dma.h"
#include "devices/bus/guest_memory.h"
#include "devices/virtqueue/chain.h"

namespace holdfast {

// The descriptor table of a split ring that is reached by transfers.
struct DmaDescriptorTable {
  GuestAddress descriptors{};  // `size` of vring::Descriptor.
  uint16_t size = 0;
  bool indirect = false;  // VIRTIO_F_INDIRECT_DESC is negotiated.
};

// As ReadChain of chain.h, for memory that is not mapped here: the segments of
// `chain` are pieces of `room`, one after the other, that CopyIn and CopyOut
// bring in line with the guest's buffers.
//
// Errors: INVALID_ARGUMENT as there, and if the buffers are larger than `room`;
// those of Dma for the tables. IsDriversMistake tells which the driver brought
// about. May wait for the VMM, as Dma does. Threads: any, with a chain each.
absl::Status ReadChain(const DmaDescriptorTable& table, uint16_t head, Dma& dma,
                       absl::Span<uint8_t> room, Chain& chain);

// Reads the readable buffers and clears the copies of the writable ones, since
// what a device leaves out must not be of another request. Errors: of Dma.
absl::Status CopyIn(const Chain& chain, Dma& dma);

// Writes the writable buffers, all of them: VIRTIO 1.2, 2.7.8.2, lets a device
// write more than it says. Errors: of Dma.
absl::Status CopyOut(const Chain& chain, Dma& dma);

// Whether an error of these is the driver's doing: the request is to be
// refused. Else memory cannot be reached, and nothing is known of the request.
bool IsDriversMistake(const absl::Status& status);

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_VIRTQUEUE_DMA_CHAIN_H_
