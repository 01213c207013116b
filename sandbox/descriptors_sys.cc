#include "sandbox/descriptors_sys.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace holdfast::sandbox {
namespace {

bool MoveAbove(int& fd, int end) {
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, end);
  if (moved < 0) return false;
  fd = moved;
  return true;
}

}  // namespace

int PlaceDescriptors(FdMove* moves, size_t count, int* const* internal,
                     size_t internal_count, int end) {
  // Sources first leave the range of the numbers, so that no dup2 below
  // overwrites one that is still needed.
  for (size_t i = 0; i < count; ++i) {
    if (!MoveAbove(moves[i].from, end)) return errno;
  }
  for (size_t i = 0; i < internal_count; ++i) {
    if (!MoveAbove(*internal[i], end)) return errno;
  }
  if (syscall(SYS_close_range, 0, ~0U, CLOSE_RANGE_CLOEXEC) != 0) return errno;
  for (size_t i = 0; i < count; ++i) {
    if (dup2(moves[i].from, moves[i].to) < 0) return errno;
  }
  return 0;
}

}  // namespace holdfast::sandbox
