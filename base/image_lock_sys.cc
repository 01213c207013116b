#include "base/image_lock_sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace holdfast {
namespace {

bool SameFile(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// Whether process `pid` has `file` open with a lock on it. The kernel does not
// say who owns an open file description lock, but /proc shows whose
// descriptors carry one.
bool HoldsLock(const std::string& pid, const struct stat& file) {
  const std::string fds = absl::StrCat("/proc/", pid, "/fd");
  DIR* dir = opendir(fds.c_str());
  if (dir == nullptr) return false;
  bool found = false;
  while (const dirent* entry = found ? nullptr : readdir(dir)) {
    struct stat other = {};
    if (stat(absl::StrCat(fds, "/", entry->d_name).c_str(), &other) != 0 ||
        !SameFile(file, other)) {
      continue;
    }
    std::ifstream info(absl::StrCat("/proc/", pid, "/fdinfo/", entry->d_name));
    for (std::string line; std::getline(info, line);) {
      if (absl::StartsWith(line, "lock:")) found = true;
    }
  }
  closedir(dir);
  return found;
}

std::vector<std::string> LockHolders(BorrowedFd fd) {
  constexpr size_t kMost = 4;  // For a message; the rest adds nothing.
  std::vector<std::string> holders;
  struct stat file = {};
  DIR* dir = opendir("/proc");
  if (dir == nullptr) return holders;
  fstat(fd.get(), &file);
  const std::string self = std::to_string(getpid());
  while (const dirent* entry = readdir(dir)) {
    const absl::string_view name = entry->d_name;
    if (name[0] < '0' || name[0] > '9' || name == self) continue;
    if (holders.size() < kMost && HoldsLock(entry->d_name, file)) {
      holders.emplace_back(name);
    }
  }
  closedir(dir);
  return holders;
}

absl::Status InUse(BorrowedFd fd, absl::string_view shown, pid_t owner) {
  std::vector<std::string> holders;
  // A classic lock names its owner; an open file description lock says -1.
  if (owner > 0) {
    holders.push_back(std::to_string(owner));
  } else {
    holders = LockHolders(fd);
  }
  return absl::UnavailableError(absl::StrCat(
      shown, " is in use by ",
      holders.empty() ? std::string("another process")
                      : absl::StrCat("pid ", absl::StrJoin(holders, ", pid ")),
      ": stop it, or make all its users read-only"));
}

// Bytes of an image that QEMU locks (block/file-posix.c): for reading at
// kUses + n what it does with the image, at kForbids + n what it lets nobody
// else do meanwhile.
constexpr off_t kUses = 100, kForbids = 200, kQemuEnd = 300;
constexpr off_t kRead = 0, kWrite = 1, kResize = 3;

struct Range {
  off_t start;
  off_t size;  // 0: to the end, wherever that will be.
};

// Who reads holds everything but what would say that it writes, so that all of
// these stand in each other's way exactly when they must: readers of ours,
// writers of ours, who hold everything, and QEMU as either.
constexpr Range kReaderLocks[] = {{0, kUses + kRead + 1},
                                  {kForbids + kWrite, 1},
                                  {kForbids + kResize, 1},
                                  {kQemuEnd, 0}};
constexpr Range kWriters[] = {
    {kUses + kWrite, 1}, {kUses + kResize, 1}, {kForbids + kRead, 1}};

struct flock LockOf(short type, Range range) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = range.start;
  lock.l_len = range.size;
  return lock;
}

// Of a lock that would stand in the way; -1: one without an owner.
std::optional<pid_t> OwnerInTheWay(BorrowedFd fd, short type, Range range) {
  struct flock lock = LockOf(type, range);
  if (fcntl(fd.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) {
    return std::nullopt;
  }
  return lock.l_pid;
}

absl::Status TakeRange(BorrowedFd fd, absl::string_view shown, short type,
                       Range range) {
  const struct flock lock = LockOf(type, range);
  if (fcntl(fd.get(), F_OFD_SETLK, &lock) == 0) return absl::OkStatus();
  if (errno != EAGAIN && errno != EACCES) {
    return ErrnoStatus(absl::StrCat("lock ", shown));
  }
  return InUse(fd, shown, OwnerInTheWay(fd, type, range).value_or(0));
}

}  // namespace

absl::Status LockImage(BorrowedFd image, absl::string_view shown,
                       ImageUse use) {
  if (use == ImageUse::kReadAndWrite) {
    return TakeRange(image, shown, F_WRLCK, {0, 0});
  }
  // First one's own locks, then a look at the others': of two that come at the
  // same time at least one sees the other.
  for (const Range& range : kReaderLocks) {
    RETURN_IF_ERROR(TakeRange(image, shown, F_RDLCK, range));
  }
  for (const Range& range : kWriters) {
    const std::optional<pid_t> owner = OwnerInTheWay(image, F_WRLCK, range);
    if (owner.has_value()) return InUse(image, shown, *owner);
  }
  return absl::OkStatus();
}

}  // namespace holdfast
