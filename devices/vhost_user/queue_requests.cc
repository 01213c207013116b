#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "devices/vhost_user/message.h"
#include "devices/vhost_user/turn.h"

namespace holdfast::vhost_user {
namespace {

bool IsPowerOfTwo(uint64_t n) { return n != 0 && (n & (n - 1)) == 0; }

// The number of the queue that the request names, whatever its payload is.
uint64_t QueueIndex(const Request& request) {
  switch (request.type) {
    case RequestType::kSetVringAddr:
      return request.address.index;
    case RequestType::kSetVringKick:
    case RequestType::kSetVringCall:
    case RequestType::kSetVringErr:
      return request.vring_index();
    default:
      return request.vring.index;
  }
}

absl::Status SetNum(Turn& turn, QueueState& queue) {
  const uint32_t num = turn.request.vring.num;
  if (!IsPowerOfTwo(num) || num > turn.info.max_queue_size) {
    return turn.Invalid(num, " descriptors; a power of two up to ",
                        turn.info.max_queue_size, " is possible");
  }
  if (queue.started != 0 && queue.num != num) {
    return turn.Precondition("the ring is started");
  }
  queue.num = num;
  return absl::OkStatus();
}

// QEMU repeats the address of a running ring to turn its log flag on and off.
absl::Status SetAddress(Turn& turn, QueueState& queue, uint16_t index) {
  const VringAddress& address = turn.request.address;
  if (queue.started != 0) {
    if (queue.descriptor != address.descriptor || queue.used != address.used ||
        queue.available != address.available) {
      return turn.Precondition("the ring is started");
    }
    turn.environment.QuiesceQueue(index);
  }
  queue.has_address = 1;
  queue.descriptor = address.descriptor;
  queue.used = address.used;
  queue.available = address.available;
  queue.log_address = address.log;
  queue.address_flags = address.flags & kVringFlagLog;
  return absl::OkStatus();
}

absl::Status SetBase(Turn& turn, QueueState& queue) {
  const uint32_t base = turn.request.vring.num;
  if (base > 0xffff) {
    return turn.Invalid("index ", base, " in a split ring");
  }
  if (queue.started != 0 && queue.base != base) {
    return turn.Precondition("the ring is started");
  }
  queue.base = base;
  return absl::OkStatus();
}

// Stops the ring. Its kick goes, so that nothing but the next SET_VRING_KICK
// starts it again; all else stays.
absl::Status GetBase(Turn& turn, QueueState& queue, uint16_t index) {
  if (queue.started != 0) {
    ASSIGN_OR_RETURN(queue.base, turn.environment.StopQueue(index));
  }
  queue.started = 0;
  queue.kick = 0;
  return turn.Reply(VringState{index, queue.base});
}

absl::Status SetEnable(Turn& turn, QueueState& queue, uint16_t index) {
  const uint32_t enable = turn.request.vring.num;
  if (enable > 1) return turn.Invalid("neither 0 nor 1 but ", enable);
  if (enable == 0 && queue.started != 0 && queue.enabled != 0) {
    turn.environment.QuiesceQueue(index);
  }
  queue.enabled = static_cast<uint8_t>(enable);
  return absl::OkStatus();
}

absl::Status SetEndian(const Turn& turn) {
  const uint32_t endian = turn.request.vring.num;
  if (endian > 1) return turn.Invalid("neither 0 nor 1 but ", endian);
  if (endian == 1) return turn.Unsupported("big-endian rings");
  return absl::OkStatus();
}

absl::Status SetFd(Turn& turn, QueueState& queue) {
  const Request& request = turn.request;
  if ((request.value & ~(kVringIndexMask | kVringNoFd)) != 0) {
    return turn.Invalid("reserved bits are set in 0x",
                        absl::Hex(request.value));
  }
  const store::Slot slot =
      request.vring_has_fd() ? turn.slots.slots[0] : kSlotPolled;
  switch (request.type) {
    case RequestType::kSetVringKick:
      if (slot == kSlotPolled) {
        return turn.Unsupported("polling without a kick descriptor");
      }
      queue.kick = slot;
      return absl::OkStatus();
    case RequestType::kSetVringCall:
      queue.call = slot;
      return absl::OkStatus();
    default:
      queue.err = slot;
      return absl::OkStatus();
  }
}

}  // namespace

absl::Status DecideQueueRequest(Turn& turn) {
  const uint64_t wide_index = QueueIndex(turn.request);
  if (wide_index >= turn.info.queue_count || wide_index >= kMaxQueues) {
    return turn.Invalid("queue ", wide_index, " of ", turn.info.queue_count);
  }
  const uint16_t index = static_cast<uint16_t>(wide_index);
  QueueState& queue = turn.next.queues[index];
  switch (turn.request.type) {
    case RequestType::kSetVringNum:
      return SetNum(turn, queue);
    case RequestType::kSetVringAddr:
      return SetAddress(turn, queue, index);
    case RequestType::kSetVringBase:
      return SetBase(turn, queue);
    case RequestType::kGetVringBase:
      return GetBase(turn, queue, index);
    case RequestType::kSetVringEnable:
      return SetEnable(turn, queue, index);
    case RequestType::kSetVringEndian:
      return SetEndian(turn);
    case RequestType::kSetVringKick:
    case RequestType::kSetVringCall:
    case RequestType::kSetVringErr:
      return SetFd(turn, queue);
    default:
      return turn.Unsupported("not about a queue");
  }
}

absl::Status StartQueues(Turn& turn) {
  for (uint16_t i = 0; i < kMaxQueues; ++i) {
    QueueState& queue = turn.next.queues[i];
    if (queue.started != 0 || queue.kick == 0 || !RingIsMapped(turn.next, i)) {
      continue;
    }
    const bool adopt =
        queue.adopted != 0 && TrackedInHandedOverRegion(turn.next, i);
    queue.started = 1;
    queue.adopted = 0;
    queue.settled = 1;
    RETURN_IF_ERROR(turn.environment.PrepareQueue(
        turn.next, i, adopt ? QueueStart::kAdopt : QueueStart::kFresh));
  }
  return absl::OkStatus();
}

}  // namespace holdfast::vhost_user
