#ifndef HOLDFAST_DEVICES_KEEPER_TESTING_FAKE_BACKEND_H_
#define HOLDFAST_DEVICES_KEEPER_TESTING_FAKE_BACKEND_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "devices/vhost_user/codec.h"
#include "devices/vhost_user/message.h"

namespace holdfast::keeper::testing {

// One life of a back-end: answers as a good one does, writes down what it is
// told, and runs no ring. A thread of its own.
class FakeBackend {
 public:
  struct Options {
    uint64_t features = vhost_user::kFeatureProtocolFeatures | (1ull << 32);
    uint64_t protocol_features =
        vhost_user::kProtocolMq | vhost_user::kProtocolReplyAck |
        vhost_user::kProtocolConfig | vhost_user::kProtocolInflightShmfd |
        vhost_user::kProtocolConfigureMemSlots;
    uint64_t queues = 2;
    uint64_t mem_slots = 32;
    std::vector<uint8_t> config = std::vector<uint8_t>(60, 0x11);
    uint32_t base = 5;  // What GET_VRING_BASE says.
    // Asked before each request is answered. False: this life ends there.
    std::function<bool(vhost_user::RequestType)> go_on = nullptr;
    // Asked instead of answering, with the socket. False: it answers.
    std::function<bool(const vhost_user::Request&, BorrowedFd)> instead =
        nullptr;
    // Of requests that are to be refused, what the acknowledgement says.
    std::function<uint64_t(vhost_user::RequestType)> verdict = nullptr;
  };

  FakeBackend(UniqueFd socket, Options options);
  explicit FakeBackend(UniqueFd socket)
      : FakeBackend(std::move(socket), Options()) {}
  ~FakeBackend();

  // What it was told, such as "SET_VRING_KICK 0" and "SET_MEM_TABLE +1" (with
  // one descriptor).
  std::vector<std::string> told();
  // Waits for it; false: it was never told that.
  bool WaitFor(const std::string& what);
  // Ends this life.
  void End();
  // Its end, or the other's.
  void WaitForEnd();
  bool ended();
  // Its configuration space is another one from now on.
  void SetConfig(std::vector<uint8_t> config);
  // The in-flight regions that it was given.
  std::vector<vhost_user::InflightDescription> regions();
  // The last descriptor that came with a request of this type; -1: none.
  int fd_of(vhost_user::RequestType type);

 private:
  void Run();
  bool Receive(std::vector<uint8_t>& message, std::vector<UniqueFd>& fds);
  bool Answer(const vhost_user::Request& request);

  const UniqueFd socket_;
  Options options_;  // All but the configuration space is constant.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> told_;
  std::vector<std::pair<vhost_user::RequestType, UniqueFd>> fds_;
  std::vector<vhost_user::InflightDescription> regions_;
  bool ended_ = false;
  std::thread thread_;
};

}  // namespace holdfast::keeper::testing

#endif  // HOLDFAST_DEVICES_KEEPER_TESTING_FAKE_BACKEND_H_
