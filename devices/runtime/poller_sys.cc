#include "devices/runtime/poller_sys.h"

#include <poll.h>
#include <sys/epoll.h>

#include <cerrno>

#include "base/errno_status.h"

namespace holdfast {

absl::Status Poller::Open(Lane::Waiting how) {
  how_ = how;
  if (how_ != Lane::Waiting::kEdge) return absl::OkStatus();
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  return epoll_.valid() ? absl::OkStatus() : ErrnoStatus("epoll_create1");
}

absl::Status Poller::Watch(Source source, BorrowedFd fd) {
  const auto index = static_cast<size_t>(source);
  if (watched_[index].fd == fd.get()) return absl::OkStatus();
  Forget(index);
  if (!fd.valid()) return absl::OkStatus();
  watched_[index].fd = fd.get();
  if (!epoll_.valid()) return absl::OkStatus();
  epoll_event event = {};
  event.events = source == Source::kVmm ? EPOLLIN | EPOLLRDHUP | EPOLLET
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

// By the one call that all architectures have.
bool Poller::Wait(int timeout_ms) {
  if (!epoll_.valid()) return WaitByLevel(timeout_ms);
  for (Watched& watched : watched_) watched.ready = false;
  epoll_event events[kSources];
  const int count =
      epoll_pwait(epoll_.get(), events, kSources, timeout_ms, nullptr);
  for (int i = 0; i < count; ++i) {
    const auto source = static_cast<Source>(events[i].data.u32);
    Watched& watched = watched_[events[i].data.u32];
    watched.ready = true;
    if ((events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0) continue;
    if (source == Source::kVmm) {
      hung_up_ = true;
    } else if ((events[i].events & EPOLLIN) == 0) {
      // A pipe, say, that nobody will write to: it would be ready for ever.
      if (source == Source::kEvent || source == Source::kOtherEvent) {
        Unwatch(BorrowedFd(watched.fd));
      }
    }
  }
  return count > 0;
}

}  // namespace holdfast
