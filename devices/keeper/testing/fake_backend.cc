#include "devices/keeper/testing/fake_backend.h"

#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/unix_socket_sys.h"

namespace holdfast::keeper::testing {
namespace {

using vhost_user::Request;
using vhost_user::RequestType;

constexpr std::chrono::seconds kPatience{20};

std::string TextOf(const Request& request, size_t fd_count) {
  std::string text = vhost_user::RequestName(request.type);
  switch (request.type) {
    case RequestType::kSetVringNum:
    case RequestType::kSetVringBase:
    case RequestType::kSetVringEnable:
      absl::StrAppend(&text, " ", request.vring.index, " ", request.vring.num);
      break;
    case RequestType::kGetVringBase:
      absl::StrAppend(&text, " ", request.vring.index);
      break;
    case RequestType::kSetVringKick:
    case RequestType::kSetVringCall:
      absl::StrAppend(&text, " ", request.vring_index());
      break;
    case RequestType::kSetConfig:
      absl::StrAppend(&text, " ", request.config.offset, " ",
                      int{request.config_bytes[0]});
      break;
    case RequestType::kSetProtocolFeatures:
      absl::StrAppend(&text, " ", absl::Hex(request.value));
      break;
    default:
      break;
  }
  if (fd_count != 0) absl::StrAppend(&text, " +", fd_count);
  return text;
}

}  // namespace

FakeBackend::FakeBackend(UniqueFd socket, Options options)
    : socket_(std::move(socket)),
      options_(std::move(options)),
      thread_([this] { Run(); }) {}

FakeBackend::~FakeBackend() {
  End();
  thread_.join();
}

void FakeBackend::End() { shutdown(socket_.get(), SHUT_RDWR); }

void FakeBackend::WaitForEnd() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, kPatience, [this] { return ended_; });
}

bool FakeBackend::ended() {
  std::lock_guard<std::mutex> lock(mutex_);
  return ended_;
}

void FakeBackend::SetConfig(std::vector<uint8_t> config) {
  std::lock_guard<std::mutex> lock(mutex_);
  options_.config = std::move(config);
}

std::vector<std::string> FakeBackend::told() {
  std::lock_guard<std::mutex> lock(mutex_);
  return told_;
}

bool FakeBackend::WaitFor(const std::string& what) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] {
    return std::find(told_.begin(), told_.end(), what) != told_.end();
  });
}

std::vector<vhost_user::InflightDescription> FakeBackend::regions() {
  std::lock_guard<std::mutex> lock(mutex_);
  return regions_;
}

int FakeBackend::fd_of(RequestType type) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto i = fds_.rbegin(); i != fds_.rend(); ++i) {
    if (i->first == type) return i->second.get();
  }
  return -1;
}

void FakeBackend::Run() {
  std::vector<uint8_t> message;
  std::vector<UniqueFd> fds;
  while (Receive(message, fds)) {
    const auto request = vhost_user::Parse(message);
    if (!request.ok()) break;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      told_.push_back(TextOf(*request, fds.size()));
      if (request->type == RequestType::kSetInflightFd) {
        regions_.push_back(request->inflight);
      }
      for (UniqueFd& fd : fds) fds_.emplace_back(request->type, std::move(fd));
    }
    changed_.notify_all();
    if (options_.go_on != nullptr && !options_.go_on(request->type)) break;
    const bool answered =
        options_.instead != nullptr && options_.instead(*request, socket_);
    if (!answered && !Answer(*request)) break;
  }
  End();
  std::lock_guard<std::mutex> lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

bool FakeBackend::Receive(std::vector<uint8_t>& message,
                          std::vector<UniqueFd>& fds) {
  fds.clear();
  message.resize(sizeof(vhost_user::MessageHeader));
  size_t have = 0;
  while (have < message.size()) {
    UniqueFd arrived[vhost_user::kMaxMessageFds];
    const Received part =
        ReceiveFds(socket_, absl::MakeSpan(message).subspan(have), arrived, 0);
    if (part.size <= 0) return false;
    for (size_t i = 0; i < part.fd_count; ++i) {
      fds.push_back(std::move(arrived[i]));
    }
    have += static_cast<size_t>(part.size);
    if (have == sizeof(vhost_user::MessageHeader)) {
      const auto size = vhost_user::MessageSize(message);
      if (!size.ok()) return false;
      message.resize(*size);
    }
  }
  return true;
}

bool FakeBackend::Answer(const Request& request) {
  uint8_t bytes[vhost_user::kMaxReplySize];
  const absl::Span<uint8_t> out = absl::MakeSpan(bytes);
  absl::StatusOr<size_t> size = size_t{0};
  switch (request.type) {
    case RequestType::kGetFeatures:
      size = vhost_user::EncodeReply(request.type, options_.features, out);
      break;
    case RequestType::kGetProtocolFeatures:
      size = vhost_user::EncodeReply(request.type, options_.protocol_features,
                                     out);
      break;
    case RequestType::kGetQueueNum:
      size = vhost_user::EncodeReply(request.type, options_.queues, out);
      break;
    case RequestType::kGetMaxMemSlots:
      size = vhost_user::EncodeReply(request.type, options_.mem_slots, out);
      break;
    case RequestType::kGetVringBase:
      size = vhost_user::EncodeReply(
          request.type,
          vhost_user::VringState{request.vring.index, options_.base}, out);
      break;
    case RequestType::kGetConfig: {
      std::vector<uint8_t> payload(sizeof(vhost_user::ConfigHeader));
      vhost_user::ConfigHeader header = request.config;
      std::lock_guard<std::mutex> lock(mutex_);
      if (header.offset + header.size > options_.config.size()) header.size = 0;
      std::memcpy(payload.data(), &header, sizeof(header));
      payload.insert(payload.end(), options_.config.begin() + header.offset,
                     options_.config.begin() + header.offset + header.size);
      size = vhost_user::EncodeReply(request.type, absl::MakeConstSpan(payload),
                                     out);
      break;
    }
    default:
      if (request.need_reply) {
        const uint64_t verdict =
            options_.verdict != nullptr ? options_.verdict(request.type) : 0;
        size = vhost_user::EncodeReply(request.type, verdict, out);
      }
      break;
  }
  if (!size.ok()) return false;
  return *size == 0 || SendFds(socket_, out.first(*size), {}, 0) > 0;
}

}  // namespace holdfast::keeper::testing
