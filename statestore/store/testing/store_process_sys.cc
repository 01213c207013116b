#include "statestore/store/testing/store_process_sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/handoff.h"
#include "base/pidfd_sys.h"
#include "base/testing/poll.h"
#include "base/unix_socket_sys.h"
#include "statestore/store/message_io_sys.h"

namespace holdfast::store::testing {
namespace {

constexpr int kWaitMs = 10000;

// A harness that cannot set up its scene has nothing to test.
template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "test harness: %s\n",
                 value.status().ToString().c_str());
    std::abort();
  }
  return std::move(value).value();
}

// Puts `from` at number `to` in a child that is about to exec.
void Place(int from, int to) {
  if (from == to) {
    fcntl(from, F_SETFD, 0);
  } else {
    dup2(from, to);
  }
}

// Closes everything above standard error but `kept`.
void CloseAllBut(int a, int b) {
  const unsigned low = std::min(a, b), high = std::max(a, b);
  if (low > 3) syscall(SYS_close_range, 3u, low - 1, 0);
  if (high > low + 1) syscall(SYS_close_range, low + 1, high - 1, 0);
  syscall(SYS_close_range, high + 1, ~0u, 0);
}

// A listener on a filter that allows everything, as the sandbox installs one.
UniqueFd InstallListener() {
  sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  sock_fprog program = {1, &allow};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return UniqueFd(
      static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                               SECCOMP_FILTER_FLAG_NEW_LISTENER, &program)));
}

[[noreturn]] void RunChild(UniqueFd store, UniqueFd test,
                           const FakeChild::Body& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  CloseAllBut(store.get(), test.get());
  {
    const UniqueFd listener = InstallListener();
    const uint8_t byte = 1;
    if (!SendWithFds(test, {&byte, 1}, {listener.get()}).ok()) _exit(1);
  }
  body(std::move(store), std::move(test));
  _exit(0);
}

}  // namespace

StoreProcess::StoreProcess(const std::string& binary,
                           std::vector<std::string> arguments,
                           BorrowedFd filter,
                           const std::function<void()>& before_exec) {
  auto pair = Must(SeqpacketPair());
  arguments.insert(arguments.begin(), {binary, "--launcher-fd=3"});
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Out of the way of the numbers that are given away.
    const int channel = fcntl(pair.second.get(), F_DUPFD_CLOEXEC, 20);
    const int program =
        filter.valid() ? fcntl(filter.get(), F_DUPFD_CLOEXEC, 20) : -1;
    Place(channel, 3);
    if (program >= 0) Place(program, kHandoffFilterFd);
    before_exec();
    execv(binary.c_str(), argv.data());
    _exit(127);
  }
  channel_ = std::move(pair.first);
  NewClient();
}

StoreProcess::~StoreProcess() {
  if (pid_ > 0) Kill();
}

Client& StoreProcess::NewClient() { return client_.emplace(DupChannel()); }

UniqueFd StoreProcess::DupChannel() const {
  return UniqueFd(fcntl(channel_.get(), F_DUPFD_CLOEXEC, 0));
}

size_t StoreProcess::CountDescriptors() const {
  size_t count = 0;
  DIR* dir = opendir(absl::StrCat("/proc/", pid_, "/fd").c_str());
  if (dir == nullptr) return 0;
  while (const dirent* entry = readdir(dir)) {
    if (entry->d_name[0] != '.') ++count;
  }
  closedir(dir);
  return count;
}

bool StoreProcess::AwaitDescriptors(size_t count) const {
  return PollUntil([&] { return CountDescriptors() == count; });
}

bool StoreProcess::AwaitAtMostDescriptors(size_t count) const {
  return PollUntil([&] { return CountDescriptors() <= count; });
}

uint64_t StoreProcess::CpuNs() const {
  uint64_t ns = 0;
  std::ifstream(absl::StrCat("/proc/", pid_, "/schedstat")) >> ns;
  return ns;
}

int StoreProcess::End() {
  client_.reset();
  channel_.Reset();
  int status = 0;
  waitpid(std::exchange(pid_, -1), &status, 0);
  return status;
}

void StoreProcess::Kill() {
  kill(pid_, SIGKILL);
  waitpid(std::exchange(pid_, -1), nullptr, 0);
}

FakeChild::FakeChild(ChildId id, const Body& body) : id_(id) {
  auto store = Must(SeqpacketPair());
  auto test = Must(SeqpacketPair());
  auto control = Must(SeqpacketPair());
  control_ = std::move(control.first);
  control_peer_ = std::move(control.second);
  pid_ = fork();
  if (pid_ == 0) {
    store.first.Reset();
    test.first.Reset();
    RunChild(std::move(store.second), std::move(test.second), body);
  }
  pidfd_ = Must(OpenPidfd(pid_));
  store_ = std::move(store.first);
  test_ = std::move(test.first);
  test.second.Reset();
  uint8_t byte;
  ReceivedFds fds;
  Must(ReceiveWithFds(test_, {&byte, 1}, fds));
  listener_ = std::move(fds.fds[0]);
}

FakeChild::~FakeChild() {
  Kill();
  Reap();
}

absl::Status FakeChild::AddTo(Client& client, InstanceId instance,
                              uint64_t flags, uint64_t epoch) {
  Client::NewChild child;
  child.id = id_;
  child.pid = static_cast<uint32_t>(pid_);
  child.flags = flags;
  child.epoch = epoch;
  child.channel = store_;
  child.pidfd = pidfd_;
  child.control = control_;
  child.seccomp_listener = listener_;
  const absl::Status status = client.AddChild(instance, child);
  store_.Reset();
  return status;
}

UniqueFd FakeChild::NewChannel() {
  auto pair = Must(SeqpacketPair());
  store_ = std::move(pair.first);
  return std::move(pair.second);
}

void FakeChild::Kill() {
  if (!reaped_) kill(pid_, SIGKILL);
}

int FakeChild::Reap() {
  int status = 0;
  if (!std::exchange(reaped_, true)) waitpid(pid_, &status, 0);
  return status;
}

UniqueFd MakeToken(uint64_t value) {
  UniqueFd fd(memfd_create("token", MFD_CLOEXEC));
  if (pwrite(fd.get(), &value, sizeof(value), 0) != sizeof(value)) fd.Reset();
  return fd;
}

uint64_t ReadToken(BorrowedFd fd) {
  uint64_t value = 0;
  if (pread(fd.get(), &value, sizeof(value), 0) != sizeof(value)) return 0;
  return value;
}

std::optional<Message> WaitForEvent(Client& client, Type type) {
  const uint64_t deadline = MonotonicNs() + uint64_t{kWaitMs} * 1000000;
  while (MonotonicNs() < deadline) {
    const absl::Status status = client.ReadEvents();
    while (std::optional<Message> event = client.NextEvent()) {
      if (event->type == type) return event;
    }
    if (!status.ok()) break;
    WaitFor(client.fd(), Readiness::kReadable, 1000);
  }
  return std::nullopt;
}

}  // namespace holdfast::store::testing
