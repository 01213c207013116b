#include "sandbox/namespaces_sys.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace holdfast::sandbox {
namespace {

// From <sys/mount.h>, which cannot be included beside <linux/mount.h>.
constexpr unsigned long kMountRecursivePrivate =  // NOLINT(runtime/int)
    0x4000 | 0x40000;                             // MS_REC | MS_PRIVATE
constexpr int kDetach = 2;                        // MNT_DETACH

absl::Status WriteProcFile(pid_t pid, absl::string_view name,
                           absl::string_view content) {
  const std::string path = absl::StrCat("/proc/", pid, "/", name);
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(absl::StrCat("open ", path));
  if (write(fd.get(), content.data(), content.size()) < 0) {
    return ErrnoStatus(absl::StrCat("write '", content, "' to ", path));
  }
  return absl::OkStatus();
}

int Configure(int fs, const char* key, const char* value) {
  return static_cast<int>(
      syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0));
}

// A mount of an empty tmpfs that is attached nowhere.
int EmptyMount() {
  const int fs = static_cast<int>(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC));
  if (fs < 0) return -1;
  int mount = -1;
  if (Configure(fs, "size", "64k") == 0 && Configure(fs, "mode", "0555") == 0 &&
      syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) ==
          0) {
    mount = static_cast<int>(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
                                     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
                                         MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  }
  const int saved = errno;
  close(fs);
  errno = saved;
  return mount;
}

}  // namespace

uint64_t AllNamespaces() {
  return CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET |
         CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
}

absl::Status WriteIdMaps(pid_t pid, IdMap uid, IdMap gid, bool deny_setgroups) {
  if (deny_setgroups) {
    RETURN_IF_ERROR(WriteProcFile(pid, "setgroups", "deny"));
  }
  RETURN_IF_ERROR(WriteProcFile(
      pid, "gid_map", absl::StrCat(gid.inside, " ", gid.outside, " 1")));
  return WriteProcFile(pid, "uid_map",
                       absl::StrCat(uid.inside, " ", uid.outside, " 1"));
}

int EnterEmptyRoot() {
  // No mount or unmount of ours may reach the host.
  if (syscall(SYS_mount, nullptr, "/", nullptr, kMountRecursivePrivate,
              nullptr) != 0) {
    return errno;
  }
  const int root = EmptyMount();
  if (root < 0) return errno;
  // pivot_root(".", ".") stacks the old root over the new one, so that the
  // new one needs no directory for it; the unmount takes it off again.
  const bool entered =
      syscall(SYS_move_mount, root, "", AT_FDCWD, "/",
              MOVE_MOUNT_F_EMPTY_PATH) == 0 &&
      fchdir(root) == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
      syscall(SYS_umount2, ".", kDetach) == 0 && chdir("/") == 0;
  const int error = entered ? 0 : errno;
  close(root);
  return error;
}

}  // namespace holdfast::sandbox
