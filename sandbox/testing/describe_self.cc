// Prints what it is born with, one "key value" line each, to descriptor 1, so
// that a test can compare it with what the jail promises. Static; reads no
// file, because inside the jail there is none.

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

std::string out;

void Line(const std::string& key, const std::string& value) {
  out += key + " " + value + "\n";
}

void Line(const std::string& key, unsigned long value) {  // NOLINT
  Line(key, std::to_string(value));
}

void Ids() {
  Line("pid", getpid());
  Line("sid", getsid(0));
  Line("uid", getuid());
  Line("euid", geteuid());
  Line("gid", getgid());
  Line("groups", getgroups(0, nullptr));
}

void Privileges() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct caps[2] = {};
  syscall(SYS_capget, &header, caps);
  Line("cap_effective", caps[0].effective | caps[1].effective);
  Line("cap_permitted", caps[0].permitted | caps[1].permitted);
  Line("cap_inheritable", caps[0].inheritable | caps[1].inheritable);
  int bounding = 0;
  int ambient = 0;
  for (unsigned long cap = 0; cap < 64; ++cap) {  // NOLINT(runtime/int)
    if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1) ++bounding;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1) ++ambient;
  }
  Line("cap_bounding", bounding);
  Line("cap_ambient", ambient);
  Line("securebits", prctl(PR_GET_SECUREBITS));
  Line("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
  Line("seccomp", prctl(PR_GET_SECCOMP));
  Line("mdwe", prctl(66 /* PR_GET_MDWE */, 0, 0, 0, 0));
}

void Limit(const char* key, __rlimit_resource resource) {
  rlimit limit = {};
  getrlimit(resource, &limit);
  Line(key,
       std::to_string(limit.rlim_cur) + "/" + std::to_string(limit.rlim_max));
}

void Limits() {
  Limit("limit_core", RLIMIT_CORE);
  Limit("limit_nofile", RLIMIT_NOFILE);
  Limit("limit_nproc", RLIMIT_NPROC);
  Limit("limit_memlock", RLIMIT_MEMLOCK);
}

void Descriptors() {
  std::string fds;
  for (int fd = 0; fd < 70000; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) fds += std::to_string(fd) + ",";
  }
  Line("fds", fds);
}

void Environment() {
  std::string all;
  for (char** e = environ; *e != nullptr; ++e) all += std::string(*e) + ",";
  Line("env", all);
}

void Root() {
  std::string entries;
  if (DIR* root = opendir("/")) {
    while (const dirent* entry = readdir(root)) {
      if (entry->d_name[0] != '.') entries += std::string(entry->d_name) + ",";
    }
    closedir(root);
    Line("root_entries", entries);
  } else {
    Line("root_entries", std::strerror(errno));
  }
  struct statvfs fs = {};
  statvfs("/", &fs);
  Line("root_flags",
       fs.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC));
  struct stat up;
  struct stat here;
  stat("/..", &up);
  stat("/", &here);
  Line("root_is_top", up.st_ino == here.st_ino && up.st_dev == here.st_dev);
  utsname uts = {};
  uname(&uts);
  Line("host", uts.nodename);
}

void Signals() {
  sigset_t mask;
  sigprocmask(SIG_SETMASK, nullptr, &mask);
  int blocked = 0;
  int ignored = 0;
  for (int signal = 1; signal < 32; ++signal) {
    struct sigaction action = {};
    sigaction(signal, nullptr, &action);
    if (action.sa_handler == SIG_IGN) ++ignored;
    if (sigismember(&mask, signal) == 1) ++blocked;
  }
  Line("signals_ignored", ignored);
  Line("signals_blocked", blocked);
}

}  // namespace

int main(int argc, char** argv) {
  Descriptors();  // Before anything else could open one.
  Line("argv0", argc > 0 ? argv[0] : "");
  Ids();
  Privileges();
  Limits();
  Environment();
  Root();
  Signals();
  return write(1, out.data(), out.size()) == static_cast<ssize_t>(out.size())
             ? 0
             : 1;
}
