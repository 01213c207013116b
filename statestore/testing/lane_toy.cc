#include "statestore/testing/lane_toy.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/status/status.h"
#include "base/crc32c.h"
#include "base/unix_socket_sys.h"

namespace holdfast::testing {
namespace {

constexpr size_t kPatternPeriod = 8191;

// Bytes without a short period.
const std::vector<uint8_t>& Pattern() {
  static const auto* const pattern = [] {
    auto* bytes = new std::vector<uint8_t>(kToyMaxReply + 2 * kPatternPeriod);
    uint64_t x = 88172645463325252u;
    for (uint8_t& byte : *bytes) {
      x ^= x << 13;
      x ^= x >> 7;
      x ^= x << 17;
      byte = static_cast<uint8_t>(x >> 32);
    }
    return bytes;
  }();
  return *pattern;
}

template <typename T>
T ReadAs(absl::Span<const uint8_t> bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), std::min(sizeof(T), bytes.size()));
  return value;
}

ToyReply MakeReply(const ToyRequest& request, const ToyBank& after,
                   uint32_t message_crc, uint32_t fd_count) {
  ToyReply reply{};
  reply.size = request.reply_size;
  reply.id = request.id;
  reply.counter = after.counter;
  reply.chain = after.chain;
  reply.argument = request.argument;
  reply.message_crc = message_crc;
  reply.fd_count = fd_count;
  return reply;
}

}  // namespace

void ToyFill(absl::Span<uint8_t> bytes, uint64_t seed) {
  std::memcpy(bytes.data(), Pattern().data() + seed % kPatternPeriod,
              bytes.size());
}

ToyBank ToyAdvance(const ToyBank& before, absl::Span<const uint8_t> message) {
  ToyBank after = before;
  after.counter += 1;
  after.chain = (before.chain ^ Crc32c(message)) * 0x9e3779b97f4a7c15u;
  after.chain ^= after.chain >> 29;
  return after;
}

std::vector<uint8_t> ToyMessage(const ToyRequest& request) {
  std::vector<uint8_t> message(request.size);
  ToyFill(absl::MakeSpan(message), request.id);
  std::memcpy(message.data(), &request, sizeof(request));
  return message;
}

std::vector<uint8_t> ToyExpectedReply(absl::Span<const uint8_t> message,
                                      ToyBank after) {
  const auto request = ReadAs<ToyRequest>(message);
  std::vector<uint8_t> bytes(request.reply_size);
  if (bytes.empty()) return bytes;
  ToyFill(absl::MakeSpan(bytes), after.chain);
  const ToyReply reply =
      MakeReply(request, after, Crc32c(message), request.fd_count);
  std::memcpy(bytes.data(), &reply, sizeof(reply));
  return bytes;
}

absl::StatusOr<size_t> ToyHandler::MessageSize(
    absl::Span<const uint8_t> header) const {
  return ReadAs<ToyRequest>(header).size;
}

absl::Status ToyHandler::Escrow(absl::Span<const uint8_t> message,
                                absl::Span<UniqueFd> fds) {
  ++escrows;
  return Deposit(message, fds);
}

absl::Status ToyHandler::Deposit(absl::Span<const uint8_t> message,
                                 absl::Span<UniqueFd> fds) {
  if (!store_.valid()) return absl::OkStatus();
  const ToyEscrow note{ReadAs<ToyRequest>(message).id,
                       static_cast<uint32_t>(fds.size())};
  std::array<int, kMaxMessageFds> numbers{};
  if (fds.size() > numbers.size()) {
    return absl::InvalidArgumentError("toy: too many descriptors");
  }
  for (size_t i = 0; i < fds.size(); ++i) numbers[i] = fds[i].get();
  return SendWithFds(store_,
                     {reinterpret_cast<const uint8_t*>(&note), sizeof(note)},
                     absl::MakeSpan(numbers).first(fds.size()));
}

absl::StatusOr<LaneHandler::Outcome> ToyHandler::Execute(
    absl::Span<const uint8_t> message, size_t fd_count,
    absl::Span<const uint8_t> old_bank, absl::Span<uint8_t> new_bank,
    absl::Span<uint8_t> reply_bytes, uint32_t attempts) {
  ++executions;
  last_attempts = attempts;
  const auto request = ReadAs<ToyRequest>(message);
  if ((request.flags & kToyBadRequest) != 0 ||
      request.reply_size > reply_bytes.size() ||
      (request.reply_size != 0 && request.reply_size < sizeof(ToyReply))) {
    return absl::InvalidArgumentError("toy: bad request");
  }
  const ToyBank after = ToyAdvance(ReadAs<ToyBank>(old_bank), message);
  ToyFill(new_bank, after.chain);
  std::memcpy(new_bank.data(), &after,
              std::min(sizeof(after), new_bank.size()));
  if (request.reply_size == 0) return Outcome{};
  const ToyReply reply = MakeReply(request, after, Crc32c(message),
                                   static_cast<uint32_t>(fd_count));
  ToyFill(reply_bytes.first(request.reply_size), after.chain);
  std::memcpy(reply_bytes.data(), &reply, sizeof(reply));
  return Outcome{request.reply_size, (request.flags & kToyWantsFd) != 0};
}

void ToyHandler::Committed(absl::Span<const uint8_t>) { ++commits_seen; }

absl::Span<const int> ToyHandler::ReplyFds(absl::Span<const uint8_t>) {
  return absl::MakeConstSpan(&gift_, 1);
}

}  // namespace holdfast::testing
