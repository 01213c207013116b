#ifndef HOLDFAST_BASE_UNIQUE_FD_H_
#define HOLDFAST_BASE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace holdfast {

// Owns one file descriptor and closes it. Movable, not copyable, not
// thread-safe. An empty UniqueFd holds -1. Public interfaces pass descriptors
// only in this type (ownership) or as BorrowedFd (no ownership).
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(other.Release());
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

  // Gives up ownership.
  int Release() { return std::exchange(fd_, -1); }

  void Reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

// A descriptor that somebody else owns and keeps open for as long as the
// callee uses it.
class BorrowedFd {
 public:
  constexpr explicit BorrowedFd(int fd) : fd_(fd) {}
  BorrowedFd(const UniqueFd& fd) : fd_(fd.get()) {}  // NOLINT: meant to convert
  constexpr int get() const { return fd_; }
  constexpr bool valid() const { return fd_ >= 0; }

 private:
  int fd_;
};

}  // namespace holdfast

#endif  // HOLDFAST_BASE_UNIQUE_FD_H_
