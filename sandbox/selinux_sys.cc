#include "sandbox/selinux_sys.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace holdfast::sandbox {

bool SelinuxEnabled() {
  struct statfs fs;
  return statfs("/sys/fs/selinux", &fs) == 0 &&
         static_cast<unsigned>(fs.f_type) == SELINUX_MAGIC;
}

int SetExecContext(const char* context) {
  const int fd = open("/proc/thread-self/attr/exec", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int error = write(fd, context, std::strlen(context)) < 0 ? errno : 0;
  close(fd);
  return error;
}

}  // namespace holdfast::sandbox
