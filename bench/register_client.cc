// register_client: accesses a register of several vfio-user devices by turns, a
// few milliseconds each, so that whatever else the machine does meets all of
// them.
//
//   register_client --devices=SOCKET:REGION:READ:WRITE:SIZE,... --seconds=2
//
// READ and WRITE are offsets within the region, SIZE is that of an access in
// bytes. A round gives each device as many turns as there are devices, once at
// each place (A B B A). Prints one line of JSON: of each turn the device, what
// was done ("read", or "write": a posted write and a read that waits for it),
// how often, and the seconds. Exit status 1: a device failed.

#include <sys/socket.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
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

ABSL_FLAG(std::vector<std::string>, devices, {},
          "SOCKET:REGION:READ:WRITE:SIZE");
ABSL_FLAG(double, seconds, 2, "how long");
ABSL_FLAG(double, turn_ms, 3, "length of a turn");

namespace holdfast::bench {
namespace {

using vfio_user::Bytes;
using vfio_user::Command;
using vfio_user::MessageHeader;

double MonotonicSeconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

class Device {
 public:
  static absl::StatusOr<Device> Open(const std::string& text) {
    const std::vector<std::string> words = absl::StrSplit(text, ':');
    uint32_t region, read, write, size;
    if (words.size() != 5 || !absl::SimpleAtoi(words[1], &region) ||
        !absl::SimpleAtoi(words[2], &read) ||
        !absl::SimpleAtoi(words[3], &write) ||
        !absl::SimpleAtoi(words[4], &size) || size > sizeof(uint64_t)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--devices: '", text, "' is not SOCKET:REGION:READ:WRITE:SIZE"));
    }
    Device device;
    ASSIGN_OR_RETURN(device.socket_, ConnectTo(words[0]));
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

  absl::Status PostedWrite() {
    RETURN_IF_ERROR(Send(write_));
    return Read();
  }

 private:
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
    const ssize_t size = recv(socket_.get(), reply, sizeof(reply), 0);
    MessageHeader header;
    if (size < static_cast<ssize_t>(sizeof(header))) {
      return size < 0 ? ErrnoStatus("recv")
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
  Bytes read_;
  Bytes write_;
};

absl::StatusOr<std::string> Turn(Device& device, bool write, double seconds) {
  const double start = MonotonicSeconds();
  double took = 0;
  int count = 0;
  for (; took < seconds; took = MonotonicSeconds() - start) {
    for (int i = 0; i < 8; ++i, ++count) {
      RETURN_IF_ERROR(write ? device.PostedWrite() : device.Read());
    }
  }
  return absl::StrCat(write ? "\"write\"" : "\"read\"", ",", count, ",",
                      absl::SixDigits(took));
}

absl::Status Main() {
  std::vector<Device> devices;
  for (const std::string& text : absl::GetFlag(FLAGS_devices)) {
    ASSIGN_OR_RETURN(Device device, Device::Open(text));
    devices.push_back(std::move(device));
  }
  if (devices.empty()) return absl::InvalidArgumentError("--devices: of whom?");
  const double turn = absl::GetFlag(FLAGS_turn_ms) / 1000;
  const double end = MonotonicSeconds() + absl::GetFlag(FLAGS_seconds);
  std::string turns;
  while (MonotonicSeconds() < end) {
    for (const bool write : {false, true}) {
      for (size_t i = 0; i < devices.size() * devices.size(); ++i) {
        const size_t side = (i / devices.size() + i) % devices.size();
        ASSIGN_OR_RETURN(const std::string result,
                         Turn(devices[side], write, turn));
        absl::StrAppend(&turns, turns.empty() ? "" : ",", "[", side, ",",
                        result, "]");
      }
    }
  }
  std::printf("[%s]\n", turns.c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = holdfast::bench::Main();
  if (status.ok()) return 0;
  std::fprintf(stderr, "register_client: %s\n",
               std::string(status.message()).c_str());
  return 1;
}
