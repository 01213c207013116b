#include "devices/keeper/inflight_region.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace holdfast::keeper {

InflightRegion::InflightRegion(uint8_t* memory, RegionLayout layout)
    : memory_(memory) {
  Use(layout);
}

void InflightRegion::Use(RegionLayout layout) {
  layout_.queue_size = std::min(layout.queue_size, kMaxQueueSize);
  layout_.part = layout.part & 1;
}

uint8_t* InflightRegion::Begin(RegionLayout layout, uint16_t queue) const {
  return memory_ + (1 + layout.part) * kPartBytes +
         queue * InflightRegionSize(layout.queue_size);
}

absl::StatusOr<InflightTable> InflightRegion::Table(uint16_t queue,
                                                    uint16_t num) const {
  if (queue >= vhost_user::kMaxQueues || num > layout_.queue_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("ring ", queue, " of ", num,
                     " entries has no place in the in-flight region"));
  }
  return InflightTable::Attach(
      {Begin(layout_, queue), InflightRegionSize(layout_.queue_size)}, num);
}

void InflightRegion::Forget(uint16_t queue) {
  // A table of one entry has what there is to forget. None: it is empty.
  absl::StatusOr<InflightTable> table = Table(queue, 1);
  if (table.ok()) table->Forget();
}

RegionLayout InflightRegion::Resized(uint16_t queue_size) const {
  const RegionLayout next = {std::min(queue_size, kMaxQueueSize),
                             static_cast<uint16_t>(layout_.part ^ 1)};
  std::memset(Begin(next, 0), 0, kPartBytes);
  if (layout_.queue_size == 0) return next;
  const size_t bytes = std::min(InflightRegionSize(layout_.queue_size),
                                InflightRegionSize(next.queue_size));
  for (uint16_t i = 0; i < vhost_user::kMaxQueues; ++i) {
    std::memcpy(Begin(next, i), Begin(layout_, i), bytes);
  }
  return next;
}

uint16_t NeededQueueSize(const vhost_user::SessionState& session,
                         const Agreement& agreement) {
  if (agreement.inflight_queues == 0 || session.inflight.slot != 0) {
    return InflightRegion::kMaxQueueSize;
  }
  uint32_t size = 0;
  for (uint16_t i = 0; i < vhost_user::kMaxQueues; ++i) {
    if (RingStarts(session, i)) size = std::max(size, session.queues[i].num);
  }
  return static_cast<uint16_t>(
      std::min<uint32_t>(size, InflightRegion::kMaxQueueSize));
}

void PlaceInflight(const InflightRegion& region, Agreement& agreement) {
  if (agreement.inflight_queues == 0) return;
  agreement.inflight_queue_size = region.layout().queue_size;
  agreement.inflight_offset = region.offset();
  agreement.inflight_size = vhost_user::InflightSize(
      agreement.inflight_queues, agreement.inflight_queue_size);
}

}  // namespace holdfast::keeper
