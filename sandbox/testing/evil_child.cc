// A device that was taken over: makes one attempt, named on its command line,
// and says on descriptor 1 how it went. Static, like every device.
//
//   evil_child <attempt> <stage> [target]
//
// <stage> is "startup" (attempt under what the jail gave), "steady" (after
// tightening with the filter at kHandoffFilterFd) or "thread" (the same, from a
// thread that was there before). <target> is a path, a pid or a port of the
// test. Every attempt is harmless when it succeeds: it undoes itself or only
// touches what the test owns.

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/futex.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

#include "base/handoff.h"
#include "sandbox/tighten_sys.h"

namespace {

using holdfast::BorrowedFd;

constexpr int kScratchFd = 8;  // A memfd of one page, when the test gives one.

const char* target = "";

int TargetNumber() { return std::atoi(target); }

// Each attempt returns true when it got what it should not get.

bool OpenHostFile() { return open(target, O_RDONLY) >= 0; }

bool CreateHostFile() {
  const std::string name = std::string(target) + ".new";
  if (open(name.c_str(), O_CREAT | O_WRONLY, 0600) < 0) return false;
  unlink(name.c_str());
  return true;
}

bool OpenProc() { return open("/proc/self/status", O_RDONLY) >= 0; }

bool ConnectTcp() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(TargetNumber()));
  return fd >= 0 && connect(fd, reinterpret_cast<sockaddr*>(&address),
                            sizeof(address)) == 0;
}

bool ConnectAbstract() {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path + 1, target, sizeof(address.sun_path) - 2);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 +
                                           std::strlen(target));
  return fd >= 0 &&
         connect(fd, reinterpret_cast<sockaddr*>(&address), size) == 0;
}

bool Fork() {
  const pid_t pid = fork();
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid(pid, nullptr, 0);
  return pid > 0;
}

bool CloneThread() {
  std::thread([] {}).join();
  return true;
}

bool Execve() {
  // Arrives in main again, which exits at once for this name.
  char name[] = "evil_child";
  char attempt[] = "report_breach";
  char stage[] = "startup";
  char* const arguments[] = {name, attempt, stage, nullptr};
  char* const environment[] = {nullptr};
  execve("/proc/self/exe", arguments, environment);
  return false;
}

bool Ptrace() {
  if (ptrace(PTRACE_SEIZE, TargetNumber(), nullptr, nullptr) != 0) return false;
  ptrace(PTRACE_INTERRUPT, TargetNumber(), nullptr, nullptr);
  waitpid(TargetNumber(), nullptr, __WALL);
  ptrace(PTRACE_DETACH, TargetNumber(), nullptr, nullptr);
  return true;
}

bool KillOther() { return kill(TargetNumber(), 0) == 0; }

bool PidfdOpen() { return syscall(SYS_pidfd_open, TargetNumber(), 0) >= 0; }

bool IoUringSetup() {
  char parameters[256] = {};
  return syscall(SYS_io_uring_setup, 1, parameters) >= 0;
}

bool Bpf() {
  bpf_attr attribute = {};
  attribute.map_type = BPF_MAP_TYPE_ARRAY;
  attribute.key_size = 4;
  attribute.value_size = 4;
  attribute.max_entries = 1;
  return syscall(SYS_bpf, BPF_MAP_CREATE, &attribute, sizeof(attribute)) >= 0;
}

bool Userfaultfd() {
  constexpr int kUserModeOnly = 1;
  return syscall(SYS_userfaultfd, kUserModeOnly) >= 0;
}

bool AddKey() {
  constexpr int kProcessKeyring = -2;
  return syscall(SYS_add_key, "user", "holdfast-test", "x", 1,
                 kProcessKeyring) >= 0;
}

bool Mount() {
  if (mount("none", target, "tmpfs", 0, nullptr) != 0) return false;
  umount2(target, MNT_DETACH);
  return true;
}

bool Chroot() { return chroot("/") == 0; }

bool UnshareUser() { return unshare(CLONE_NEWUSER) == 0; }

bool SetuidRoot() { return syscall(SYS_setresuid, 0, 0, 0) == 0; }

bool SetHostName() {
  char name[65] = {};
  return gethostname(name, sizeof(name) - 1) == 0 &&
         sethostname(name, std::strlen(name)) == 0;
}

bool RaisePriority() { return setpriority(PRIO_PROCESS, 0, -1) == 0; }

bool I386Getpid() {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
  return result > 0;
}

bool X32Getpid() {
  return syscall(0x40000000 | SYS_getpid) > 0;  // NOLINT: the x32 number
}

void* Page(int protection) {
  void* const page =
      mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return page == MAP_FAILED ? nullptr : page;
}

bool MprotectExec() {
  void* const page = Page(PROT_READ | PROT_WRITE);
  return page != nullptr && mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0;
}

bool MmapWriteExec() {
  return Page(PROT_READ | PROT_WRITE | PROT_EXEC) != nullptr;
}

bool MmapSharedExec() {
  return mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, kScratchFd,
              0) != MAP_FAILED;
}

bool MmapAnonymous() { return Page(PROT_READ | PROT_WRITE) != nullptr; }

bool Ioctl() {
  int waiting = 0;
  return syscall(SYS_ioctl, 1, 0x541b /* FIONREAD */, &waiting) == 0;
}

bool MemfdCreate() { return syscall(SYS_memfd_create, "evil", 0) >= 0; }

bool BecomeDumpable() { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0; }

bool OwnFilter() {
  // SECCOMP_GET_ACTION_AVAIL: asks, changes nothing.
  unsigned action = 0;
  return syscall(SYS_seccomp, 2, 0, &action) == 0;
}

bool Abort() { std::abort(); }

bool Segfault() {
  *static_cast<volatile int*>(nullptr) = 1;
  return false;
}

bool WaitForSignal() {
  for (;;) poll(nullptr, 0, -1);
}

// A descendant that stays behind, holding what the device holds, and says so.
bool LeaveDescendant() {
  if (fork() == 0) {
    // Outlives its parent unless somebody ends it; never for ever.
    const std::string pid = std::to_string(getpid()) + "\n";
    if (write(1, pid.data(), pid.size()) < 0) _exit(1);
    alarm(60);
  }
  for (;;) pause();
}

// Not evil: what virtio-blk does all day. False when it cannot.
bool SteadyWork() {
  char byte = 'x';
  const iovec vector = {&byte, 1};
  mmsghdr message = {};
  std::atomic<uint32_t> word{0};
  const timespec now = {};
  int offset = 0;
  socklen_t size = sizeof(offset);
  void* const page =
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, kScratchFd, 0);
  if (page == MAP_FAILED || munmap(page, 4096) != 0) return false;
  if (pwritev2(kScratchFd, &vector, 1, 0, 0) != 1) return false;
  if (preadv2(kScratchFd, &vector, 1, 0, 0) != 1) return false;
  if (fdatasync(kScratchFd) != 0) return false;
  if (fallocate(kScratchFd, FALLOC_FL_KEEP_SIZE, 0, 4096) != 0) return false;
  if (lseek(kScratchFd, 0, SEEK_END) != 4096) return false;
  if (ppoll(nullptr, 0, &now, nullptr) != 0) return false;
  syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  // No socket here: that the call is answered at all is what counts.
  const bool answered =
      recvmmsg(kScratchFd, &message, 1, 0, nullptr) < 0 &&
      sendmmsg(kScratchFd, &message, 1, 0) < 0 &&
      getsockopt(kScratchFd, SOL_SOCKET, SO_PEEK_OFF, &offset, &size) < 0 &&
      setsockopt(kScratchFd, SOL_SOCKET, SO_PEEK_OFF, &offset, size) < 0;
  return answered && close(kScratchFd) == 0;
}

// A steady call with an argument that is none of the device's business.
bool SetOtherOption() {
  int size = 1 << 20;
  return setsockopt(kScratchFd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) ==
             0 ||
         errno == ENOTSOCK;
}

bool ReportBreach() { return true; }

struct Attempt {
  const char* name;
  bool (*run)();
};

constexpr Attempt kAttempts[] = {
    {"open_host_file", OpenHostFile},
    {"create_host_file", CreateHostFile},
    {"open_proc", OpenProc},
    {"connect_tcp", ConnectTcp},
    {"connect_abstract", ConnectAbstract},
    {"fork", Fork},
    {"clone_thread", CloneThread},
    {"execve", Execve},
    {"ptrace", Ptrace},
    {"kill_other", KillOther},
    {"pidfd_open", PidfdOpen},
    {"io_uring_setup", IoUringSetup},
    {"bpf", Bpf},
    {"userfaultfd", Userfaultfd},
    {"add_key", AddKey},
    {"mount", Mount},
    {"chroot", Chroot},
    {"unshare_user", UnshareUser},
    {"setuid_root", SetuidRoot},
    {"sethostname", SetHostName},
    {"setpriority", RaisePriority},
    {"i386_getpid", I386Getpid},
    {"x32_getpid", X32Getpid},
    {"mprotect_exec", MprotectExec},
    {"mmap_write_exec", MmapWriteExec},
    {"mmap_shared_exec", MmapSharedExec},
    {"mmap_anonymous", MmapAnonymous},
    {"ioctl", Ioctl},
    {"memfd_create", MemfdCreate},
    {"become_dumpable", BecomeDumpable},
    {"seccomp", OwnFilter},
    {"abort", Abort},
    {"segfault", Segfault},
    {"wait_for_signal", WaitForSignal},
    {"leave_descendant", LeaveDescendant},
    {"steady_work", SteadyWork},
    {"setsockopt_other", SetOtherOption},
    {"report_breach", ReportBreach},
};

const Attempt* Find(const char* name) {
  for (const Attempt& attempt : kAttempts) {
    if (std::strcmp(attempt.name, name) == 0) return &attempt;
  }
  return nullptr;
}

void Say(const char* text) {
  if (write(1, text, std::strlen(text)) < 0) _exit(3);
}

void Run(const Attempt& attempt) {
  Say("trying\n");
  Say(attempt.run() ? "breached\n" : "refused\n");
}

// Both threads exist before the filter does. The mutex, because waiting for it
// is a call that the filter allows.
int RunInThread(const Attempt& attempt) {
  std::mutex gate;
  std::atomic<bool> started{false};
  gate.lock();
  std::thread other([&] {
    started = true;
    gate.lock();
    Run(attempt);
    _exit(0);
  });
  while (!started) std::this_thread::yield();
  if (!holdfast::sandbox::Tighten(BorrowedFd(holdfast::kHandoffFilterFd))
           .ok()) {
    _exit(2);
  }
  gate.unlock();
  other.join();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const Attempt* const attempt = argc < 3 ? nullptr : Find(argv[1]);
  if (attempt == nullptr) return 2;
  if (argc > 3) target = argv[3];
  const std::string stage = argv[2];
  if (stage == "thread") return RunInThread(*attempt);
  if (stage == "steady" &&
      !holdfast::sandbox::Tighten(BorrowedFd(holdfast::kHandoffFilterFd))
           .ok()) {
    return 2;
  }
  Run(*attempt);
  _exit(0);
}
