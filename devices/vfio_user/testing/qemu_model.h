#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_QEMU_MODEL_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_QEMU_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/message_builder.h"

namespace holdfast::vfio_user {

// How a QemuModel reaches a server: a socket, or a script of a bad one.
class QemuWire {
 public:
  virtual ~QemuWire() = default;

  // What goes with a message: the file of the guest's memory, or an eventfd.
  enum class Attached { kNothing, kMemory, kEvent };
  // False: the server has closed its end.
  virtual bool Send(const Bytes& message, Attached attached) = 0;

  // Waits for bytes, which it appends, and counts descriptors that came with
  // them. kNothing: none came for as long as QEMU waits (x-msg-timeout, 5 s).
  enum class Came { kBytes, kNothing, kEnd };
  virtual Came Receive(Bytes& bytes, size_t& descriptors) = 0;
};

// QEMU 11.1's vfio-user-pci as a server meets it, without a QEMU: what it
// sends, in its order, and what becomes of the guest and of the connection when
// the server answers wrongly, late or not at all. It forgives nothing that QEMU
// does not forgive, and never recovers where QEMU does not.
//
// A machine of 64 MiB without a guest that runs. What Realize sends, and what
// becomes of each mistake, is what a QEMU 11.1.3 was seen to do
// (../golden/qemu_*.txt; tests/qemu/qemu_model_test.py records it again).
//
// Threads: one.
class QemuModel {
 public:
  static constexpr uint64_t kMemorySize = uint64_t{64} << 20;

  explicit QemuModel(QemuWire& wire) : wire_(wire) {}

  // The device is plugged in, and the machine is reset. False: QEMU refuses the
  // device, and ends.
  bool Realize();

  // What the guest does. A read that fails is all ones, a write that fails is
  // lost, and nobody is told. Configuration space is written with a reply, all
  // else without.
  uint64_t Read(uint32_t region, uint64_t offset, uint32_t size);
  void Write(uint32_t region, uint64_t offset, uint64_t value, uint32_t size);
  // It reboots.
  void Reset();

  // Every message that was sent, a line each, but for its id.
  const std::vector<std::string>& sent() const { return sent_; }
  // What QEMU prints of it, which an administrator may read and no guest does.
  const std::vector<std::string>& said() const { return said_; }
  // How often the guest stood still until QEMU gave up.
  int timeouts() const { return timeouts_; }
  // The connection is over, and with it the device, until the machine ends.
  bool dead() const { return dead_; }

 private:
  struct Pending {
    uint16_t id;
    size_t most;      // Bytes of a reply for which there is room.
    bool expects_fd;  // One, and not more.
    std::optional<Bytes> reply;
  };
  using Attached = QemuWire::Attached;

  // Sends, and waits for the reply; none: it did not come, or says error.
  std::optional<Bytes> Ask(Command command, const Bytes& payload,
                           size_t reply_size = 0,
                           Attached attached = Attached::kNothing);
  // Sends without waiting; Await waits for the last one.
  void Begin(Command command, const Bytes& payload, Attached attached);
  void Await();
  uint16_t Put(Command command, const Bytes& payload, uint32_t flags,
               Attached attached);
  std::optional<Bytes> WaitFor(uint16_t id);
  // Reads what has come, as long as it makes sense.
  void Digest(size_t descriptors);
  void DigestReply(const MessageHeader& header, size_t descriptors);
  void Refuse(const MessageHeader& header);
  Pending* Find(uint16_t id);
  void Die(absl::string_view why);
  void Say(absl::string_view what) { said_.emplace_back(what); }

  bool Negotiate();
  bool AskRegions();
  bool AskVectors(uint32_t irq, uint32_t* count);
  bool AskCapabilities();
  void AskRomSize();
  void SetIrqs(uint32_t flags, uint32_t irq, uint32_t count, Attached attached);
  void EnableIntx();
  void MapMemory(uint32_t flags, uint64_t address, uint64_t size,
                 Attached attached);
  void UnmapMemory(uint64_t address, uint64_t size);
  uint64_t Config(uint64_t offset, uint32_t size) {
    return Read(7, offset, size);
  }
  uint8_t ConfigByte(size_t offset) const {
    return offset < config_.size() ? config_[offset] : 0;
  }

  QemuWire& wire_;
  std::vector<std::string> sent_;
  std::vector<std::string> said_;
  int timeouts_ = 0;
  bool dead_ = false;
  uint16_t next_id_ = 0;
  std::vector<Pending> pending_;
  Bytes stream_;
  std::optional<uint16_t> partial_;  // Whose reply has come in part.

  uint64_t region_sizes_[9] = {};
  Bytes config_;
  bool has_pin_ = false;
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_QEMU_MODEL_H_
