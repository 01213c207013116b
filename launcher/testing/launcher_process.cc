#include "launcher/testing/launcher_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/match.h"
#include "base/pidfd_sys.h"
#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "launcher/process_sys.h"

namespace holdfast::launcher {
namespace {

// Far beyond what any answer takes; a test that hangs says where.
constexpr absl::Duration kPatience = absl::Seconds(60);

}  // namespace

std::string Runfile(const std::string& path) {
  // The real file: its directory is what --allow-binary-dir must name.
  return std::filesystem::canonical(path).string();
}

LauncherProcess::LauncherProcess(std::vector<std::string> more_args,
                                 std::function<void()> in_child)
    : in_child_(std::move(in_child)) {
  // The store and the children are other users.
  chmod(dir_.path().c_str(), 0755);
  const std::string daemon = Runfile("launcher/holdfastd");
  const std::string device = Runfile("launcher/testing/fake_device");
  args_ = {daemon,
           "--run-dir=" + dir_.path(),
           "--store=" + Runfile("statestore/store/holdfast-store"),
           "--store-policy=" + Runfile("statestore/store/store.policy"),
           "--allow-binary-dir=" +
               std::filesystem::path(device).parent_path().string(),
           "--allow-resource-dir=" + dir_.path()};
  args_.insert(args_.end(), more_args.begin(), more_args.end());
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  StartAgain();
}

void LauncherProcess::StartAgain() {
  client_.reset();
  std::vector<char*> argv;
  for (std::string& arg : args_) argv.push_back(arg.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ != 0) return;
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  in_child_();
  execv(argv[0], argv.data());
  _exit(127);
}

LauncherProcess::~LauncherProcess() { Stop(); }

int LauncherProcess::Stop() {
  if (pid_ <= 0) return 0;
  client_.reset();
  const absl::StatusOr<UniqueFd> pidfd = OpenPidfd(pid_);
  if (pidfd.ok()) {
    SendSignal(*pidfd, SIGTERM).IgnoreError();
    pollfd ended = {pidfd->get(), POLLIN, 0};
    if (poll(&ended, 1, 20000) == 0) {
      std::vector<pid_t> all = Processes();
      for (pid_t pid : all) kill(pid, SIGKILL);
    }
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  ReapOrphans();
  return status;
}

void LauncherProcess::KillWhole() {
  const absl::StatusOr<LaunchEvent> core = AwaitEvent("core-started");
  // Stopped first: the core would take the parent's place.
  if (core.ok()) kill(core->pid, SIGSTOP);
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  if (core.ok()) {
    kill(core->pid, SIGKILL);
    waitpid(core->pid, nullptr, 0);
  }
  pid_ = -1;
  client_.reset();
}

int LauncherProcess::Wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return status;
}

void LauncherProcess::Adopt(pid_t pid) {
  waitpid(pid_, nullptr, 0);
  pid_ = pid;
}

void LauncherProcess::ReapOrphans() const {
  for (pid_t child : ChildrenOf(getpid())) {
    if (child != pid_) waitpid(child, nullptr, WNOHANG);
  }
}

LaunchSpec LauncherProcess::Spec(const std::string& name,
                                 std::vector<std::string> args) const {
  LaunchSpec spec;
  spec.name = name;
  spec.binary = Runfile("launcher/testing/fake_device");
  spec.args = std::move(args);
  spec.socket_path = File(name + ".sock");
  spec.segment_bytes = 4096;
  spec.restart.budget = 0;
  spec.restart.backoff_base = absl::ZeroDuration();
  return spec;
}

absl::Status LauncherProcess::Ask(
    const std::function<absl::Status(CoreClient&)>& question, int tries) {
  absl::Status status = absl::UnavailableError("never asked");
  const Uptime give_up = Now() + kPatience;
  for (int i = 0; i < tries && Now() < give_up; ++i) {
    ReapOrphans();
    if (!client_.has_value()) {
      absl::StatusOr<CoreClient> client =
          CoreClient::Connect(File("core.sock"));
      if (client.ok()) client_.emplace(*std::move(client));
      if (!client.ok()) status = client.status();
    }
    if (client_.has_value()) {
      status = question(*client_);
      if (status.ok()) return status;
      client_.reset();
    }
    usleep(10000);
  }
  return status;
}

absl::Status LauncherProcess::Run(const LaunchSpec& spec) {
  return Ask([&spec](CoreClient& core) { return core.Run(spec); });
}

absl::Status LauncherProcess::RunOnce(const LaunchSpec& spec) {
  absl::Status answer;
  const absl::Status asked = Ask([&](CoreClient& core) {
    answer = core.Run(spec);
    // The connection's own errors are worth another try.
    const bool again = absl::IsAborted(answer) ||
                       (absl::IsUnavailable(answer) &&
                        absl::StrContains(answer.message(), "core"));
    return again ? answer : absl::OkStatus();
  });
  return asked.ok() ? answer : asked;
}

absl::StatusOr<InstanceStatus> LauncherProcess::Await(
    const std::string& instance,
    const std::function<bool(const InstanceStatus&)>& wanted) {
  InstanceStatus last;
  const absl::Status status = Ask([&](CoreClient& core) -> absl::Status {
    ASSIGN_OR_RETURN(last, core.Status(instance));
    if (wanted(last)) return absl::OkStatus();
    return absl::DeadlineExceededError("state is " + last.state);
  });
  RETURN_IF_ERROR(status);
  return last;
}

absl::StatusOr<InstanceStatus> LauncherProcess::AwaitWhole(
    const std::string& instance) {
  return Await(instance, [](const InstanceStatus& s) {
    return s.state == "RUNNING" && s.standby_ready;
  });
}

absl::StatusOr<FakeSegment> LauncherProcess::Segment(
    const std::string& instance) {
  FakeSegment copy = {};
  RETURN_IF_ERROR(Ask([&](CoreClient& core) -> absl::Status {
    ASSIGN_OR_RETURN(const UniqueFd fd, core.StateDump(instance));
    const ssize_t got = pread(fd.get(), &copy, sizeof(copy), 0);
    if (got == sizeof(copy)) return absl::OkStatus();
    return absl::DataLossError("short read of the segment");
  }));
  return copy;
}

std::vector<LaunchEvent> LauncherProcess::Events(uint64_t after) {
  std::vector<LaunchEvent> all;
  Ask([&](CoreClient& core) -> absl::Status {
    all.clear();
    uint64_t since = after;
    while (true) {
      ASSIGN_OR_RETURN(CoreClient::Events read, core.ReadEvents(since, false));
      if (read.events.empty()) return absl::OkStatus();
      since = read.last_sequence;
      for (LaunchEvent& event : read.events) all.push_back(std::move(event));
    }
  }).IgnoreError();
  return all;
}

absl::StatusOr<LaunchEvent> LauncherProcess::AwaitEvent(const std::string& type,
                                                        uint64_t after) {
  for (int i = 0; i < 1000; ++i) {
    std::vector<LaunchEvent> all = Events();
    for (size_t n = all.size(); n-- > 0;) {
      if (all[n].type == type && all[n].sequence > after) return all[n];
    }
    usleep(10000);
  }
  return absl::DeadlineExceededError("no event " + type);
}

std::vector<pid_t> LauncherProcess::Processes() const {
  ReapOrphans();
  return DescendantsOf(getpid());
}

}  // namespace holdfast::launcher
