#include "sandbox/selinux_sys.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace holdfast::sandbox {

bool SelinuxEnabled(const char* mount_point) {
  struct statfs fs;
  return statfs(mount_point, &fs) == 0 &&
         static_cast<unsigned>(fs.f_type) == SELINUX_MAGIC;
}

int SetExecContext(const char* context, const char* attribute) {
  const int fd = open(attribute, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int error = write(fd, context, std::strlen(context)) < 0 ? errno : 0;
  close(fd);
  return error;
}

}  // namespace holdfast::sandbox
