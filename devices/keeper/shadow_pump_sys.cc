#include "devices/keeper/shadow_pump_sys.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "devices/keeper/shadow_session.h"
#include "devices/runtime/event_sys.h"
#include "devices/runtime/prefault.h"

namespace holdfast::keeper {
namespace {

constexpr timespec kPause = {0, 50'000};

void MakeRoom(BorrowedFd event) {
  if (!event.valid() || !IsEventFull(event)) return;
  DrainEvent(event);
  RaiseEvent(event);
}

// A full one has a signal already.
void Signal(BorrowedFd event) {
  if (event.valid() && !IsEventFull(event)) RaiseEvent(event);
}

UniqueFd NewEvent() { return UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

}  // namespace

ShadowPump::ShadowPump() : wake_(NewEvent()), news_(NewEvent()) {
  for (Own& own : own_) own = {NewEvent(), NewEvent()};
  // The C library starts a thread with calls that the steady state does not
  // have: they are over when it has taken the lock once.
  std::atomic<bool> runs{false};
  thread_ = std::thread([this, &runs] {
    PrefaultStack();
    runs = true;
    Loop();
  });
  while (!runs) std::this_thread::yield();
}

ShadowPump::~ShadowPump() {
  {
    const auto held = Hold();
    end_ = true;
    RaiseEvent(wake_);
  }
  thread_.join();
}

BorrowedFd ShadowPump::Get(store::Slot slot) const {
  for (uint16_t i = 0; i < own_.size(); ++i) {
    if (slot == ShadowKickSlot(i)) return own_[i].kick;
    if (slot == ShadowCallSlot(i)) return own_[i].call;
  }
  return BorrowedFd(-1);
}

// The thread waits with the lock in its hands when it signals a descriptor that
// is full, which only a VMM or a back-end can bring about that means to: room
// is made then, a signal is left in any case.
std::unique_lock<std::mutex> ShadowPump::Hold() {
  std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
  if (lock.owns_lock()) return lock;
  wanted_ = true;
  while (!lock.owns_lock()) {
    // Only this thread changes which descriptors those are.
    for (const Ring& ring : rings_) MakeRoom(ring.ends.call);
    for (const Own& own : own_) MakeRoom(own.kick);
    ppoll(nullptr, 0, &kPause, nullptr);
    (void)lock.try_lock();
  }
  wanted_ = false;
  return lock;
}

void ShadowPump::Set(uint16_t queue, ShadowQueue ring) {
  Drop(queue);
  rings_[queue].queue.emplace(std::move(ring));
}

void ShadowPump::Run(uint16_t queue, const Ends& ends) {
  Change(queue, ends);
  rings_[queue].runs = true;
  Signal(own_[queue].kick);
  Signal(ends.call);
}

void ShadowPump::Change(uint16_t queue, const Ends& ends) {
  rings_[queue].ends = ends;
  ++changes_;
  RaiseEvent(wake_);
}

void ShadowPump::Drop(uint16_t queue) {
  rings_[queue] = Ring();
  ++changes_;
  RaiseEvent(wake_);
}

ShadowQueue* ShadowPump::ring(uint16_t queue) {
  auto& ring = rings_[queue].queue;
  return ring.has_value() ? &*ring : nullptr;
}

absl::Status ShadowPump::TakeNews() {
  DrainEvent(news_);
  return std::exchange(lie_, absl::OkStatus());
}

// Whose request is on trial has the back-end for itself.
ShadowPump::Ring* ShadowPump::OnTrial() {
  for (Ring& ring : rings_) {
    if (ring.runs && ring.queue->on_trial()) return &ring;
  }
  return nullptr;
}

std::optional<Suspect> ShadowPump::Alone() {
  const Ring* const ring = OnTrial();
  if (ring == nullptr) return std::nullopt;
  const std::optional<InflightRequest> alone = ring->queue->alone();
  if (!alone.has_value()) return std::nullopt;
  return Suspect{static_cast<uint16_t>(ring - rings_.data()), alone->head,
                 alone->counter};
}

bool ShadowPump::TurnAll() {
  bool moved = false;
  const Ring* const on_trial = OnTrial();
  for (uint16_t i = 0; i < vhost_user::kMaxQueues; ++i) {
    Ring& ring = rings_[i];
    if (!ring.runs || (on_trial != nullptr && on_trial != &ring)) continue;
    const auto turn = ring.queue->Turn(ring.ends.takes);
    if (!turn.ok()) {
      ring.runs = false;
      lie_ = absl::DataLossError(
          absl::StrCat("ring ", i, ": ", turn.status().message()));
      RaiseEvent(news_);
      continue;
    }
    if (turn->kick) Signal(own_[i].kick);
    if (turn->call) Signal(ring.ends.call);
    moved = moved || turn->moved;
  }
  return moved;
}

bool ShadowPump::RestAll() {
  bool more = false;
  const Ring* const on_trial = OnTrial();
  for (Ring& ring : rings_) {
    if (on_trial != nullptr && on_trial != &ring) continue;
    if (ring.runs && ring.queue->Rest(ring.ends.takes)) more = true;
  }
  return more;
}

// On return the lock is held again.
void ShadowPump::Wait(std::unique_lock<std::mutex>& lock) {
  pollfd fds[1 + 2 * vhost_user::kMaxQueues] = {{wake_.get(), POLLIN, 0}};
  nfds_t count = 1;
  for (size_t i = 0; i < rings_.size(); ++i) {
    if (!rings_[i].runs) continue;
    fds[count++] = {own_[i].call.get(), POLLIN, 0};
    if (!rings_[i].ends.takes) continue;
    fds[count++] = {rings_[i].ends.kick.get(), POLLIN, 0};
  }
  const uint64_t before = changes_;
  lock.unlock();
  (void)!ppoll(fds, count, nullptr, nullptr);
  while (wanted_) ppoll(nullptr, 0, &kPause, nullptr);
  lock.lock();
  if ((fds[0].revents & POLLIN) != 0) DrainEvent(wake_);
  // Others may have these numbers now.
  if (changes_ != before) return;
  for (nfds_t i = 1; i < count; ++i) {
    if ((fds[i].revents & POLLIN) != 0) DrainEvent(BorrowedFd(fds[i].fd));
  }
}

void ShadowPump::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!end_) {
    if (TurnAll() || RestAll()) {
      // The control thread first.
      if (!wanted_) continue;
      lock.unlock();
      while (wanted_) ppoll(nullptr, 0, &kPause, nullptr);
      lock.lock();
      continue;
    }
    Wait(lock);
  }
}

}  // namespace holdfast::keeper
