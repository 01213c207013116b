#ifndef HOLDFAST_DEVICES_VHOST_USER_TESTING_FRONT_END_H_
#define HOLDFAST_DEVICES_VHOST_USER_TESTING_FRONT_END_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/shm_sys.h"
#include "base/unique_fd.h"
#include "devices/vhost_user/message.h"
#include "devices/virtqueue/testing/fake_driver.h"

namespace holdfast::testing {

// A small VMM with a driver in it: speaks vhost-user as the front-end over a
// real socket, owns the guest's memory and drives the rings. For tests of
// whole devices, and for sending what no front-end should.
//
//   ASSIGN_OR_RETURN(auto vmm, FrontEnd::Connect(path, {}));
//   RETURN_IF_ERROR(vmm->Start());
//   ASSIGN_OR_RETURN(auto answer, vmm->Transact(0, {Buffer::Writable(8)}));
//
// Everything that waits gives up after Options::patience with
// kDeadlineExceeded. kUnavailable: the back-end has closed the connection.
// Threads: one.
class FrontEnd {
 public:
  using Buffer = FakeDriver::Buffer;
  using Answer = FakeDriver::Answer;

  struct Options {
    uint16_t queues = 1;
    uint16_t queue_size = 128;
    uint64_t queue_memory = 1 << 20;     // Guest memory a queue has to itself.
    uint64_t features = ~0ull;           // What is acknowledged of what is
    uint64_t protocol_features = ~0ull;  // ... offered, at most.
    bool inflight = true;  // GET_ and SET_INFLIGHT_FD, if offered: as QEMU.
    bool sealed_memory = true;     // Else it can be cut, as most VMMs' can.
    bool memory_by_slots = false;  // ADD_MEM_REG instead of SET_MEM_TABLE.
    absl::Duration patience = absl::Seconds(20);
  };

  // Waits for somebody to listen at `path`.
  static absl::StatusOr<std::unique_ptr<FrontEnd>> Connect(
      const std::string& path, const Options& options);
  // With a connected socket.
  static absl::StatusOr<std::unique_ptr<FrontEnd>> Adopt(
      UniqueFd socket, const Options& options);

  // ---- the life of a device, as QEMU leads it ----

  // All of the following: Negotiate, ShareInflight, ShareMemory, StartQueue.
  absl::Status Start();
  // Features, protocol features, owner, queue count, back-end channel.
  absl::Status Negotiate();
  // Acknowledges features and hands the in-flight region over. No-op if the
  // region is not wanted or not offered.
  absl::Status ShareInflight();
  absl::Status ShareMemory();
  // A ring begins where its FakeDriver is, by what the last StopQueue said.
  absl::Status StartQueue(uint16_t queue);
  // GET_VRING_BASE. Returns the index, which is also where the queue goes on.
  absl::StatusOr<uint16_t> StopQueue(uint16_t queue);

  // ---- requests of the guest ----

  FakeDriver& driver(uint16_t queue) { return *queues_[queue].driver; }
  // Posts one request, kicks, and waits for its answer (and for others; those
  // are dropped).
  absl::StatusOr<Answer> Transact(uint16_t queue,
                                  absl::Span<const Buffer> buffers);
  absl::Status Kick(uint16_t queue);
  // Waits for an interrupt and clears it.
  absl::Status WaitForCall(uint16_t queue);
  // Replaces the call descriptor, as a VMM does when the guest masks vectors.
  absl::Status ReplaceCall(uint16_t queue);

  // ---- migration ----

  // Gives the back-end a log of dirty pages and turns it on, for running
  // queues, too.
  absl::Status StartDirtyLog();
  absl::Status StopDirtyLog();
  // Only whether the used ring of a started queue is logged.
  absl::Status LogUsedRing(uint16_t queue, bool on);
  // Guest pages (address / 4096) that were marked since the last call.
  std::vector<uint64_t> TakeDirtyPages();

  // ---- single messages ----

  struct Reply {
    vhost_user::MessageHeader header{};
    std::vector<uint8_t> payload;
    std::vector<UniqueFd> fds;
  };

  // Sends and, if REPLY_ACK was negotiated, asks for the acknowledgement.
  // kAborted: the back-end said no.
  absl::Status Command(vhost_user::RequestType type,
                       const std::vector<uint8_t>& payload = {},
                       absl::Span<const int> fds = {});
  // Sends and waits for the reply to it.
  absl::StatusOr<Reply> Ask(vhost_user::RequestType type,
                            const std::vector<uint8_t>& payload = {},
                            absl::Span<const int> fds = {});
  // The same, where the reply is a number.
  absl::StatusOr<uint64_t> AskNumber(vhost_user::RequestType type);
  absl::StatusOr<std::vector<uint8_t>> GetConfig(uint32_t offset,
                                                 uint32_t size);
  absl::Status SetConfig(uint32_t offset, const std::vector<uint8_t>& value);

  // ---- anything at all ----

  absl::Status SendRaw(absl::Span<const uint8_t> bytes,
                       absl::Span<const int> fds = {});
  absl::StatusOr<Reply> Receive();
  // Waits until the back-end closes the connection. kFailedPrecondition if it
  // sends something first.
  absl::Status WaitForClose();
  // Waits for a request on the back-end channel (SET_BACKEND_REQ_FD).
  absl::StatusOr<Reply> ReceiveBackendRequest();
  // Where it would come; readable when one is there.
  BorrowedFd backend_channel() const { return backend_channel_; }

  uint64_t features() const { return features_; }
  uint64_t protocol_features() const { return protocol_features_; }
  // Guest memory; the queues' parts in their order.
  BorrowedFd memory_fd() const { return memory_fd_; }
  absl::Span<uint8_t> memory() const { return memory_.span(); }
  BorrowedFd socket() const { return socket_; }

  static constexpr uint64_t kGuestAddress = 0x40000000;
  static constexpr uint64_t kUserAddress = 0x7f4000000000;

 private:
  struct Queue {
    std::unique_ptr<FakeDriver> driver;
    UniqueFd kick;
    UniqueFd call;
    uint16_t base = 0;
    bool started = false;
  };

  FrontEnd(UniqueFd socket, const Options& options)
      : options_(options), socket_(std::move(socket)) {}

  absl::Status MakeQueues();
  absl::Status SetFeatures();
  absl::Status SetVringAddress(uint16_t queue);
  absl::Status LogQueues(bool on);
  absl::Status SetVring(vhost_user::RequestType type, uint16_t queue,
                        uint32_t num);
  absl::Status SetVringFd(vhost_user::RequestType type, uint16_t queue,
                          const UniqueFd& fd);
  bool Has(uint64_t protocol_feature) const {
    return (protocol_features_ & protocol_feature) != 0;
  }
  absl::StatusOr<Reply> ReceiveFrom(BorrowedFd socket);
  absl::Status ReceiveExactly(BorrowedFd socket, absl::Span<uint8_t> bytes,
                              std::vector<UniqueFd>& fds);
  absl::Status WaitReadable(BorrowedFd fd, const char* what);

  const Options options_;
  UniqueFd socket_;
  UniqueFd backend_channel_;
  UniqueFd memory_fd_;
  Mapping memory_;
  UniqueFd inflight_fd_;
  Mapping log_;
  std::vector<Queue> queues_;
  uint64_t features_ = 0;
  uint64_t protocol_features_ = 0;
  bool logging_ = false;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_DEVICES_VHOST_USER_TESTING_FRONT_END_H_
