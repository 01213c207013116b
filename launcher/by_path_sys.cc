#include "launcher/by_path_sys.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "base/errno_status.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"

namespace holdfast::launcher {
namespace {

// Of a message: request, flags, and how many bytes follow.
constexpr size_t kHeaderBytes = 12;
constexpr size_t kSizeOffset = 8;
// Many times what the protocol has.
constexpr uint32_t kMaxPayload = 64 * 1024;

constexpr int kFailed = 1;
constexpr int kNotExecuted = 127;
constexpr int kKilledBy = 128;

// Appends to `message` until it has `size` bytes. False: `from` has ended.
absl::StatusOr<bool> ReceiveUpTo(BorrowedFd from, size_t size,
                                 std::vector<uint8_t>& message,
                                 std::vector<UniqueFd>& fds) {
  size_t have = message.size();
  message.resize(size);
  while (have < size) {
    UniqueFd arrived[kMaxMessageFds];
    const Received part =
        ReceiveFds(from, absl::MakeSpan(message).subspan(have), arrived, 0);
    if (part.size == 0 || (part.size < 0 && errno == ECONNRESET)) return false;
    if (part.size < 0) return ErrnoStatus("receive a message");
    if (part.truncated || fds.size() + part.fd_count > kMaxMessageFds) {
      return absl::InvalidArgumentError("a message has too many descriptors");
    }
    std::move(arrived, arrived + part.fd_count, std::back_inserter(fds));
    have += static_cast<size_t>(part.size);
  }
  return true;
}

// A file system of our own, mounted nowhere.
absl::StatusOr<UniqueFd> MakeDirectory() {
  const UniqueFd context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context.valid() ||
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return ErrnoStatus("a tmpfs for the program's socket");
  }
  UniqueFd root(fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  if (!root.valid()) return ErrnoStatus("fsmount");
  return root;
}

// The path of a file in it. By our descriptor: programs close what they have
// not opened. Our number is that of /proc's namespace, not of our own.
absl::StatusOr<std::string> PathIn(BorrowedFd directory, const char* name) {
  char number[32];
  const ssize_t size = readlink("/proc/self", number, sizeof(number));
  if (size < 0) return ErrnoStatus("readlink /proc/self");
  return absl::StrCat("/proc/",
                      absl::string_view(number, static_cast<size_t>(size)),
                      "/fd/", directory.get(), "/", name);
}

class Life {
 public:
  absl::Status Start(absl::Span<char* const> words) {
    ASSIGN_OR_RETURN(directory_, MakeDirectory());
    ASSIGN_OR_RETURN(path_, PathIn(directory_, "socket"));
    std::vector<std::string> args;
    for (const char* word : words) {
      args.push_back(absl::StrReplaceAll(word, {{"{path}", path_}}));
    }
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    sigset_t watched;
    sigset_t before;
    sigemptyset(&watched);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watched, &before);
    signals_.Reset(signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals_.valid()) return ErrnoStatus("signalfd");
    pid_ = fork();
    if (pid_ < 0) return ErrnoStatus("fork");
    if (pid_ != 0) return absl::OkStatus();
    sigprocmask(SIG_SETMASK, &before, nullptr);
    close(kByPathFrontEndFd);
    fcntl(kByPathProgramFd, F_SETFD, FD_CLOEXEC);
    execveat(kByPathProgramFd, "", argv.data(), environ, AT_EMPTY_PATH);
    LogError(ErrnoStatus("start the wrapped program").message());
    _exit(kNotExecuted);
  }

  // Connects to the program's socket, whenever that is there.
  absl::Status Connect() {
    constexpr int kFirstPauseMs = 1;
    constexpr int kLongestPauseMs = 20;
    for (int pause = kFirstPauseMs; !status_.has_value();
         pause = std::min(2 * pause, kLongestPauseMs)) {
      absl::StatusOr<UniqueFd> connection = ConnectTo(path_);
      if (connection.ok()) {
        connection_ = *std::move(connection);
        return absl::OkStatus();
      }
      pollfd signal = {signals_.get(), POLLIN, 0};
      if (poll(&signal, 1, pause) > 0) TakeSignals();
    }
    return absl::OkStatus();
  }

  absl::Status Carry() {
    const BorrowedFd front_end(kByPathFrontEndFd);
    while (!status_.has_value()) {
      pollfd sources[] = {{front_end.get(), POLLIN, 0},
                          {connection_.get(), POLLIN, 0},
                          {signals_.get(), POLLIN, 0}};
      if (poll(sources, 3, -1) < 0 && errno != EINTR) {
        return ErrnoStatus("poll");
      }
      if (sources[2].revents != 0) TakeSignals();
      bool goes_on = true;
      if (sources[0].revents != 0) {
        ASSIGN_OR_RETURN(goes_on, CarryMessage(front_end, connection_));
      }
      if (goes_on && sources[1].revents != 0) {
        ASSIGN_OR_RETURN(goes_on, CarryMessage(connection_, front_end));
      }
      // As it would end by itself with a socket of its own.
      if (!goes_on) return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  // Of the program, if it has ended.
  std::optional<int> status() const { return status_; }

 private:
  void TakeSignals() {
    signalfd_siginfo info;
    while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo == SIGTERM) kill(pid_, SIGTERM);
    }
    // Orphans of the program become ours.
    int status = 0;
    for (pid_t ended = waitpid(-1, &status, WNOHANG); ended > 0;
         ended = waitpid(-1, &status, WNOHANG)) {
      if (ended != pid_) continue;
      status_ = WIFSIGNALED(status) ? kKilledBy + WTERMSIG(status)
                                    : WEXITSTATUS(status);
    }
  }

  UniqueFd directory_;
  std::string path_;
  pid_t pid_ = 0;
  UniqueFd signals_;
  UniqueFd connection_;
  std::optional<int> status_;
};

absl::StatusOr<int> Run(absl::Span<char* const> program_argv) {
  Life life;
  RETURN_IF_ERROR(life.Start(program_argv));
  RETURN_IF_ERROR(life.Connect());
  if (!life.status().has_value()) RETURN_IF_ERROR(life.Carry());
  return life.status().value_or(0);
}

}  // namespace

// Byte by byte of one message at a time: the kernel ties descriptors to the
// first byte that they were sent with, and whoever reads across the end of a
// message gets them early.
absl::StatusOr<bool> CarryMessage(BorrowedFd from, BorrowedFd to) {
  std::vector<uint8_t> message;
  std::vector<UniqueFd> fds;
  ASSIGN_OR_RETURN(bool whole, ReceiveUpTo(from, kHeaderBytes, message, fds));
  if (!whole) return false;
  uint32_t size = 0;
  std::memcpy(&size, message.data() + kSizeOffset, sizeof(size));
  if (size > kMaxPayload) {
    return absl::InvalidArgumentError(
        absl::StrCat("a message says that ", size, " bytes follow"));
  }
  ASSIGN_OR_RETURN(whole, ReceiveUpTo(from, kHeaderBytes + size, message, fds));
  if (!whole) return false;
  std::vector<int> numbers;
  for (const UniqueFd& fd : fds) numbers.push_back(fd.get());
  const ssize_t sent = SendFds(to, message, numbers, 0);
  if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) return false;
  if (sent != static_cast<ssize_t>(message.size())) {
    return ErrnoStatus("send a message");
  }
  return true;
}

int RunByPath(absl::Span<char* const> program_argv) {
  SetLogProgram(kByPathName);
  const absl::StatusOr<int> status = Run(program_argv);
  if (status.ok()) return *status;
  LogError(status.status().message());
  return kFailed;
}

}  // namespace holdfast::launcher
