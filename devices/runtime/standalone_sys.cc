#include "devices/runtime/standalone_sys.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/direct_io_sys.h"
#include "base/errno_status.h"
#include "base/image_lock_sys.h"
#include "base/log.h"
#include "base/shm_sys.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "devices/runtime/poller_sys.h"
#include "devices/runtime/store_keeper_sys.h"

namespace holdfast {
namespace {

// -1: `fd` has no such option.
int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

absl::StatusOr<UniqueFd> TakeSocket(const CommandLine& line) {
  if (line.fd >= 0) {
    if (SocketOption(line.fd, SO_TYPE) != SOCK_STREAM ||
        SocketOption(line.fd, SO_DOMAIN) != AF_UNIX) {
      return absl::InvalidArgumentError(
          absl::StrCat("--fd=", line.fd,
                       ": not a Unix stream socket: give one that listens or "
                       "that the VMM is connected to"));
    }
    return UniqueFd(line.fd);
  }
  absl::StatusOr<UniqueFd> socket = ListenAt(line.socket_path);
  if (socket.ok()) return socket;
  return absl::Status(socket.status().code(),
                      absl::StrCat("--socket-path=", line.socket_path, ": ",
                                   socket.status().message()));
}

absl::Status OpenResources(const CommandLine& line, DeviceProcess& process) {
  store::Slot slot = store::kSlotFirstResource;
  const absl::StatusOr<bool> switched = line.options.Switch("read-only", false);
  const bool read_only = switched.ok() && *switched;
  const absl::StatusOr<bool> past_cache = line.options.Switch("direct", false);
  for (const ResourceSpec& resource : process.resources()) {
    const auto it = line.resources.find(resource.name);
    if (it == line.resources.end()) continue;
    const std::string argument =
        absl::StrCat("--", resource.name, "=", it->second);
    UniqueFd fd(
        open(it->second.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    if (!fd.valid()) return ErrnoStatus(absl::StrCat("opening ", argument));
    RETURN_IF_ERROR(LockImage(
        fd, argument, read_only ? ImageUse::kRead : ImageUse::kReadAndWrite));
    if (past_cache.ok() && *past_cache) {
      RETURN_IF_ERROR(PassPageCache(fd, argument, "leave --direct out"));
    }
    process.descriptors().Set(slot, std::move(fd));
    process.NameResource(resource.name, slot++);
  }
  return absl::OkStatus();
}

// One VMM at a time; the next one waits in the socket's queue.
absl::Status ServeConnections(UniqueFd socket, DeviceProcess& process) {
  const bool listening = SocketOption(socket.get(), SO_ACCEPTCONN) > 0;
  uint64_t connections = 0;
  if (!listening) {
    process.descriptors().SetConnection(std::move(socket), ++connections);
  }
  using Source = Poller::Source;
  Poller poller;
  RETURN_IF_ERROR(poller.Open(process.waiting()));
  process.descriptors().SetObserver(poller);
  RETURN_IF_ERROR(process.Promote(/*epoch=*/1));
  for (;;) {
    const BorrowedFd connection =
        process.descriptors().Get(store::kSlotConnection);
    if (!connection.valid() && !listening) return absl::OkStatus();
    RETURN_IF_ERROR(poller.Watch(
        Source::kVmm, process.stalled() ? BorrowedFd(-1) : connection));
    RETURN_IF_ERROR(poller.Watch(Source::kControl,
                                 connection.valid() ? BorrowedFd(-1) : socket));
    RETURN_IF_ERROR(poller.Watch(Source::kEvent, process.event()));
    RETURN_IF_ERROR(poller.Watch(Source::kOtherEvent, process.other_event()));
    RETURN_IF_ERROR(poller.Watch(Source::kThirdEvent, process.third_event()));
    RETURN_IF_ERROR(poller.Watch(Source::kFourthEvent, process.fourth_event()));
    RETURN_IF_ERROR(poller.Watch(Source::kOtherStream, process.other_stream()));
    const bool woken = poller.WaitUnlessSilent(process.pause_ms());
    if (poller.HasEvent()) process.OnEvent();
    if (poller.ready(Source::kControl)) {
      UniqueFd accepted(accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (accepted.valid()) {
        process.descriptors().SetConnection(std::move(accepted), ++connections);
      }
    }
    RETURN_IF_ERROR(
        process.Serve(woken ? poller.waiting() : Lane::Waiting::kAny));
  }
}

}  // namespace

absl::Status RunStandalone(const CommandLine& line, DeviceProcess& process) {
  LogWarning(
      "runs stand-alone, without recovery: when it dies, the guest's device "
      "dies");
  NoKeeper keeper;
  process.SetKeeper(keeper);
  ASSIGN_OR_RETURN(UniqueFd socket, TakeSocket(line));
  RETURN_IF_ERROR(OpenResources(line, process));
  ASSIGN_OR_RETURN(const size_t size, process.SegmentBytes());
  ASSIGN_OR_RETURN(UniqueFd segment,
                   CreateSealedMemfd("holdfast-segment", size));
  RETURN_IF_ERROR(process.AttachSegment(segment));
  RETURN_IF_ERROR(process.Build());
  return ServeConnections(std::move(socket), process);
}

}  // namespace holdfast
