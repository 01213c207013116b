#include "devices/vfio_user/testing/client_sys.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "devices/vfio_user/codec.h"

namespace holdfast::vfio_user {
namespace {

absl::Status Broken(const std::string& what) {
  return absl::InternalError(absl::StrCat("the server broke off: ", what));
}

Bytes WriteOf(uint32_t region, uint64_t offset, uint64_t value, uint32_t size) {
  Bytes payload = Join(RegionAccess{offset, region, size});
  const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
  payload.insert(payload.end(), bytes, bytes + size);
  return payload;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(
    const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd socket, ConnectTo(path));
  return Adopt(std::move(socket));
}

std::unique_ptr<Client> Client::Adopt(UniqueFd socket) {
  const timeval patience = {20, 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience,
             sizeof(patience));
  return std::unique_ptr<Client>(new Client(std::move(socket)));
}

absl::Status Client::Send(Command command, uint32_t flags, const Bytes& payload,
                          const std::vector<int>& fds) {
  const Bytes message = CommandMessage(command, payload, flags, ++id_);
  const ssize_t sent = SendFds(socket_, message, fds, 0);
  if (sent != static_cast<ssize_t>(message.size())) {
    return sent < 0 ? ErrnoStatus("sendmsg") : Broken("a short send");
  }
  return absl::OkStatus();
}

absl::Status Client::Receive(BorrowedFd from, uint8_t* out, size_t size) {
  while (size != 0) {
    UniqueFd fds[kMaxMessageFds];
    const Received got = ReceiveFds(from, {out, size}, absl::MakeSpan(fds), 0);
    if (got.size < 0) return ErrnoStatus("recvmsg");
    if (got.size == 0) return Broken("closed");
    for (size_t i = 0; i < got.fd_count; ++i) {
      reply_fds_.push_back(std::move(fds[i]));
    }
    out += got.size;
    size -= static_cast<size_t>(got.size);
  }
  return absl::OkStatus();
}

absl::StatusOr<Bytes> Client::Ask(Command command, const Bytes& payload,
                                  const std::vector<int>& fds) {
  reply_fds_.clear();
  RETURN_IF_ERROR(Send(command, 0, payload, fds));
  ASSIGN_OR_RETURN(const MessageHeader header, ReceiveReply());
  if (header.id != id_ || Command{header.command} != command ||
      header.size < sizeof(header) || header.size > (1u << 20) ||
      (header.flags & ~kFlagError) != kFlagReply) {
    return Broken(absl::StrCat("reply ", header.id, " to ", header.command,
                               " with flags ", header.flags, " and ",
                               header.size, " bytes; ", id_, " to ",
                               static_cast<uint16_t>(command), " is awaited"));
  }
  Bytes reply(header.size - sizeof(header));
  RETURN_IF_ERROR(Receive(socket_, reply.data(), reply.size()));
  if ((header.flags & kFlagError) != 0) {
    return absl::UnknownError(std::strerror(static_cast<int>(header.error)));
  }
  return reply;
}

// The header of what is no request of the server.
absl::StatusOr<MessageHeader> Client::ReceiveReply() {
  for (;;) {
    while (twin_.valid()) {
      ASSIGN_OR_RETURN(const bool asked, AwaitEither());
      if (!asked) break;
      RETURN_IF_ERROR(TakeNextAsk());
    }
    ASSIGN_OR_RETURN(const MessageHeader header, ReceiveHeader(socket_));
    if ((header.flags & kFlagTypeMask) == kFlagReply) return header;
    if (twin_.valid()) return Broken("it asked on the first socket");
    RETURN_IF_ERROR(TakeAsk(header));
  }
}

// Whether the server asks on the second socket; else it answers.
absl::StatusOr<bool> Client::AwaitEither() {
  pollfd fds[] = {{socket_.get(), POLLIN, 0}, {twin_.get(), POLLIN, 0}};
  if (poll(fds, 2, 20000) <= 0) return Broken("nothing comes");
  return fds[0].revents == 0;
}

absl::StatusOr<MessageHeader> Client::ReceiveHeader(BorrowedFd from) {
  MessageHeader header{};
  RETURN_IF_ERROR(
      Receive(from, reinterpret_cast<uint8_t*>(&header), sizeof(header)));
  return header;
}

absl::Status Client::TakeNextAsk() {
  ASSIGN_OR_RETURN(const MessageHeader header, ReceiveHeader(ask_socket()));
  return TakeAsk(header);
}

absl::Status Client::TakeAsk(const MessageHeader& header) {
  const Command command{header.command};
  const bool write = command == Command::kDmaWrite;
  if ((!write && command != Command::kDmaRead) || header.flags != 0 ||
      header.size < sizeof(header) + sizeof(DmaAccess) ||
      header.size > (1u << 20)) {
    return Broken(absl::StrCat("command ", header.command, " with flags ",
                               header.flags, " and ", header.size, " bytes"));
  }
  Bytes payload(header.size - sizeof(header));
  RETURN_IF_ERROR(Receive(ask_socket(), payload.data(), payload.size()));
  ++asks_;
  if (hold_) {
    held_asks_.push_back({header, std::move(payload)});
    return absl::OkStatus();
  }
  return Answer(header, payload);
}

absl::Status Client::Answer(const MessageHeader& header, const Bytes& payload) {
  DmaAccess access;
  std::memcpy(&access, payload.data(), sizeof(access));
  const bool write = Command{header.command} == Command::kDmaWrite;
  if (payload.size() != sizeof(access) + (write ? access.count : 0)) {
    return Broken(
        absl::StrCat(access.count, " bytes in a message of ", header.size));
  }
  Bytes reply = Join(access);
  bool found = refuse_ != 0;
  for (const Range& range : ranges_) {
    const uint64_t offset = access.address - range.address;
    if (found || access.address < range.address ||
        offset > range.bytes.size() ||
        access.count > range.bytes.size() - offset) {
      continue;
    }
    found = true;
    uint8_t* const at = range.bytes.data() + offset;
    if (write) {
      std::memcpy(at, payload.data() + sizeof(access), access.count);
    } else {
      reply.insert(reply.end(), at, at + access.count);
    }
  }
  if (!found) {
    return Broken(absl::StrCat("asked for ", access.count, " bytes at ",
                               access.address, ", which it was not granted"));
  }
  Bytes message =
      refuse_ != 0 ? ErrorMessage(Command{header.command}, refuse_, header.id)
                   : ReplyMessage(Command{header.command}, reply, header.id);
  const ssize_t sent = SendFds(ask_socket(), message, {}, 0);
  return sent == static_cast<ssize_t>(message.size()) ? absl::OkStatus()
                                                      : ErrnoStatus("sendmsg");
}

absl::Status Client::AnswerAsks(size_t count) {
  const uint64_t until = asks_ + count;
  while (asks_ < until) RETURN_IF_ERROR(TakeNextAsk());
  return absl::OkStatus();
}

absl::Status Client::AnswerHeld() {
  for (const HeldAsk& ask : std::exchange(held_asks_, {})) {
    RETURN_IF_ERROR(Answer(ask.header, ask.payload));
  }
  return absl::OkStatus();
}

absl::Status Client::Post(Command command, const Bytes& payload) {
  return Send(command, kFlagNoReply, payload, {});
}

absl::Status Client::Negotiate(bool twin) {
  Bytes payload = Join(Version{0, 0});
  const std::string json = absl::StrCat(
      "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":65536",
      twin ? ",\"twin_socket\":{\"supported\":true}" : "", "}}");
  payload.insert(payload.end(), json.begin(), json.end());
  payload.push_back(0);
  ASSIGN_OR_RETURN(const Bytes reply, Ask(Command::kVersion, payload));
  const std::string said(reply.begin(), reply.end());
  const bool offered = said.find("\"fd_index\":0") != std::string::npos;
  if (offered != (reply_fds_.size() == 1) || (offered && !twin)) {
    return Broken(absl::StrCat(reply_fds_.size(), " descriptors with ", said));
  }
  if (offered) twin_ = std::move(reply_fds_[0]);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Client::Read(uint32_t region, uint64_t offset,
                                      uint32_t size) {
  ASSIGN_OR_RETURN(
      const Bytes reply,
      Ask(Command::kRegionRead, Join(RegionAccess{offset, region, size})));
  uint64_t value = 0;
  if (size > sizeof(value) || reply.size() != sizeof(RegionAccess) + size) {
    return Broken("a read of another size");
  }
  std::memcpy(&value, reply.data() + sizeof(RegionAccess), size);
  return value;
}

absl::Status Client::Write(uint32_t region, uint64_t offset, uint64_t value,
                           uint32_t size) {
  return Ask(Command::kRegionWrite, WriteOf(region, offset, value, size))
      .status();
}

absl::Status Client::PostWrite(uint32_t region, uint64_t offset, uint64_t value,
                               uint32_t size) {
  return Post(Command::kRegionWrite, WriteOf(region, offset, value, size));
}

absl::Status Client::Map(uint64_t address, BorrowedFd file, uint64_t offset,
                         uint64_t size) {
  return Ask(Command::kDmaMap,
             Join(DmaMap{32, kDmaReadable | kDmaWriteable, offset, address,
                         size}),
             {file.get()})
      .status();
}

absl::Status Client::MapByMessage(uint64_t address, absl::Span<uint8_t> bytes) {
  ranges_.push_back({address, bytes});
  return Ask(Command::kDmaMap, Join(DmaMap{32, kDmaReadable | kDmaWriteable, 0,
                                           address, bytes.size()}))
      .status();
}

absl::Status Client::Unmap(uint64_t address, uint64_t size) {
  return Ask(Command::kDmaUnmap, Join(DmaUnmap{24, 0, address, size})).status();
}

absl::StatusOr<UniqueFd> Client::Listen(uint32_t irq, uint32_t vector) {
  UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  RETURN_IF_ERROR(
      Ask(Command::kDeviceSetIrqs,
          Join(IrqSet{20, kIrqDataEventFd | kIrqActionTrigger, irq, vector, 1}),
          {event.get()})
          .status());
  return event;
}

}  // namespace holdfast::vfio_user
