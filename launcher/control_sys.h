#ifndef HOLDFAST_LAUNCHER_CONTROL_SYS_H_
#define HOLDFAST_LAUNCHER_CONTROL_SYS_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/log_limiter.h"
#include "base/unique_fd.h"
#include "launcher/core_protocol.h"

namespace holdfast::launcher {

// The core's end of RUNDIR/core.sock: accepts clients of permitted users, reads
// requests, sends answers. A client that does not read its answers is closed;
// none can make the core wait. One thread.
class ControlServer {
 public:
  using ClientId = uint64_t;  // Never used again.

  // Clients at a time: the api and some command lines. Beyond, a new one is
  // closed at once.
  static constexpr size_t kMaxClients = 32;

  // Listens at `path`, mode 0600; replaces a socket that nobody listens on.
  // Root and the users in `permitted` may connect.
  static absl::StatusOr<ControlServer> Create(const std::string& path,
                                              std::vector<uid_t> permitted);

  BorrowedFd listener() const { return listener_; }
  // Of all clients, to wait for.
  std::vector<std::pair<ClientId, BorrowedFd>> clients() const;

  bool Has(ClientId client) const { return clients_.count(client) != 0; }

  // Takes one waiting connection, or closes it: of a user who is not permitted,
  // one too many, or one for which no descriptor is left.
  void Accept();
  // Takes a connection that was made otherwise: the api is born with some.
  ClientId Adopt(UniqueFd connection);
  // Reads one request. kUnavailable: nothing there. Any other error: the client
  // was closed (it went away, or sent something that is no request).
  absl::StatusOr<Request> Read(ClientId client);
  // Answers to a client that is gone are dropped. `fd`: -1 or lent.
  void Send(ClientId client, const Answer& answer,
            BorrowedFd fd = BorrowedFd(-1));

 private:
  ControlServer(UniqueFd listener, std::vector<uid_t> permitted)
      : listener_(std::move(listener)), permitted_(std::move(permitted)) {}

  void TurnAway();

  UniqueFd listener_;
  UniqueFd spare_;  // Of no use but for TurnAway().
  std::unique_ptr<LogLimiter> log_ = std::make_unique<LogLimiter>();
  std::vector<uid_t> permitted_;
  std::map<ClientId, UniqueFd> clients_;
  ClientId next_client_ = 1;
};

// Connects to a core.sock; blocking.
absl::StatusOr<UniqueFd> ConnectSeqpacket(const std::string& path);

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_CONTROL_SYS_H_
