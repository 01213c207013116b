#include "devices/keeper/backend_plan.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <type_traits>

namespace holdfast::keeper {
namespace {

using vhost_user::kMaxQueues;
using vhost_user::kMaxRegions;
using vhost_user::kMaxTableRegions;
using vhost_user::kSlotPolled;
using vhost_user::LogState;
using vhost_user::MemoryRegion;
using vhost_user::QueueState;
using vhost_user::RegionCount;
using vhost_user::RegionState;
using vhost_user::RequestType;
using vhost_user::SessionState;

template <typename T>
bool Same(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

// The wire form; slots are ours and not said.
MemoryRegion RegionOf(const RegionState& region) {
  return {region.guest_address, region.size, region.user_address,
          region.mmap_offset};
}

class Planner {
 public:
  Planner(const SessionState& done, const SessionState& session,
          const Agreement& agreement, const RingBases& bases)
      : done_(done), session_(session), agreement_(agreement), bases_(bases) {}

  // The order in which every known back-end is content: features before
  // memory, memory before ring addresses, the in-flight region before a kick
  // starts its ring, and nothing enabled before all of it is there.
  Steps Plan() {
    Features();
    Memory();
    Log();
    Inflight();
    for (uint16_t i = 0; i < kMaxQueues; ++i) Ring(i);
    for (uint16_t i = 0; i < kMaxQueues; ++i) Enable(i);
    Status();
    return std::move(steps_);
  }

 private:
  Step& Add(RequestType type) {
    steps_.emplace_back();
    steps_.back().type = type;
    return steps_.back();
  }
  template <typename T>
  static void Append(Step& step, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(step.payload.data() + step.payload_size, &value, sizeof(T));
    step.payload_size += sizeof(T);
  }
  template <typename T>
  Step& Add(RequestType type, const T& payload) {
    Step& step = Add(type);
    Append(step, payload);
    return step;
  }
  static void Attach(Step& step, StepFd fd) { step.fds[step.fd_count++] = fd; }
  static void AttachSlot(Step& step, store::Slot slot) {
    Attach(step, {StepFd::From::kSlot, slot});
  }
  bool Has(uint64_t protocol_feature) const {
    return (agreement_.protocol_features & protocol_feature) != 0;
  }

  // Bit 30 is between the keeper and the back-end, whatever the VMM says.
  void Features() {
    if (session_.features_acked == 0) return;
    if (done_.features_acked != 0 && done_.features == session_.features) {
      return;
    }
    const uint64_t own =
        agreement_.features & vhost_user::kFeatureProtocolFeatures;
    Add(RequestType::kSetFeatures,
        (session_.features & ~vhost_user::kFeatureProtocolFeatures) | own);
  }

  void Memory() {
    if (Same(done_.regions, session_.regions)) return;
    // A table takes away what requests in flight still use: only a life that
    // has none is told one.
    const bool one_by_one =
        RegionCount(done_) != 0 && Has(vhost_user::kProtocolConfigureMemSlots);
    if (!one_by_one && RegionCount(session_) <= kMaxTableRegions) {
      return Table();
    }
    for (size_t i = 0; i < RegionCount(done_); ++i) {
      if (!Contains(session_, done_.regions[i])) {
        Single(RequestType::kRemMemReg, done_.regions[i]);
      }
    }
    for (size_t i = 0; i < RegionCount(session_); ++i) {
      if (!Contains(done_, session_.regions[i])) {
        AttachSlot(Single(RequestType::kAddMemReg, session_.regions[i]),
                   session_.regions[i].slot);
      }
    }
  }
  void Table() {
    const size_t count = RegionCount(session_);
    Step& step =
        Add(RequestType::kSetMemTable,
            vhost_user::MemoryTableHeader{static_cast<uint32_t>(count), 0});
    for (size_t i = 0; i < count; ++i) {
      Append(step, RegionOf(session_.regions[i]));
      AttachSlot(step, session_.regions[i].slot);
    }
  }
  Step& Single(RequestType type, const RegionState& region) {
    return Add(type, vhost_user::SingleMemoryRegion{0, RegionOf(region)});
  }
  static bool Contains(const SessionState& session, const RegionState& region) {
    for (size_t i = 0; i < RegionCount(session); ++i) {
      if (Same(session.regions[i], region)) return true;
    }
    return false;
  }

  void Log() {
    const LogState& log = session_.log;
    if (log.slot != 0 && Has(vhost_user::kProtocolLogShmfd) &&
        (log.slot != done_.log.slot || log.size != done_.log.size ||
         log.offset != done_.log.offset)) {
      AttachSlot(Add(RequestType::kSetLogBase,
                     vhost_user::LogDescription{log.size, log.offset}),
                 log.slot);
    }
    if (log.event != 0 && log.event != done_.log.event) {
      AttachSlot(Add(RequestType::kSetLogFd), log.event);
    }
  }

  // Once the session has said which region it is, that is when a ring starts.
  void Inflight() {
    if (!Has(vhost_user::kProtocolInflightShmfd) || !AnyRingStarts(session_)) {
      return;
    }
    const vhost_user::InflightState& theirs = session_.inflight;
    if (AnyRingStarts(done_) && Same(done_.inflight, theirs)) return;
    // Nor more than it has when a VMM says so.
    const uint16_t queues =
        std::min(theirs.queue_count, agreement_.inflight_queues);
    if (theirs.slot != 0) {
      AttachSlot(
          Add(RequestType::kSetInflightFd,
              vhost_user::InflightDescription{theirs.size, theirs.offset,
                                              queues, theirs.queue_size, 0}),
          theirs.slot);
    } else if (agreement_.inflight_size != 0) {
      Attach(Add(RequestType::kSetInflightFd,
                 vhost_user::InflightDescription{
                     agreement_.inflight_size, agreement_.inflight_offset,
                     agreement_.inflight_queues, agreement_.inflight_queue_size,
                     0}),
             {StepFd::From::kInflight, 0});
    }
  }

  void Ring(uint16_t queue) {
    if (!RingStarts(session_, queue)) return;
    const QueueState& next = session_.queues[queue];
    const QueueState& before = done_.queues[queue];
    const bool starts = !RingStarts(done_, queue);
    if (starts) {
      State(RequestType::kSetVringNum, queue, next.num);
      State(RequestType::kSetVringBase, queue, bases_[queue]);
    }
    if (starts || next.address_flags != before.address_flags ||
        next.log_address != before.log_address) {
      Add(RequestType::kSetVringAddr,
          vhost_user::VringAddress{queue, next.address_flags, next.descriptor,
                                   next.used, next.available, next.log_address})
          .queue = queue;
    }
    if (starts ? next.err != 0 : next.err != before.err) {
      Signal(RequestType::kSetVringErr, queue, next.err);
    }
    if (starts ? next.call != 0 : next.call != before.call) {
      Signal(RequestType::kSetVringCall, queue, next.call);
    }
    if (starts) Signal(RequestType::kSetVringKick, queue, next.kick);
  }

  // Without bit 30 rings are enabled by being started.
  void Enable(uint16_t queue) {
    if ((agreement_.features & vhost_user::kFeatureProtocolFeatures) == 0 ||
        !RingStarts(session_, queue)) {
      return;
    }
    const bool told = RingStarts(done_, queue);
    const uint8_t before = told ? done_.queues[queue].enabled : 0;
    if (session_.queues[queue].enabled == before) return;
    State(RequestType::kSetVringEnable, queue, session_.queues[queue].enabled);
  }

  void Status() {
    if (Has(vhost_user::kProtocolStatus) && session_.status != done_.status) {
      Add(RequestType::kSetStatus, uint64_t{session_.status});
    }
  }

  void State(RequestType type, uint16_t queue, uint32_t value) {
    Add(type, vhost_user::VringState{queue, value}).queue = queue;
  }
  void Signal(RequestType type, uint16_t queue, store::Slot slot) {
    const bool none = slot == kSlotPolled || slot == 0;
    Step& step = Add(
        type, uint64_t{queue} | (none ? vhost_user::kVringNoFd : uint64_t{0}));
    step.queue = queue;
    if (!none) AttachSlot(step, slot);
  }

  const SessionState& done_;
  const SessionState& session_;
  const Agreement& agreement_;
  const RingBases& bases_;
  Steps steps_;
};

}  // namespace

bool RingStarts(const SessionState& session, uint16_t queue) {
  return session.queues[queue].started != 0 &&
         vhost_user::RingIsMapped(session, queue);
}

bool AnyRingStarts(const SessionState& session) {
  for (uint16_t i = 0; i < kMaxQueues; ++i) {
    if (RingStarts(session, i)) return true;
  }
  return false;
}

SessionState WithoutRings(const SessionState& session) {
  SessionState result = session;
  for (QueueState& queue : result.queues) queue.started = 0;
  // That the driver is ready comes last.
  result.status = 0;
  return result;
}

Steps PlanSteps(const SessionState& done, const SessionState& session,
                const Agreement& agreement, const RingBases& bases) {
  return Planner(done, session, agreement, bases).Plan();
}

}  // namespace holdfast::keeper
