#include "devices/vhost_user/testing/front_end.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unix_socket_sys.h"
#include "devices/vhost_user/testing/message_builder.h"

namespace holdfast::testing {
namespace {

using ::holdfast::vhost_user::BytesOf;
using ::holdfast::vhost_user::ConfigHeader;
using ::holdfast::vhost_user::ConfigPayload;
using ::holdfast::vhost_user::InflightDescription;
using ::holdfast::vhost_user::kFeatureLogAll;
using ::holdfast::vhost_user::kFeatureProtocolFeatures;
using ::holdfast::vhost_user::kProtocolBackendReq;
using ::holdfast::vhost_user::kProtocolInflightShmfd;
using ::holdfast::vhost_user::kProtocolMq;
using ::holdfast::vhost_user::kProtocolReplyAck;
using ::holdfast::vhost_user::kVringFlagLog;
using ::holdfast::vhost_user::LogDescription;
using ::holdfast::vhost_user::MemoryRegion;
using ::holdfast::vhost_user::Message;
using ::holdfast::vhost_user::MessageHeader;
using ::holdfast::vhost_user::RequestType;
using ::holdfast::vhost_user::SingleMemoryRegion;
using ::holdfast::vhost_user::VringAddress;
using ::holdfast::vhost_user::VringState;

constexpr uint64_t kFeatureIndirect = 1ull << 28;
constexpr uint64_t kFeatureEventIdx = 1ull << 29;
constexpr uint64_t kBytesPerLogByte = 8 * 4096;

absl::StatusOr<UniqueFd> MakeEventFd() {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus("eventfd");
  return fd;
}

// A reply's payload as T.
template <typename T>
absl::StatusOr<T> Value(const FrontEnd::Reply& reply) {
  T value;
  if (reply.payload.size() != sizeof(value)) {
    return absl::InternalError(absl::StrCat("a reply of ", reply.payload.size(),
                                            " bytes, not ", sizeof(value)));
  }
  std::memcpy(&value, reply.payload.data(), sizeof(value));
  return value;
}

}  // namespace

absl::StatusOr<std::unique_ptr<FrontEnd>> FrontEnd::Connect(
    const std::string& path, const Options& options) {
  const absl::Time deadline = absl::Now() + options.patience;
  while (true) {
    absl::StatusOr<UniqueFd> socket = ConnectTo(path);
    if (socket.ok()) return Adopt(*std::move(socket), options);
    if (absl::Now() > deadline) return socket.status();
    absl::SleepFor(absl::Milliseconds(5));
  }
}

absl::StatusOr<std::unique_ptr<FrontEnd>> FrontEnd::Adopt(
    UniqueFd socket, const Options& options) {
  std::unique_ptr<FrontEnd> vmm(new FrontEnd(std::move(socket), options));
  const size_t size = options.queues * options.queue_memory;
  if (options.sealed_memory) {
    ASSIGN_OR_RETURN(vmm->memory_fd_, CreateSealedMemfd("guest-memory", size));
  } else {
    vmm->memory_fd_.Reset(memfd_create("guest-memory", MFD_CLOEXEC));
    if (ftruncate(vmm->memory_fd_.get(), static_cast<off_t>(size)) != 0) {
      return ErrnoStatus("ftruncate of guest memory");
    }
  }
  ASSIGN_OR_RETURN(vmm->memory_,
                   MapShared(vmm->memory_fd_, 0, size, MapAccess::kReadWrite));
  return vmm;
}

absl::Status FrontEnd::Start() {
  RETURN_IF_ERROR(Negotiate());
  RETURN_IF_ERROR(ShareInflight());
  RETURN_IF_ERROR(ShareMemory());
  for (uint16_t i = 0; i < options_.queues; ++i) {
    RETURN_IF_ERROR(StartQueue(i));
  }
  return absl::OkStatus();
}

absl::Status FrontEnd::Negotiate() {
  ASSIGN_OR_RETURN(const uint64_t offered,
                   AskNumber(RequestType::kGetFeatures));
  // Migration is not what a start is about.
  features_ = offered & options_.features & ~kFeatureLogAll;
  if ((features_ & kFeatureProtocolFeatures) != 0) {
    ASSIGN_OR_RETURN(const uint64_t protocol,
                     AskNumber(RequestType::kGetProtocolFeatures));
    const uint64_t wanted = protocol & options_.protocol_features;
    RETURN_IF_ERROR(
        Command(RequestType::kSetProtocolFeatures, BytesOf(wanted)));
    protocol_features_ = wanted;
  }
  RETURN_IF_ERROR(Command(RequestType::kSetOwner));
  if (Has(kProtocolMq)) {
    ASSIGN_OR_RETURN(const uint64_t queues,
                     AskNumber(RequestType::kGetQueueNum));
    if (queues < options_.queues) {
      return absl::InvalidArgumentError(
          absl::StrCat("the device has ", queues, " queues"));
    }
  }
  if (Has(kProtocolBackendReq)) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
      return ErrnoStatus("socketpair");
    }
    backend_channel_.Reset(pair[0]);
    const UniqueFd theirs(pair[1]);
    RETURN_IF_ERROR(Command(RequestType::kSetBackendReqFd, {}, {theirs.get()}));
  }
  return MakeQueues();
}

absl::Status FrontEnd::MakeQueues() {
  queues_.clear();
  for (uint16_t i = 0; i < options_.queues; ++i) {
    FakeDriver::Options driver;
    driver.size = options_.queue_size;
    driver.event_idx = (features_ & kFeatureEventIdx) != 0;
    driver.indirect = (features_ & kFeatureIndirect) != 0;
    driver.guest_address = kGuestAddress + i * options_.queue_memory;
    driver.user_address = kUserAddress + i * options_.queue_memory;
    Queue queue;
    queue.driver = std::make_unique<FakeDriver>(
        driver, memory_.span().subspan(i * options_.queue_memory,
                                       options_.queue_memory));
    ASSIGN_OR_RETURN(queue.kick, MakeEventFd());
    ASSIGN_OR_RETURN(queue.call, MakeEventFd());
    queues_.push_back(std::move(queue));
  }
  return absl::OkStatus();
}

absl::Status FrontEnd::SetFeatures() {
  return Command(RequestType::kSetFeatures, BytesOf(features_));
}

absl::Status FrontEnd::ShareInflight() {
  if (!options_.inflight || !Has(kProtocolInflightShmfd)) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(SetFeatures());
  InflightDescription inflight{0, 0, options_.queues, options_.queue_size, 0};
  ASSIGN_OR_RETURN(Reply reply,
                   Ask(RequestType::kGetInflightFd, BytesOf(inflight)));
  ASSIGN_OR_RETURN(inflight, Value<InflightDescription>(reply));
  if (inflight.mmap_size == 0 || reply.fds.size() != 1) {
    return absl::InternalError("no in-flight region");
  }
  inflight_fd_ = std::move(reply.fds[0]);
  return Command(RequestType::kSetInflightFd, BytesOf(inflight),
                 {inflight_fd_.get()});
}

absl::Status FrontEnd::ShareMemory() {
  RETURN_IF_ERROR(SetFeatures());
  const MemoryRegion region{kGuestAddress, memory_.size(), kUserAddress, 0};
  if (options_.memory_by_slots) {
    return Command(RequestType::kAddMemReg,
                   BytesOf(SingleMemoryRegion{0, region}), {memory_fd_.get()});
  }
  return Command(RequestType::kSetMemTable,
                 vhost_user::MemoryTablePayload({region}), {memory_fd_.get()});
}

absl::Status FrontEnd::SetVring(RequestType type, uint16_t queue,
                                uint32_t num) {
  return Command(type, BytesOf(VringState{queue, num}));
}

absl::Status FrontEnd::SetVringFd(RequestType type, uint16_t queue,
                                  const UniqueFd& fd) {
  return Command(type, BytesOf(uint64_t{queue}), {fd.get()});
}

absl::Status FrontEnd::SetVringAddress(uint16_t index) {
  FakeDriver& driver = *queues_[index].driver;
  const auto user = [&driver](const void* at) {
    return ToInt(driver.ToUser(at));
  };
  const SplitRingConfig ring = driver.config();
  const uint32_t flags = logging_ ? kVringFlagLog : 0;
  return Command(RequestType::kSetVringAddr,
                 BytesOf(VringAddress{index, flags, user(ring.descriptors),
                                      user(ring.used), user(ring.available),
                                      ToInt(driver.ToGuest(ring.used))}));
}

absl::Status FrontEnd::StartQueue(uint16_t index) {
  Queue& queue = queues_[index];
  RETURN_IF_ERROR(
      SetVring(RequestType::kSetVringNum, index, options_.queue_size));
  RETURN_IF_ERROR(SetVring(RequestType::kSetVringBase, index, queue.base));
  RETURN_IF_ERROR(SetVringAddress(index));
  RETURN_IF_ERROR(SetVringFd(RequestType::kSetVringKick, index, queue.kick));
  RETURN_IF_ERROR(SetVringFd(RequestType::kSetVringCall, index, queue.call));
  queue.started = true;
  if ((features_ & kFeatureProtocolFeatures) == 0) return absl::OkStatus();
  return SetVring(RequestType::kSetVringEnable, index, 1);
}

absl::StatusOr<uint16_t> FrontEnd::StopQueue(uint16_t index) {
  ASSIGN_OR_RETURN(const Reply reply, Ask(RequestType::kGetVringBase,
                                          BytesOf(VringState{index, 0})));
  ASSIGN_OR_RETURN(const VringState state, Value<VringState>(reply));
  if (state.index != index || state.num > 0xffff) {
    return absl::InternalError(
        absl::StrCat("GET_VRING_BASE: queue ", state.index, " at ", state.num));
  }
  queues_[index].base = static_cast<uint16_t>(state.num);
  queues_[index].started = false;
  return queues_[index].base;
}

absl::StatusOr<FrontEnd::Answer> FrontEnd::Transact(
    uint16_t queue, absl::Span<const Buffer> buffers) {
  const absl::optional<uint64_t> request = driver(queue).Post(buffers);
  if (!request.has_value()) {
    return absl::ResourceExhaustedError("the ring or its memory is full");
  }
  if (driver(queue).NeedsKick()) RETURN_IF_ERROR(Kick(queue));
  while (true) {
    driver(queue).EnableInterrupts();
    for (Answer& answer : driver(queue).Collect()) {
      if (answer.request == *request) return std::move(answer);
    }
    RETURN_IF_ERROR(WaitForCall(queue));
  }
}

absl::Status FrontEnd::Kick(uint16_t queue) {
  if (eventfd_write(queues_[queue].kick.get(), 1) != 0) {
    return ErrnoStatus("write to kick");
  }
  return absl::OkStatus();
}

absl::Status FrontEnd::WaitForCall(uint16_t queue) {
  const UniqueFd& call = queues_[queue].call;
  RETURN_IF_ERROR(WaitReadable(call, "an interrupt"));
  eventfd_t count;
  if (eventfd_read(call.get(), &count) != 0) return ErrnoStatus("read call");
  return absl::OkStatus();
}

absl::Status FrontEnd::ReplaceCall(uint16_t queue) {
  ASSIGN_OR_RETURN(UniqueFd call, MakeEventFd());
  RETURN_IF_ERROR(SetVringFd(RequestType::kSetVringCall, queue, call));
  queues_[queue].call = std::move(call);
  return absl::OkStatus();
}

absl::Status FrontEnd::StartDirtyLog() {
  const uint64_t end = kGuestAddress + memory_.size();
  const size_t size = (end + kBytesPerLogByte - 1) / kBytesPerLogByte;
  ASSIGN_OR_RETURN(const UniqueFd fd, CreateSealedMemfd("dirty-log", size));
  ASSIGN_OR_RETURN(log_, MapShared(fd, 0, size, MapAccess::kReadWrite));
  ASSIGN_OR_RETURN(const Reply reply,
                   Ask(RequestType::kSetLogBase,
                       BytesOf(LogDescription{size, 0}), {fd.get()}));
  ASSIGN_OR_RETURN(const uint64_t verdict, Value<uint64_t>(reply));
  if (verdict != 0) return absl::AbortedError("the log was refused");
  return LogQueues(true);
}

absl::Status FrontEnd::StopDirtyLog() { return LogQueues(false); }

absl::Status FrontEnd::LogUsedRing(uint16_t queue, bool on) {
  logging_ = on;
  return SetVringAddress(queue);
}

absl::Status FrontEnd::LogQueues(bool on) {
  logging_ = on;
  features_ = on ? features_ | kFeatureLogAll : features_ & ~kFeatureLogAll;
  RETURN_IF_ERROR(SetFeatures());
  for (uint16_t i = 0; i < queues_.size(); ++i) {
    if (queues_[i].started) RETURN_IF_ERROR(SetVringAddress(i));
  }
  return absl::OkStatus();
}

std::vector<uint64_t> FrontEnd::TakeDirtyPages() {
  std::vector<uint64_t> pages;
  for (size_t i = 0; i < log_.size(); ++i) {
    const uint8_t byte =
        __atomic_exchange_n(log_.data() + i, uint8_t{0}, __ATOMIC_ACQ_REL);
    for (size_t bit = 0; bit < 8; ++bit) {
      if ((byte >> bit & 1) != 0) pages.push_back(i * 8 + bit);
    }
  }
  return pages;
}

absl::Status FrontEnd::Command(RequestType type,
                               const std::vector<uint8_t>& payload,
                               absl::Span<const int> fds) {
  const bool acknowledged = Has(kProtocolReplyAck);
  RETURN_IF_ERROR(SendRaw(Message(type, payload, acknowledged), fds));
  if (!acknowledged) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Reply reply, Receive());
  ASSIGN_OR_RETURN(const uint64_t verdict, Value<uint64_t>(reply));
  if (reply.header.request != static_cast<uint32_t>(type) || verdict != 0) {
    return absl::AbortedError(absl::StrCat(
        "request ", static_cast<uint32_t>(type), " was answered with ", verdict,
        " for request ", reply.header.request));
  }
  return absl::OkStatus();
}

absl::StatusOr<FrontEnd::Reply> FrontEnd::Ask(
    RequestType type, const std::vector<uint8_t>& payload,
    absl::Span<const int> fds) {
  RETURN_IF_ERROR(SendRaw(Message(type, payload), fds));
  ASSIGN_OR_RETURN(Reply reply, Receive());
  if (reply.header.request != static_cast<uint32_t>(type)) {
    return absl::InternalError(absl::StrCat("a reply to request ",
                                            reply.header.request, ", not ",
                                            static_cast<uint32_t>(type)));
  }
  return reply;
}

absl::StatusOr<uint64_t> FrontEnd::AskNumber(RequestType type) {
  ASSIGN_OR_RETURN(const Reply reply, Ask(type));
  return Value<uint64_t>(reply);
}

absl::StatusOr<std::vector<uint8_t>> FrontEnd::GetConfig(uint32_t offset,
                                                         uint32_t size) {
  ASSIGN_OR_RETURN(Reply reply,
                   Ask(RequestType::kGetConfig,
                       ConfigPayload(offset, 0, std::vector<uint8_t>(size))));
  if (reply.payload.size() != sizeof(ConfigHeader) + size) {
    return absl::AbortedError("the configuration space was not read");
  }
  return std::vector<uint8_t>(reply.payload.begin() + sizeof(ConfigHeader),
                              reply.payload.end());
}

absl::Status FrontEnd::SetConfig(uint32_t offset,
                                 const std::vector<uint8_t>& value) {
  return Command(RequestType::kSetConfig, ConfigPayload(offset, 0, value));
}

absl::Status FrontEnd::SendRaw(absl::Span<const uint8_t> bytes,
                               absl::Span<const int> fds) {
  const absl::Status sent = SendWithFds(socket_, bytes, fds);
  if (absl::IsFailedPrecondition(sent)) {
    return absl::UnavailableError("the back-end has closed the connection");
  }
  return sent;
}

absl::StatusOr<FrontEnd::Reply> FrontEnd::Receive() {
  return ReceiveFrom(socket_);
}

absl::StatusOr<FrontEnd::Reply> FrontEnd::ReceiveBackendRequest() {
  return ReceiveFrom(backend_channel_);
}

absl::Status FrontEnd::WaitForClose() {
  const absl::StatusOr<Reply> reply = Receive();
  if (reply.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the back-end answered request ", reply->header.request));
  }
  return absl::IsUnavailable(reply.status()) ? absl::OkStatus()
                                             : reply.status();
}

absl::StatusOr<FrontEnd::Reply> FrontEnd::ReceiveFrom(BorrowedFd socket) {
  Reply reply;
  uint8_t header[sizeof(MessageHeader)];
  RETURN_IF_ERROR(ReceiveExactly(socket, absl::MakeSpan(header), reply.fds));
  std::memcpy(&reply.header, header, sizeof(header));
  if (reply.header.size > vhost_user::kMaxPayloadSize) {
    return absl::InternalError(
        absl::StrCat("a reply of ", reply.header.size, " bytes"));
  }
  reply.payload.resize(reply.header.size);
  RETURN_IF_ERROR(
      ReceiveExactly(socket, absl::MakeSpan(reply.payload), reply.fds));
  return reply;
}

absl::Status FrontEnd::ReceiveExactly(BorrowedFd socket,
                                      absl::Span<uint8_t> bytes,
                                      std::vector<UniqueFd>& fds) {
  while (!bytes.empty()) {
    RETURN_IF_ERROR(WaitReadable(socket, "the back-end"));
    ReceivedFds received;
    ASSIGN_OR_RETURN(const ReceivedMessage part,
                     ReceiveWithFds(socket, bytes, received));
    if (part.size == 0) {
      return absl::UnavailableError("the back-end has closed the connection");
    }
    for (size_t i = 0; i < received.count; ++i) {
      fds.push_back(std::move(received.fds[i]));
    }
    bytes.remove_prefix(part.size);
  }
  return absl::OkStatus();
}

absl::Status FrontEnd::WaitReadable(BorrowedFd fd, const char* what) {
  const absl::Time deadline = absl::Now() + options_.patience;
  while (true) {
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    pollfd entry = {fd.get(), POLLIN, 0};
    const int ready = poll(&entry, 1, left > 0 ? static_cast<int>(left) : 0);
    if (ready > 0) return absl::OkStatus();
    if (ready == 0) {
      return absl::DeadlineExceededError(absl::StrCat("waited for ", what));
    }
    if (errno != EINTR) return ErrnoStatus("poll");
  }
}

}  // namespace holdfast::testing
