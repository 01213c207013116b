#include "launcher/control_sys.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"

namespace holdfast::launcher {
namespace {

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " is longer than 107 bytes: use a shorter --run-dir"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

absl::StatusOr<UniqueFd> NewSocket(int flags) {
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!fd.valid()) return ErrnoStatus("socket");
  return fd;
}

}  // namespace

absl::StatusOr<UniqueFd> ConnectSeqpacket(const std::string& path) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  ASSIGN_OR_RETURN(UniqueFd fd, NewSocket(0));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) != 0) {
    return ErrnoStatus("connect to " + path);
  }
  return fd;
}

absl::StatusOr<ControlServer> ControlServer::Create(
    const std::string& path, std::vector<uid_t> permitted) {
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  RETURN_IF_ERROR(RemoveStaleSocket(path));
  ASSIGN_OR_RETURN(UniqueFd fd, NewSocket(SOCK_NONBLOCK));
  // Before it is bound: the file is never open to others, even for a moment.
  if (fchmod(fd.get(), 0600) != 0) return ErrnoStatus("fchmod " + path);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
           sizeof(address)) != 0) {
    return ErrnoStatus("bind " + path);
  }
  if (listen(fd.get(), 16) != 0) return ErrnoStatus("listen " + path);
  ControlServer server(std::move(fd), std::move(permitted));
  server.spare_.Reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
  return server;
}

std::vector<std::pair<ControlServer::ClientId, BorrowedFd>>
ControlServer::clients() const {
  std::vector<std::pair<ClientId, BorrowedFd>> all;
  for (const auto& [id, fd] : clients_) all.emplace_back(id, fd);
  return all;
}

void ControlServer::Accept() {
  UniqueFd fd(
      accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) {
    if (errno == EMFILE || errno == ENFILE) TurnAway();
    return;
  }
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return;
  const bool permitted =
      peer.uid == 0 || std::find(permitted_.begin(), permitted_.end(),
                                 peer.uid) != permitted_.end();
  if (!permitted) {
    log_->Warning("control: user ", peer.uid, " was turned away");
    return;
  }
  if (clients_.size() >= kMaxClients) {
    log_->Warning("control: ", kMaxClients, " clients are connected already");
    return;
  }
  clients_[next_client_++] = std::move(fd);
}

// Without a descriptor left nobody can be accepted, and who waits would wake
// the core for ever: the spare one makes room for saying no.
void ControlServer::TurnAway() {
  log_->Warning("control: no descriptor is left for another client");
  spare_.Reset();
  UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)).Reset();
  spare_.Reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
}

ControlServer::ClientId ControlServer::Adopt(UniqueFd connection) {
  fcntl(connection.get(), F_SETFL,
        fcntl(connection.get(), F_GETFL) | O_NONBLOCK);
  clients_[next_client_] = std::move(connection);
  return next_client_++;
}

absl::StatusOr<Request> ControlServer::Read(ClientId client) {
  const auto it = clients_.find(client);
  if (it == clients_.end()) return absl::NotFoundError("client is gone");
  std::vector<uint8_t> buffer(kMaxCorePacket);
  ReceivedFds fds;  // None is expected; they are closed at once.
  absl::StatusOr<ReceivedMessage> got =
      ReceiveWithFds(it->second, absl::MakeSpan(buffer), fds);
  if (got.ok() && got->size > 0 && !got->truncated) {
    absl::StatusOr<Request> request =
        DecodeRequest(absl::MakeConstSpan(buffer.data(), got->size));
    if (request.ok()) return request;
    // So that a client of another version learns why.
    Answer answer;
    answer.status = request.status();
    Send(client, answer);
    clients_.erase(client);
    return request.status();
  }
  if (!got.ok() && absl::IsUnavailable(got.status())) return got.status();
  clients_.erase(it);
  return absl::CancelledError("client is gone");
}

void ControlServer::Send(ClientId client, const Answer& answer, BorrowedFd fd) {
  const auto it = clients_.find(client);
  if (it == clients_.end()) return;
  const int raw = fd.get();
  const absl::Status status =
      SendWithFds(it->second, EncodeAnswer(answer),
                  absl::MakeConstSpan(&raw, fd.valid() ? 1 : 0));
  if (!status.ok()) clients_.erase(it);
}

}  // namespace holdfast::launcher
