#include "launcher/resources_sys.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/direct_io_sys.h"
#include "base/errno_status.h"
#include "base/image_lock_sys.h"
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
  if (resource.direct) {
    RETURN_IF_ERROR(PassPageCache(fd, absl::StrCat("direct: ", resource.path),
                                  "leave the field out"));
  }
  // A write lock needs a writable descriptor: an exclusive lock on a read-only
  // resource is a shared one that writers respect.
  RETURN_IF_ERROR(
      LockImage(fd, resource.path,
                access == O_RDWR ? ImageUse::kReadAndWrite : ImageUse::kRead));
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
