#include "devices/virtqueue/testing/model_guest.h"

namespace holdfast::testing {

using vring::NeedsEvent;

ModelGuest::ModelGuest(ModelMemory& memory, uint32_t seed, int requests,
                       uint16_t first_index, bool event_idx)
    : memory_(memory),
      random_(seed + 1),
      requests_(requests),
      event_idx_(event_idx),
      next_available_(first_index),
      kicked_at_(first_index),
      next_used_(first_index) {
  memory_ = {};
  memory_.available.header.idx = first_index;
  memory_.used.header.idx = first_index;
}

void ModelGuest::Step() {
  if (must_kick_) return Kick();
  if (waiting_ == Waiting::kArmed) {
    // Between the wish for an interrupt and this look the device may have run.
    waiting_ = Waiting::kAsleep;
    if (AnswersWaiting()) Collect();
    return;
  }
  switch (random_() % 8) {
    case 0:
    case 1:
      return Post();
    case 2:
      if (waiting_ == Waiting::kNo || interrupted) Collect();
      return;
    case 3:
      if (waiting_ == Waiting::kNo) Arm();
      return;
    default:
      return;
  }
}

void ModelGuest::Post() {
  const uint16_t head = random_() % ModelMemory::kSize;
  if (posted_[head] != 0 || last_posted_ == static_cast<uint64_t>(requests_)) {
    return;
  }
  posted_[head] = ++last_posted_;
  memory_.question[head] = last_posted_;
  memory_.answer[head] = 0;
  memory_.descriptors[head] = {head, 8, vring::kWrite, 0};
  memory_.available.ring[next_available_ % ModelMemory::kSize] = head;
  memory_.available.header.idx = ++next_available_;
  must_kick_ = true;
}

void ModelGuest::Kick() {
  must_kick_ = false;
  const uint16_t before = kicked_at_;
  kicked_at_ = next_available_;
  if (event_idx_) {
    kicked |= NeedsEvent(memory_.used.avail_event, next_available_, before);
  } else {
    kicked |= (memory_.used.header.flags & vring::kNoNotify) == 0;
  }
}

bool ModelGuest::AnswersWaiting() const {
  return memory_.used.header.idx != next_used_;
}

void ModelGuest::Collect() {
  waiting_ = Waiting::kNo;
  interrupted = false;
  if (!event_idx_) memory_.available.header.flags = vring::kNoInterrupt;
  for (; AnswersWaiting(); ++next_used_) {
    const vring::UsedElement& element =
        memory_.used.ring[next_used_ % ModelMemory::kSize];
    if (element.id >= ModelMemory::kSize || posted_[element.id] == 0) {
      return Report(Violation::kDoubledAnswer);
    }
    if (memory_.answer[element.id] != Answer(posted_[element.id])) {
      return Report(Violation::kWrongAnswer);
    }
    posted_[element.id] = 0;
    ++answered_;
  }
}

void ModelGuest::Arm() {
  waiting_ = Waiting::kArmed;
  if (event_idx_) {
    memory_.available.used_event = next_used_;
  } else {
    memory_.available.header.flags = 0;
  }
}

void ModelGuest::CheckExecution(uint16_t head) {
  if (posted_[head] == 0) return Report(Violation::kLateExecution);
  const uint16_t answers = memory_.used.header.idx - next_used_;
  for (uint16_t i = 0; i < answers && i < ModelMemory::kSize; ++i) {
    const uint16_t at = static_cast<uint16_t>(next_used_ + i);
    if (memory_.used.ring[at % ModelMemory::kSize].id == head) {
      return Report(Violation::kLateExecution);
    }
  }
}

const char* ToString(ModelGuest::Violation violation) {
  switch (violation) {
    case ModelGuest::Violation::kNone:
      return "none";
    case ModelGuest::Violation::kDoubledAnswer:
      return "doubled answer";
    case ModelGuest::Violation::kWrongAnswer:
      return "wrong answer";
    case ModelGuest::Violation::kLateExecution:
      return "executed after its answer";
    case ModelGuest::Violation::kWrongOrder:
      return "wrong order";
    case ModelGuest::Violation::kBrokenRing:
      return "broken ring";
    case ModelGuest::Violation::kRecoveryFailed:
      return "recovery failed";
    case ModelGuest::Violation::kHang:
      return "hang";
  }
  return "?";
}

}  // namespace holdfast::testing
