#include "launcher/custody_sys.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"

namespace holdfast::launcher {
namespace {

constexpr size_t kDescriptors = 3;

struct CustodyMessage {
  int32_t store_pid = 0;
  uint32_t specs_run = 0;
};

absl::StatusOr<UniqueFd> DuplicateFd(BorrowedFd fd) {
  UniqueFd copy(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return ErrnoStatus("fcntl F_DUPFD_CLOEXEC");
  return copy;
}

}  // namespace

absl::StatusOr<Custody> Custody::Duplicate() const {
  Custody copy;
  if (!valid()) return copy;
  ASSIGN_OR_RETURN(copy.link, DuplicateFd(link));
  ASSIGN_OR_RETURN(copy.store_link, DuplicateFd(store_link));
  ASSIGN_OR_RETURN(copy.store_pidfd, DuplicateFd(store_pidfd));
  copy.store_pid = store_pid;
  copy.specs_run = specs_run;
  return copy;
}

void SendExit(BorrowedFd core, const ExitNotice& exit) {
  (void)!send(core.get(), &exit, sizeof(exit), MSG_DONTWAIT | MSG_NOSIGNAL);
}

std::optional<ExitNotice> ReceiveExit(BorrowedFd parent) {
  ExitNotice exit;
  if (recv(parent.get(), &exit, sizeof(exit), MSG_DONTWAIT) !=
      static_cast<ssize_t>(sizeof(exit))) {
    return std::nullopt;
  }
  return exit;
}

absl::Status SendCustody(BorrowedFd parent, const Custody& custody) {
  const CustodyMessage message = {custody.store_pid, custody.specs_run};
  uint8_t bytes[sizeof(message)];
  std::memcpy(bytes, &message, sizeof(bytes));
  const int fds[kDescriptors] = {custody.link.get(), custody.store_link.get(),
                                 custody.store_pidfd.get()};
  return SendWithFds(parent, bytes, fds);
}

absl::Status ReceiveCustody(BorrowedFd core, Custody& custody) {
  Custody received;
  CustodyMessage message;
  uint8_t bytes[sizeof(message)];
  ReceivedFds fds;
  ASSIGN_OR_RETURN(const ReceivedMessage got,
                   ReceiveWithFds(core, absl::MakeSpan(bytes), fds));
  if (got.size == 0) return absl::CancelledError("the core has closed");
  if (got.size != sizeof(bytes) || fds.count != kDescriptors) {
    return absl::InvalidArgumentError("custody message is malformed");
  }
  std::memcpy(&message, bytes, sizeof(bytes));
  received.store_pid = message.store_pid;
  received.specs_run = message.specs_run != 0;
  received.link = std::move(fds.fds[0]);
  received.store_link = std::move(fds.fds[1]);
  received.store_pidfd = std::move(fds.fds[2]);
  custody = std::move(received);
  return absl::OkStatus();
}

}  // namespace holdfast::launcher
