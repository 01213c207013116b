#ifndef HOLDFAST_BENCH_REGISTER_DEVICE_SYS_H_
#define HOLDFAST_BENCH_REGISTER_DEVICE_SYS_H_

#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "base/unix_socket_sys.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/message_builder.h"

namespace holdfast::bench {

inline double MonotonicSeconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

// Of a client's main: says what went wrong, if anything.
inline int ExitStatus(const char* program, const absl::Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s: %s\n", program,
               std::string(status.message()).c_str());
  return 1;
}

// A vfio-user device as its client sees one register of it.
class RegisterDevice {
 public:
  // `text` is SOCKET:REGION:READ:WRITE:SIZE, as register_client takes it.
  static absl::StatusOr<RegisterDevice> Open(const std::string& text) {
    const std::vector<std::string> words = absl::StrSplit(text, ':');
    uint32_t region, read, write, size;
    if (words.size() != 5 || !absl::SimpleAtoi(words[1], &region) ||
        !absl::SimpleAtoi(words[2], &read) ||
        !absl::SimpleAtoi(words[3], &write) ||
        !absl::SimpleAtoi(words[4], &size) || size > sizeof(uint64_t)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--devices: '", text, "' is not SOCKET:REGION:READ:WRITE:SIZE"));
    }
    RegisterDevice device;
    ASSIGN_OR_RETURN(device.socket_, ConnectTo(words[0]));
    const int yes = 1;
    if (setsockopt(device.socket_.get(), SOL_SOCKET, SO_PASSCRED, &yes,
                   sizeof(yes)) != 0) {
      return ErrnoStatus("SO_PASSCRED");
    }
    const Bytes data(size, 1);
    device.read_ = vfio_user::CommandMessage(
        Command::kRegionRead,
        vfio_user::Join(vfio_user::RegionAccess{read, region, size}));
    device.write_ = vfio_user::CommandMessage(
        Command::kRegionWrite,
        vfio_user::Join(
            vfio_user::Join(vfio_user::RegionAccess{write, region, size}),
            data),
        vfio_user::kFlagNoReply);
    RETURN_IF_ERROR(device.Send(vfio_user::VersionMessage(0, 1, "{}")));
    RETURN_IF_ERROR(device.Receive());
    return device;
  }

  absl::Status Read() {
    RETURN_IF_ERROR(Send(read_));
    return Receive();
  }

  // The process that has sent the last answer, as the kernel says.
  pid_t answered_by() const { return answered_by_; }

  // And a read that waits for it.
  absl::Status PostedWrite() {
    RETURN_IF_ERROR(Send(write_));
    return Read();
  }

 private:
  using Bytes = vfio_user::Bytes;
  using Command = vfio_user::Command;
  using MessageHeader = vfio_user::MessageHeader;

  absl::Status Send(const Bytes& message) {
    const ssize_t sent =
        send(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(message.size()))
      return ErrnoStatus("send");
    return absl::OkStatus();
  }

  // One reply; none of those that are asked for comes in pieces.
  absl::Status Receive() {
    uint8_t reply[4096];
    alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(ucred))];
    iovec part = {reply, sizeof(reply)};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t size = recvmsg(socket_.get(), &message, 0);
    const cmsghdr* const sender = CMSG_FIRSTHDR(&message);
    if (sender != nullptr && sender->cmsg_type == SCM_CREDENTIALS) {
      ucred who;
      std::memcpy(&who, CMSG_DATA(sender), sizeof(who));
      answered_by_ = who.pid;
    }
    MessageHeader header;
    if (size < static_cast<ssize_t>(sizeof(header))) {
      return size < 0 ? ErrnoStatus("recvmsg")
                      : absl::UnavailableError("the device has hung up");
    }
    std::memcpy(&header, reply, sizeof(header));
    if ((header.flags & vfio_user::kFlagError) != 0 ||
        header.size != static_cast<size_t>(size)) {
      return absl::InternalError(
          absl::StrCat("an answer of ", size, " bytes, error ", header.error));
    }
    return absl::OkStatus();
  }

  UniqueFd socket_;
  pid_t answered_by_ = 0;
  Bytes read_;
  Bytes write_;
};

}  // namespace holdfast::bench

#endif  // HOLDFAST_BENCH_REGISTER_DEVICE_SYS_H_
