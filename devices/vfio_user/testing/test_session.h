#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_TEST_SESSION_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_TEST_SESSION_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status_macros.h"
#include "devices/vfio_user/codec.h"
#include "devices/vfio_user/session.h"
#include "devices/vfio_user/testing/message_builder.h"
#include "devices/vfio_user/testing/torture_device.h"

namespace holdfast::vfio_user {

// Does what it is asked and writes it down: "release 0x1000", "reset".
class FakeEnvironment : public SessionEnvironment {
 public:
  explicit FakeEnvironment(RegionDevice& device) : device_(device) {}

  std::vector<std::string> effects;
  // The inode behind every descriptor of a message to come; 0: another one for
  // every slot.
  uint64_t inode = 0;
  absl::Status file_status;
  absl::Status reset_status;
  absl::Status release_status;

  absl::StatusOr<FileId> IdentifyFile(store::Slot slot) override {
    return FileId{1, inode != 0 ? inode : 1000u + slot, 2};
  }
  absl::Status CheckFile(store::Slot, uint32_t, uint64_t, uint64_t) override {
    return file_status;
  }
  absl::Status ReleaseWindow(const WindowState& window) override {
    effects.push_back(absl::StrCat("release ", window.address));
    return release_status;
  }
  absl::Status ResetDevice() override {
    effects.push_back("reset");
    if (!reset_status.ok()) return reset_status;
    return device_.Reset();
  }

  bool has_twin = true;
  bool OfferTwin() override {
    effects.push_back("twin");
    return has_twin;
  }

  // Migration: a stream of bytes, and every arc is written down.
  bool can_migrate = true;
  Bytes data = Bytes(100, 7);
  absl::Status state_status;
  uint64_t dirty_bit = 3;

  bool CanMigrate() const override { return can_migrate; }
  absl::Status EnterState(MigrationState from, MigrationState to) override {
    effects.push_back(
        absl::StrCat(static_cast<int>(from), " to ", static_cast<int>(to)));
    return state_status;
  }
  absl::StatusOr<size_t> ReadMigrationData(uint64_t offset,
                                           absl::Span<uint8_t> out) override {
    const size_t size =
        std::min(out.size(), data.size() - std::min(data.size(), offset));
    if (size != 0) std::memcpy(out.data(), data.data() + offset, size);
    return size;
  }
  absl::Status WriteMigrationData(uint64_t offset,
                                  absl::Span<const uint8_t> bytes) override {
    effects.push_back(absl::StrCat("data ", offset, "+", bytes.size()));
    return absl::OkStatus();
  }
  absl::Status StartLogging(uint64_t page_size,
                            absl::Span<const LoggingRange> ranges) override {
    effects.push_back(absl::StrCat("log ", page_size, " ", ranges.size()));
    return absl::OkStatus();
  }
  absl::Status ReportDirty(uint64_t, uint64_t, uint64_t,
                           absl::Span<uint8_t> bitmap) override {
    bitmap[0] = static_cast<uint8_t>(1u << dirty_bit);
    return absl::OkStatus();
  }

 private:
  RegionDevice& device_;
};

// What came of one message.
struct Outcome {
  Bytes reply;  // Empty: none.
  Decision decision;

  MessageHeader header() const {
    MessageHeader header{};
    if (reply.size() >= sizeof(header)) {
      std::memcpy(&header, reply.data(), sizeof(header));
    }
    return header;
  }
  // What the client is told; 0: no error, or nothing.
  uint32_t error() const {
    return (header().flags & kFlagError) != 0 ? header().error : 0;
  }
  Bytes payload() const {
    return reply.size() <= sizeof(MessageHeader)
               ? Bytes()
               : Bytes(reply.begin() + sizeof(MessageHeader), reply.end());
  }
  template <typename T>
  T As() const {
    T value{};
    const Bytes bytes = payload();
    std::memcpy(&value, bytes.data(), std::min(sizeof(T), bytes.size()));
    return value;
  }
};

// The loop around Decide() without its lane, store and socket. Every message is
// decided twice, as after a crash before the commit, and the second outcome
// must be the first; every state must satisfy its invariants. A breach of these
// is kInternal, which Decide() itself never returns.
class TestSession {
 public:
  explicit TestSession(BorrowedFd window = BorrowedFd(-1))
      : device(device_memory_, window), environment(device) {}

  Serving serving;
  TortureDevice device;
  FakeEnvironment environment;
  SessionState state{};
  std::unique_ptr<SessionMemory> memory = std::make_unique<SessionMemory>();
  const ConstWindowTable table{memory->windows};

  absl::StatusOr<Outcome> Deliver(const Bytes& message, size_t fds = 0) {
    const Request request = Parse(message, fds);
    const SlotList slots = SlotsFor(state, table, request);
    Bytes first(serving.max_transfer + kReplyOverhead);
    absl::StatusOr<Decision> decision = DecideOnce(request, slots, first);
    const auto effects = environment.effects;
    Bytes second = first;  // There is one buffer, and it is not cleared.
    const absl::StatusOr<Decision> again = DecideOnce(request, slots, second);
    environment.effects = effects;
    if (decision.status() != again.status()) {
      return absl::InternalError("decided differently the second time");
    }
    RETURN_IF_ERROR(decision.status());
    first.resize(decision->reply_size);
    second.resize(again->reply_size);
    if (first != second || decision->refusal != again->refusal ||
        std::memcmp(&decision->next, &again->next, sizeof(state)) != 0) {
      return absl::InternalError("decided differently the second time");
    }
    if (const absl::Status broken = CheckInvariants(decision->next, table);
        !broken.ok()) {
      return absl::InternalError(broken.message());
    }
    if (device.misnamed != 0) return absl::InternalError("an access misnamed");
    state = decision->next;
    return Outcome{first, *decision};
  }

  absl::StatusOr<Outcome> Send(Command command, const Bytes& payload = {},
                               size_t fds = 0, uint32_t flags = 0) {
    return Deliver(CommandMessage(command, payload, flags), fds);
  }

  // The errno that the client gets; ~0: the connection is given up.
  uint32_t ErrorOf(Command command, const Bytes& payload, size_t fds = 0) {
    const auto outcome = Send(command, payload, fds);
    return outcome.ok() ? outcome->error() : ~0u;
  }

  absl::Status Negotiate() {
    return Deliver(
               VersionMessage(0, 1, "{\"capabilities\":{\"max_msg_fds\":8}}"))
        .status();
  }

  // The effects since the last call.
  std::vector<std::string> TakeEffects() {
    return std::exchange(environment.effects, {});
  }

 private:
  absl::StatusOr<Decision> DecideOnce(const Request& request,
                                      const SlotList& slots, Bytes& reply) {
    return Decide(state, *memory, request, slots, serving, device, environment,
                  absl::MakeSpan(reply));
  }

  TortureDevice::Memory device_memory_{};
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_TEST_SESSION_H_
