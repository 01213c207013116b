#include "devices/keeper/probe/probe_sys.h"

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "devices/keeper/backend_link_sys.h"
#include "devices/keeper/handshake.h"
#include "devices/keeper/probe/attempt_sys.h"

namespace holdfast::keeper {
namespace {

using Clock = std::chrono::steady_clock;

// A text of libvhost-user, and of nothing else.
constexpr char kLibvhostUserSays[] = "Invalid get_inflight_fd message";
constexpr int kCapabilitiesMs = 5000;
constexpr int kEndMs = 2000;

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start)
      .count();
}

// What --print-capabilities says; whoever does not know it is no worse off.
std::string TypeOf(const std::string& program) {
  const std::string question[] = {"--print-capabilities"};
  const auto attempt = Attempt::Start(program, question, BorrowedFd(-1));
  if (!attempt.ok()) return "";
  (*attempt)->AwaitEnd(kCapabilitiesMs);
  return TypeIn((*attempt)->Output());
}

// The way to one process of a program: its own end of a socket, or the path at
// which it is to listen, in a directory that is gone with this.
class Way {
 public:
  ~Way() {
    if (directory_.empty()) return;
    unlink(path_.c_str());
    rmdir(directory_.c_str());
  }

  absl::Status Make(Handover handover) {
    if (handover == Handover::kPath) return MakeDirectory();
    ASSIGN_OR_RETURN(auto pair, handover == Handover::kListening
                                    ? ListenerPair()
                                    : StreamPair());
    connection_ = std::move(pair.first);
    theirs_ = std::move(pair.second);
    return absl::OkStatus();
  }
  BorrowedFd theirs() const { return theirs_; }
  const std::string& path() const { return path_; }

  // Once `program` runs: its end of the socket is the socket's end then.
  absl::Status Connect(Attempt& program) {
    theirs_.Reset();
    if (path_.empty()) return absl::OkStatus();
    constexpr int kPauseMs = 5;
    const Clock::time_point start = Clock::now();
    absl::StatusOr<UniqueFd> connection = ConnectTo(path_);
    while (!connection.ok() &&
           MillisecondsSince(start) < BackendLink::kPatienceMs &&
           !program.AwaitEnd(kPauseMs).has_value()) {
      connection = ConnectTo(path_);
    }
    ASSIGN_OR_RETURN(connection_, std::move(connection));
    return absl::OkStatus();
  }
  BorrowedFd connection() const { return connection_; }
  void Close() { connection_.Reset(); }

 private:
  absl::Status MakeDirectory() {
    char name[] = "/tmp/holdfast-probe-XXXXXX";
    if (mkdtemp(name) == nullptr) return ErrnoStatus("mkdtemp");
    directory_ = name;
    path_ = directory_ + "/socket";
    return absl::OkStatus();
  }

  std::string directory_;
  std::string path_;
  UniqueFd connection_;
  UniqueFd theirs_;
};

// What became of a process that did not answer.
absl::Status Failure(Attempt& attempt, const absl::Status& why) {
  const auto end = attempt.AwaitEnd(/*timeout_ms=*/100);
  const std::string words = attempt.LastLine();
  return absl::NotFoundError(absl::StrCat(
      end.has_value() ? absl::StrCat("it ended with ", *end)
                      : std::string(why.message()),
      words.empty() ? "" : absl::StrCat(", its last words: ", words)));
}

absl::StatusOr<Findings> Try(const std::string& program,
                             const Candidate& candidate) {
  Way way;
  RETURN_IF_ERROR(way.Make(candidate.handover));
  const Clock::time_point start = Clock::now();
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Attempt> attempt,
      Attempt::Start(program, candidate.With(Attempt::kFd, way.path()),
                     way.theirs()));
  const absl::Status connected = way.Connect(*attempt);
  if (!connected.ok()) return Failure(*attempt, connected);
  BackendLink link(way.connection());
  const absl::StatusOr<Offer> offer =
      ShakeHands(link, BackendTraits(), /*expected_config=*/0);
  if (!offer.ok()) return Failure(*attempt, offer.status());
  Findings findings;
  findings.program = program;
  findings.taken = candidate;
  findings.offer = *offer;
  findings.start_ms = MillisecondsSince(start);
  findings.libvhost_user = ExecutedFileWith(attempt->pid(), kLibvhostUserSays);
  way.Close();
  findings.ends_with_connection = attempt->AwaitEnd(kEndMs).has_value();
  if (findings.ends_with_connection) return findings;
  const Clock::time_point asked = Clock::now();
  attempt->Send(SIGTERM);
  if (attempt->AwaitEnd(kEndMs).has_value()) {
    findings.stop_ms = MillisecondsSince(asked);
  }
  return findings;
}

}  // namespace

absl::StatusOr<Findings> Probe(const std::string& program,
                               absl::Span<const std::string> arguments,
                               std::ostream& progress) {
  std::string failures;
  for (const Candidate& candidate : CandidatesFor(arguments)) {
    progress << "trying " << candidate.Name() << std::endl;
    absl::StatusOr<Findings> findings = Try(program, candidate);
    if (findings.ok()) {
      findings->type = TypeOf(program);
      return findings;
    }
    absl::StrAppend(&failures, "\n  ", candidate.Name(), ": ",
                    findings.status().message());
  }
  return absl::NotFoundError(absl::StrCat(
      program,
      ": does not answer as a vhost-user back-end. Put {fd} where it takes the "
      "number of the descriptor of its socket, or {path} where it takes the "
      "path at which it listens.",
      failures));
}

}  // namespace holdfast::keeper
