#include "launcher/resources_sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace holdfast::launcher {
namespace {

absl::StatusOr<std::string> RealPath(absl::string_view path) {
  char resolved[PATH_MAX];
  if (realpath(std::string(path).c_str(), resolved) == nullptr) {
    return ErrnoStatus(std::string(path));
  }
  return std::string(resolved);
}

// Whether `real` lies below `directory`; both resolved.
bool IsBelow(absl::string_view real, absl::string_view directory) {
  if (directory.empty()) return absl::StartsWith(real, "/");
  return absl::StartsWith(real, directory) && real.size() > directory.size() &&
         real[directory.size()] == '/';
}

absl::StatusOr<UniqueFd> OpenBelow(const std::string& directory,
                                   const std::string& below, int flags) {
  UniqueFd base(open(directory.empty() ? "/" : directory.c_str(),
                     O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!base.valid()) return ErrnoStatus(directory);
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  UniqueFd fd(static_cast<int>(
      syscall(SYS_openat2, base.get(), below.c_str(), &how, sizeof(how))));
  if (!fd.valid()) return ErrnoStatus(absl::StrCat(directory, "/", below));
  return fd;
}

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

absl::Status InUse(BorrowedFd fd, const ResourceSpec& resource, pid_t owner) {
  std::vector<std::string> holders;
  // A classic lock names its owner; an open file description lock says -1.
  if (owner > 0) {
    holders.push_back(std::to_string(owner));
  } else {
    holders = LockHolders(fd);
  }
  return absl::UnavailableError(absl::StrCat(
      resource.path, " is in use by ",
      holders.empty() ? std::string("another process")
                      : absl::StrCat("pid ", absl::StrJoin(holders, ", pid ")),
      ": stop it, or make both users read-only with a shared lock"));
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

absl::Status TakeRange(BorrowedFd fd, const ResourceSpec& resource, short type,
                       Range range) {
  const struct flock lock = LockOf(type, range);
  if (fcntl(fd.get(), F_OFD_SETLK, &lock) == 0) return absl::OkStatus();
  if (errno != EAGAIN && errno != EACCES) {
    return ErrnoStatus(absl::StrCat("lock ", resource.path));
  }
  return InUse(fd, resource, OwnerInTheWay(fd, type, range).value_or(0));
}

absl::Status TakeLock(BorrowedFd fd, const ResourceSpec& resource) {
  if (resource.access == ResourceAccess::kReadWrite) {
    return TakeRange(fd, resource, F_WRLCK, {0, 0});
  }
  // A write lock needs a writable descriptor: an exclusive lock on a read-only
  // resource is a shared one that writers respect.
  for (const Range& range : kReaderLocks) {
    RETURN_IF_ERROR(TakeRange(fd, resource, F_RDLCK, range));
  }
  for (const Range& range : kWriters) {
    const std::optional<pid_t> owner = OwnerInTheWay(fd, F_WRLCK, range);
    if (owner.has_value()) return InUse(fd, resource, *owner);
  }
  return absl::OkStatus();
}

absl::Status CheckKind(BorrowedFd fd, const ResourceSpec& resource) {
  struct stat file = {};
  if (fstat(fd.get(), &file) != 0) return ErrnoStatus(resource.path);
  const bool block = resource.kind == ResourceKind::kBlockDevice;
  if (block ? S_ISBLK(file.st_mode) : S_ISREG(file.st_mode)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      block
          ? absl::StrCat(resource.path, " is not a block device: use kind file")
          : absl::StrCat(resource.path,
                         " is not a regular file: use the "
                         "kind that it is"));
}

}  // namespace

absl::StatusOr<AllowedDirectories> AllowedDirectories::Create(
    absl::string_view flag, const std::vector<std::string>& directories) {
  AllowedDirectories allowed;
  allowed.flag_ = std::string(flag);
  for (const std::string& directory : directories) {
    absl::StatusOr<std::string> real = RealPath(directory);
    if (!real.ok()) {
      return absl::Status(real.status().code(),
                          absl::StrCat(flag, "=", real.status().message()));
    }
    allowed.directories_.push_back(*real == "/" ? "" : *std::move(real));
  }
  return allowed;
}

absl::StatusOr<const std::string*> AllowedDirectories::Allowing(
    absl::string_view shown, absl::string_view real) const {
  for (const std::string& directory : directories_) {
    if (IsBelow(real, directory)) return &directory;
  }
  return absl::PermissionDeniedError(absl::StrCat(
      shown, " is outside of every ", flag_,
      " of holdfastd: move it, or start holdfastd with ", flag_, "=DIRECTORY"));
}

absl::StatusOr<UniqueFd> AllowedDirectories::Open(absl::string_view path,
                                                  int open_flags) const {
  ASSIGN_OR_RETURN(const std::string real, RealPath(path));
  ASSIGN_OR_RETURN(const std::string* directory, Allowing(path, real));
  return OpenBelow(*directory, real.substr(directory->size() + 1), open_flags);
}

absl::StatusOr<std::string> AllowedDirectories::SocketPath(
    absl::string_view path) const {
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos || slash + 1 == path.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " does not name a file: give a whole path"));
  }
  ASSIGN_OR_RETURN(const std::string parent,
                   RealPath(slash == 0 ? "/" : path.substr(0, slash)));
  const std::string real =
      absl::StrCat(parent == "/" ? "" : parent, path.substr(slash));
  ASSIGN_OR_RETURN(const std::string* unused, Allowing(path, real));
  (void)unused;
  struct stat file = {};
  if (lstat(real.c_str(), &file) == 0 && !S_ISSOCK(file.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(
        path, " exists and is not a socket: remove it or use another path"));
  }
  if (real.size() > kMaxSocketPath) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is longer than ", kMaxSocketPath,
                     " bytes once its links are resolved: use a shorter one"));
  }
  return real;
}

absl::StatusOr<UniqueFd> OpenResource(const AllowedDirectories& allowed,
                                      const ResourceSpec& resource) {
  const int access =
      resource.access == ResourceAccess::kReadWrite ? O_RDWR : O_RDONLY;
  // O_NONBLOCK: a FIFO must not hang the launcher before its kind is checked.
  ASSIGN_OR_RETURN(UniqueFd fd,
                   allowed.Open(resource.path, access | O_NONBLOCK | O_NOCTTY));
  RETURN_IF_ERROR(CheckKind(fd, resource));
  if (fcntl(fd.get(), F_SETFL, 0) != 0) return ErrnoStatus("fcntl F_SETFL");
  RETURN_IF_ERROR(TakeLock(fd, resource));
  ASSIGN_OR_RETURN(const uint64_t size, ResourceSize(fd));
  if (size == 0 && resource.kind == ResourceKind::kBlockDevice) {
    return absl::FailedPreconditionError(
        absl::StrCat(resource.path, " has no size: is a medium in it?"));
  }
  return fd;
}

absl::StatusOr<uint64_t> ResourceSize(BorrowedFd fd) {
  struct stat file = {};
  if (fstat(fd.get(), &file) != 0) return ErrnoStatus("fstat");
  if (!S_ISBLK(file.st_mode)) return static_cast<uint64_t>(file.st_size);
  uint64_t size = 0;
  if (ioctl(fd.get(), BLKGETSIZE64, &size) != 0) {
    return ErrnoStatus("ioctl BLKGETSIZE64");
  }
  return size;
}

}  // namespace holdfast::launcher
