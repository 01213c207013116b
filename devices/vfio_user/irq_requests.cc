// DEVICE_GET_IRQ_INFO and DEVICE_SET_IRQS.

#include "base/status_macros.h"
#include "devices/vfio_user/turn.h"

namespace holdfast::vfio_user {
namespace {

// What is done with vectors [start, start + count) of a kind.
enum class Deed {
  kRefuse,
  kSignal,      // As if the device had interrupted.
  kMask,        //
  kUnmask,      //
  kSetTrigger,  // Descriptors to signal; none: take them away.
  kSetMask,     //
  kSetUnmask,   //
  kSetNothing,  // All descriptors of the kind are taken away.
};

// Every combination of data and action that there is, and what may come with
// it. What is not listed is refused.
struct Rule {
  uint32_t flags;
  bool count_is_zero;
  bool takes_fds;
  bool needs_level;  // Only levels can be masked.
  Deed deed;
};
constexpr Rule kRules[] = {
    {kIrqDataNone | kIrqActionTrigger, true, false, false, Deed::kSetNothing},
    {kIrqDataNone | kIrqActionTrigger, false, false, false, Deed::kSignal},
    {kIrqDataNone | kIrqActionMask, false, false, true, Deed::kMask},
    {kIrqDataNone | kIrqActionUnmask, false, false, true, Deed::kUnmask},
    {kIrqDataBool | kIrqActionTrigger, false, false, false, Deed::kSignal},
    {kIrqDataBool | kIrqActionMask, false, false, true, Deed::kMask},
    {kIrqDataBool | kIrqActionUnmask, false, false, true, Deed::kUnmask},
    {kIrqDataEventFd | kIrqActionTrigger, false, true, false,
     Deed::kSetTrigger},
    {kIrqDataEventFd | kIrqActionMask, false, true, true, Deed::kSetMask},
    {kIrqDataEventFd | kIrqActionUnmask, false, true, true, Deed::kSetUnmask},
};

Deed DeedOf(const Request& request, bool level) {
  const IrqSet& set = request.irq_set;
  for (const Rule& rule : kRules) {
    if (rule.flags != set.flags || rule.count_is_zero != (set.count == 0)) {
      continue;
    }
    if (rule.needs_level && !level) return Deed::kRefuse;
    const bool fds_fit = request.fd_count == 0 ||
                         (rule.takes_fds && request.fd_count == set.count);
    return fds_fit ? rule.deed : Deed::kRefuse;
  }
  return Deed::kRefuse;
}

store::Slot& SlotOf(VectorState& vector, Deed deed) {
  switch (deed) {
    case Deed::kSetMask:
      return vector.mask;
    case Deed::kSetUnmask:
      return vector.unmask;
    default:
      return vector.trigger;
  }
}

// One deed for one vector, the i-th of the request.
void DoOne(Turn& turn, Deed deed, size_t i, VectorState& vector) {
  switch (deed) {
    case Deed::kMask:
      vector.masked = 1;
      break;
    case Deed::kUnmask:
      vector.masked = 0;
      break;
    case Deed::kSetNothing:
      vector = VectorState{};
      break;
    case Deed::kSetTrigger:
    case Deed::kSetMask:
    case Deed::kSetUnmask:
      SlotOf(vector, deed) =
          turn.request.fd_count == 0 ? store::Slot{0} : turn.slots.slots[i];
      break;
    case Deed::kSignal:
    case Deed::kRefuse:
      break;
  }
}

}  // namespace

absl::Status DecideIrqInfo(Turn& turn) {
  const uint32_t index = turn.request.irq_info.index;
  if (index >= turn.device.irqs().size()) {
    return turn.Invalid("no interrupts ", index);
  }
  const holdfast::IrqInfo& irq = turn.device.irqs()[index];
  IrqInfo reply{};
  reply.argsz = sizeof(reply);
  reply.flags = kIrqEventFd | (irq.level ? kIrqMaskable | kIrqAutomasked : 0);
  reply.index = index;
  reply.count = irq.count;
  turn.writer.Append(reply);
  return absl::OkStatus();
}

absl::Status DecideSetIrqs(Turn& turn) {
  const Request& request = turn.request;
  const IrqSet& set = request.irq_set;
  if (set.index >= turn.device.irqs().size()) {
    return turn.Invalid("no interrupts ", set.index);
  }
  const holdfast::IrqInfo& irq = turn.device.irqs()[set.index];
  const Deed deed = DeedOf(request, irq.level);
  if (deed == Deed::kRefuse) {
    return turn.Invalid("flags ", set.flags, " with count ", set.count, " and ",
                        request.fd_count, " descriptors");
  }
  if (set.start >= irq.count || set.count > irq.count - set.start ||
      (set.count == 0 && set.start != 0)) {
    return turn.Invalid("vectors ", set.start, " + ", set.count, " of ",
                        irq.count);
  }
  if (turn.slots.count < request.fd_count) {
    return turn.Exhausted("no slots are left for its descriptors");
  }
  const uint32_t count = deed == Deed::kSetNothing ? irq.count : set.count;
  VectorState* const first =
      turn.next.vectors + FirstVector(turn.device, set.index) + set.start;
  for (size_t i = 0; i < count; ++i) {
    if (!request.data.empty() && request.data[i] == 0) continue;
    DoOne(turn, deed, i, first[i]);
  }
  if (deed == Deed::kSignal || deed == Deed::kUnmask) {
    turn.afterwards = {deed == Deed::kSignal ? Afterwards::Kind::kSignal
                                             : Afterwards::Kind::kUnmask,
                       set.index, set.start, set.count, request.data};
  }
  return absl::OkStatus();
}

}  // namespace holdfast::vfio_user
