#ifndef HOLDFAST_DEVICES_RUNTIME_POLLER_SYS_H_
#define HOLDFAST_DEVICES_RUNTIME_POLLER_SYS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "devices/runtime/descriptors.h"
#include "statestore/lane.h"

namespace holdfast {

// What a control thread waits for. All of it by level, with ppoll(2); or the
// VMM's connection by edge, so that a lane may leave executed bytes in it, with
// epoll(7). Control thread only.
//
// An epoll set remembers open files, not numbers, and others hold ours open,
// too: whatever is watched and closed must be told to BeforeClose.
class Poller final : public ClosingObserver {
 public:
  enum class Source {
    kStore,
    kControl,
    kEvent,
    kOtherEvent,
    kThirdEvent,
    kFourthEvent,
    kVmm,
    kOtherStream,  // Of the VMM; by edge, too.
  };

  // First, with kLevel or kEdge. Before the sandbox is tightened.
  absl::Status Open(Lane::Waiting how);

  // From now on `fd`, instead of what it was; invalid: nothing. Costs nothing
  // if it is the same. What cannot be waited for (a VMM gives what it likes) is
  // never ready. Errors: the kernel has no memory for another.
  absl::Status Watch(Source source, BorrowedFd fd);
  void BeforeClose(BorrowedFd fd) override;

  // Waits until something is ready, at most for `timeout_ms` (-1: for ever).
  // False: nothing is.
  bool Wait(int timeout_ms);

  // The same for ever, but ends with nothing also when the VMM has been silent
  // for `silence_ms`, after twice as long at most (-1: does not end). By level,
  // and only there, whatever comes breaks the silence.
  //
  // Costs a VMM that speaks nothing, by edge: a timer runs on beside it, and is
  // set anew when it has expired, rather than for every wait.
  bool WaitUnlessSilent(int silence_ms);

  // What the last Wait has found.
  bool ready(Source source) const { return at(source).ready; }
  // Whether that is one of the host's events.
  bool HasEvent() const {
    return ready(Source::kEvent) || ready(Source::kOtherEvent) ||
           ready(Source::kThirdEvent) || ready(Source::kFourthEvent);
  }
  // How the lane is to be served after what Wait has found.
  Lane::Waiting waiting() const {
    return hung_up_ ? Lane::Waiting::kAny : how_;
  }

 private:
  struct Watched {
    int fd = -1;
    bool ready = false;
  };
  static constexpr size_t kSources = 8;

  const Watched& at(Source source) const {
    return watched_[static_cast<size_t>(source)];
  }
  void Forget(size_t source);
  void Unwatch(BorrowedFd fd);
  bool WaitByLevel(int timeout_ms);
  bool Collect(int timeout_ms);
  bool Note(uint32_t which, uint32_t events);

  Lane::Waiting how_ = Lane::Waiting::kLevel;
  UniqueFd epoll_;  // Invalid by level.
  UniqueFd timer_;  // The same. Of silence.
  bool timer_runs_ = false;
  bool heard_ = false;  // Of the VMM, since the timer was set.
  std::array<Watched, kSources> watched_;
  bool hung_up_ = false;  // The VMM that is watched.
};

}  // namespace holdfast

#endif  // HOLDFAST_DEVICES_RUNTIME_POLLER_SYS_H_
