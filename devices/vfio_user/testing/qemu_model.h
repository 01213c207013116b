#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_QEMU_MODEL_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_QEMU_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "devices/vfio_user/message.h"
#include "devices/vfio_user/testing/client_wire.h"
#include "devices/vfio_user/testing/message_builder.h"

namespace holdfast::vfio_user {

// QEMU 11.1's vfio-user-pci as a server meets it, without a QEMU: what it
// sends, in its order, and what becomes of the guest and of the connection when
// the server answers wrongly, late or not at all. It forgives nothing that QEMU
// does not forgive, and never recovers where QEMU does not.
//
// A q35 of 64 MiB. What Realize, BootFirmware and the vectors send, and what
// becomes of each mistake, is what a QEMU 11.1.3 was seen to do
// (../golden/qemu_*.txt; tests/qemu/qemu_model_test.py records it again).
//
// Threads: one.
class QemuModel {
 public:
  static constexpr uint64_t kMemorySize = uint64_t{64} << 20;

  explicit QemuModel(ClientWire& wire) : wire_(wire) {}

  // The device is plugged in, and the machine is reset. False: QEMU refuses the
  // device, and ends.
  bool Realize();

  // The machine is switched on: SeaBIOS finds the device, sizes and places its
  // BARs, which must be of 4096 bytes, and moves itself about in memory. No
  // BAR is read back: QEMU answers that itself.
  void BootFirmware();

  // What a driver of Linux does with MSI-X, of one vector: enables all with all
  // masked, unmasks the one in the table, lets all through. What is written to
  // the table stays in QEMU. Then a mask of one vector taken away again, and
  // the end of it.
  void EnableMsix();
  void UnmaskAgain();
  void DisableMsix();

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
  using Attached = ClientWire::Attached;

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
  // What the machine's memory is becomes something else.
  struct Piece {
    uint64_t address;
    uint64_t size;
    uint32_t flags;
    Attached attached;
  };
  void Remap(const std::vector<Piece>& gone, const std::vector<Piece>& now);
  void PlaceBars();
  uint64_t Config(uint64_t offset, uint32_t size) {
    return Read(7, offset, size);
  }
  uint8_t ConfigByte(size_t offset) const {
    return offset < config_.size() ? config_[offset] : 0;
  }

  ClientWire& wire_;
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
  uint8_t msix_at_ = 0;  // Its capability; 0: none.
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_QEMU_MODEL_H_
