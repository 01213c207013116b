#ifndef HOLDFAST_DEVICES_BLOCK_TOPOLOGY_H_
#define HOLDFAST_DEVICES_BLOCK_TOPOLOGY_H_

#include <cstdint>

namespace holdfast::block {

// What the storage likes best, in bytes; hints, all that is not known 0.
struct Topology {
  uint32_t physical_block = 0;    // Written in one piece; a power of two.
  uint32_t alignment_offset = 0;  // Where the first of these begins.
  uint32_t min_io = 0;            // Without a penalty.
  uint32_t optimal_io = 0;
};

}  // namespace holdfast::block

#endif  // HOLDFAST_DEVICES_BLOCK_TOPOLOGY_H_
