#include "devices/runtime/poller_sys.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <cerrno>

#include "base/errno_status.h"

namespace holdfast {

namespace {

// Of the timer in the set; others are sources.
constexpr uint32_t kTimer = 0xff;

bool IsEvent(Poller::Source source) {
  return source == Poller::Source::kEvent ||
         source == Poller::Source::kOtherEvent ||
         source == Poller::Source::kThirdEvent ||
         source == Poller::Source::kFourthEvent;
}

}  // namespace

absl::Status Poller::Open(Lane::Waiting how) {
  how_ = how;
  if (how_ != Lane::Waiting::kEdge) return absl::OkStatus();
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return ErrnoStatus("epoll_create1");
  timer_.Reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer_.valid()) return ErrnoStatus("timerfd_create");
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLET;  // So that nobody need read it.
  event.data.u32 = kTimer;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, timer_.get(), &event) != 0) {
    return ErrnoStatus("epoll_ctl");
  }
  return absl::OkStatus();
}

absl::Status Poller::Watch(Source source, BorrowedFd fd) {
  const auto index = static_cast<size_t>(source);
  if (watched_[index].fd == fd.get()) return absl::OkStatus();
  Forget(index);
  if (!fd.valid()) return absl::OkStatus();
  watched_[index].fd = fd.get();
  if (!epoll_.valid()) return absl::OkStatus();
  epoll_event event = {};
  event.events = source == Source::kVmm || source == Source::kOtherStream
                     ? EPOLLIN | EPOLLRDHUP | EPOLLET
                     : static_cast<uint32_t>(EPOLLIN);
  event.data.u32 = static_cast<uint32_t>(index);
  // What is readable already is found by the next Wait, by edge also.
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0 &&
      (errno == ENOMEM || errno == ENOSPC)) {
    return ErrnoStatus("epoll_ctl");
  }
  return absl::OkStatus();
}

// Fails for what could not be waited for.
void Poller::Unwatch(BorrowedFd fd) {
  if (epoll_.valid()) {
    (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd.get(), nullptr);
  }
}

void Poller::Forget(size_t source) {
  Watched& watched = watched_[source];
  if (watched.fd < 0) return;
  Unwatch(BorrowedFd(watched.fd));
  watched = Watched();
  if (source == static_cast<size_t>(Source::kVmm)) hung_up_ = false;
}

void Poller::BeforeClose(BorrowedFd fd) {
  for (size_t i = 0; i < kSources; ++i) {
    if (fd.valid() && watched_[i].fd == fd.get()) Forget(i);
  }
}

bool Poller::WaitByLevel(int timeout_ms) {
  pollfd fds[kSources];
  for (size_t i = 0; i < kSources; ++i) fds[i] = {watched_[i].fd, POLLIN, 0};
  const timespec limit = {timeout_ms / 1000, timeout_ms % 1000 * 1'000'000};
  const int count =
      ppoll(fds, kSources, timeout_ms < 0 ? nullptr : &limit, nullptr);
  for (size_t i = 0; i < kSources; ++i) {
    watched_[i].ready = count > 0 && fds[i].revents != 0;
  }
  return count > 0;
}

// What one event says. False: nothing for the caller.
bool Poller::Note(uint32_t which, uint32_t events) {
  if (which == kTimer) {
    timer_runs_ = false;
    return false;
  }
  const auto source = static_cast<Source>(which);
  Watched& watched = watched_[which];
  watched.ready = true;
  const bool over = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  if (source == Source::kVmm) {
    heard_ = true;
    hung_up_ = hung_up_ || over;
  } else if (over && (events & EPOLLIN) == 0) {
    // A pipe, say, that nobody will write to: it would be ready for ever.
    if (IsEvent(source)) {
      Unwatch(BorrowedFd(watched.fd));
    }
  }
  return true;
}

// By the one call that all architectures have. True: something is ready.
bool Poller::Collect(int timeout_ms) {
  for (Watched& watched : watched_) watched.ready = false;
  epoll_event events[kSources + 1];
  const int count =
      epoll_pwait(epoll_.get(), events, kSources + 1, timeout_ms, nullptr);
  bool any = false;
  for (int i = 0; i < count; ++i) {
    any = Note(events[i].data.u32, events[i].events) || any;
  }
  return any;
}

bool Poller::Wait(int timeout_ms) {
  if (!epoll_.valid()) return WaitByLevel(timeout_ms);
  for (;;) {
    const bool ran = timer_runs_;
    if (Collect(timeout_ms)) return true;
    // A timer that nobody needs any more is no reason to stop.
    if (timeout_ms >= 0 || timer_runs_ == ran) return false;
  }
}

bool Poller::WaitUnlessSilent(int silence_ms) {
  if (!epoll_.valid() || silence_ms < 0) return Wait(silence_ms);
  for (;;) {
    if (!timer_runs_) {
      const itimerspec once = {
          {}, {silence_ms / 1000, silence_ms % 1000 * 1'000'000}};
      if (timerfd_settime(timer_.get(), 0, &once, nullptr) != 0) {
        return Collect(silence_ms);
      }
      timer_runs_ = true;
      heard_ = false;
    }
    if (Collect(-1)) return true;
    if (!heard_) return false;
  }
}

}  // namespace holdfast
