#ifndef HOLDFAST_DEVICES_KEEPER_INFLIGHT_REGION_H_
#define HOLDFAST_DEVICES_KEEPER_INFLIGHT_REGION_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/keeper/backend_plan.h"
#include "devices/vhost_user/session_state.h"
#include "statestore/inflight.h"

namespace holdfast::keeper {

// How the keeper's in-flight region lies in its memory: which of its parts is
// used, and for rings of how many entries.
struct RegionLayout {
  uint16_t queue_size;  // 0: no ring has run yet.
  uint16_t part;        // 0 or 1.
};
static_assert(sizeof(RegionLayout) == 4);

// The in-flight region that back-ends are given when the VMM has none for them.
// Its tables lie as far from one another as the largest ring is long, and a
// back-end may refuse a region for rings that are longer than its own; so the
// region follows the rings' size. A new one is made beside the old one and
// counts when its layout has been committed.
//
// The memory begins with a part that is the VMM's, if it asks for a region.
//
// Does not own the memory, which the back-end writes to; believes none of it.
class InflightRegion {
 public:
  // Of the rings that there is room for.
  static constexpr uint16_t kMaxQueueSize = 1024;
  static constexpr size_t kPartBytes =
      (vhost_user::kMaxQueues * InflightRegionSize(kMaxQueueSize) + 4095) /
      4096 * 4096;
  static constexpr size_t kBytes = 3 * kPartBytes;

  InflightRegion() = default;
  // `memory` has kBytes, all zeros at first. `layout` may be anything.
  InflightRegion(uint8_t* memory, RegionLayout layout);

  const RegionLayout& layout() const { return layout_; }
  // Where the region begins in the memory.
  size_t offset() const { return (1 + layout_.part) * kPartBytes; }

  // Of ring `queue`. kInvalidArgument: the ring is larger than the layout's.
  absl::StatusOr<InflightTable> Table(uint16_t queue, uint16_t num) const;

  // What was in flight in ring `queue`, of whatever size, matters no more.
  void Forget(uint16_t queue);

  // The same tables for rings of up to `queue_size`, in the other part. While
  // no back-end works on the region. To be committed, then given to Use.
  RegionLayout Resized(uint16_t queue_size) const;
  void Use(RegionLayout layout);

 private:
  uint8_t* Begin(RegionLayout layout, uint16_t queue) const;

  uint8_t* memory_ = nullptr;
  RegionLayout layout_ = {};
};

// How many entries the region must have a ring of `session`; 0: none runs. The
// largest there is room for where no back-end sees the region.
uint16_t NeededQueueSize(const vhost_user::SessionState& session,
                         const Agreement& agreement);

// Fills in where the region is, for a back-end that is to have one.
void PlaceInflight(const InflightRegion& region, Agreement& agreement);

}  // namespace holdfast::keeper

#endif  // HOLDFAST_DEVICES_KEEPER_INFLIGHT_REGION_H_
