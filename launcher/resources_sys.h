#ifndef HOLDFAST_LAUNCHER_RESOURCES_SYS_H_
#define HOLDFAST_LAUNCHER_RESOURCES_SYS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "launcher/spec.h"

namespace holdfast::launcher {

// Directories under which the launcher may open something for whoever asks. It
// runs as root on behalf of an api that does not, so a path counts only after
// all symbolic links in it were followed, and what is then opened can no more
// be moved elsewhere by a link that somebody puts in its place.
class AllowedDirectories {
 public:
  // `flag` is named in errors: "--allow-resource-dir". Directories that do not
  // exist are an error.
  static absl::StatusOr<AllowedDirectories> Create(
      absl::string_view flag, const std::vector<std::string>& directories);

  // Opens the file at `path`, close-on-exec, with openat2 below the directory
  // that allows it and without following any link. `open_flags`: of open(2).
  // kPermissionDenied: no directory allows it.
  absl::StatusOr<UniqueFd> Open(absl::string_view path, int open_flags) const;

  // The path at which a new socket may be made: its directory, resolved, is
  // allowed, and nothing but a socket stands there.
  absl::StatusOr<std::string> SocketPath(absl::string_view path) const;

 private:
  absl::StatusOr<const std::string*> Allowing(absl::string_view shown,
                                              absl::string_view real) const;

  std::string flag_;
  std::vector<std::string> directories_;  // Real paths, no final slash.
};

// Opens `resource` with its access, checks its kind and takes its lock. The
// lock belongs to the open file description: it lives as long as any duplicate
// of the descriptor, over a restart of the launcher. Errors: kNotFound,
// kPermissionDenied, kFailedPrecondition (another kind of file; empty block
// device; direct where the file system does not allow it), kUnavailable "... in
// use by pid N".
absl::StatusOr<UniqueFd> OpenResource(const AllowedDirectories& allowed,
                                      const ResourceSpec& resource);

// Bytes of a file or block device.
absl::StatusOr<uint64_t> ResourceSize(BorrowedFd fd);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_RESOURCES_SYS_H_
