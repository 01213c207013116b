#ifndef HOLDFAST_DEVICES_VFIO_USER_TESTING_CLOUD_HYPERVISOR_MODEL_H_
#define HOLDFAST_DEVICES_VFIO_USER_TESTING_CLOUD_HYPERVISOR_MODEL_H_

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

// Cloud Hypervisor with rust-vmm's vfio-user client as a server meets them:
// what is sent, in which order, with which flags and argsz, and what becomes of
// the guest when the server answers wrongly, late or not at all. After the
// sources of both (pci/src/vfio.rs and vfio_user.rs of August 2026, lib.rs of
// vfio-user 0.1.0): what of it a server must live with is named in the code.
//
// The client does one thing at a time, and waits for ever for exactly as many
// bytes as a good answer has. It looks at no id, no type, no size and no error
// of an answer: one that is shorter, as all errors are, holds the guest up
// until the connection ends; one that is longer is the beginning of the next.
//
// A machine of 64 MiB. Threads: one.
class CloudHypervisorModel {
 public:
  static constexpr uint64_t kMemorySize = uint64_t{64} << 20;

  explicit CloudHypervisorModel(ClientWire& wire) : wire_(wire) {}

  // The device is added. False: the machine does not start.
  bool Add();

  // What the guest does. A read that fails leaves the buffer, which began as
  // zeros, as it was; a write that fails is lost; nobody is told.
  uint64_t Read(uint32_t region, uint64_t offset, uint32_t size);
  void Write(uint32_t region, uint64_t offset, uint64_t value, uint32_t size);
  // A register of configuration space, 4 bytes.
  uint32_t ReadConfig(uint64_t offset);
  // The guest enables its vectors, after it has written the table, which the
  // device never sees; or disables them.
  void EnableMsix(bool enable);

  // Every message that was sent, a line each, but for its id.
  const std::vector<std::string>& sent() const { return sent_; }
  const std::vector<std::string>& said() const { return said_; }
  // A virtual processor waits for an answer, and will for ever; with it
  // everybody who wants the device.
  bool stands_still() const { return stands_still_; }
  // The connection is over.
  bool dead() const { return dead_; }

 private:
  using Attached = ClientWire::Attached;

  // Sends, and takes `size` bytes of an answer; none: there is no answer.
  std::optional<Bytes> Ask(Command command, const Bytes& payload, size_t size,
                           Attached attached = Attached::kNothing,
                           size_t count = 0);
  std::optional<Bytes> Take(size_t size);
  void Say(absl::string_view what) { said_.emplace_back(what); }

  bool Negotiate();
  bool AskRegions();
  bool AskRegion(uint32_t index);
  uint32_t AskVectors(uint32_t irq);
  void SetIrqs(uint32_t flags, uint32_t irq, uint32_t start, uint32_t count);
  void EnableIrq(uint32_t irq, uint32_t vectors);
  void DisableIrq(uint32_t irq);
  void Transfer(uint32_t region, uint64_t offset, uint64_t value,
                uint32_t size);
  uint64_t Config(uint64_t offset, uint32_t size);
  void SetConfig(uint64_t offset, uint32_t value);
  uint8_t FirstCapability();
  void WalkCapabilities();
  void WalkExtended();
  void ProbeBars();

  ClientWire& wire_;
  std::vector<std::string> sent_;
  std::vector<std::string> said_;
  bool stands_still_ = false;
  bool dead_ = false;
  uint16_t next_id_ = 0;
  std::optional<uint16_t> same_id_;  // Of the next message.
  Bytes stream_;

  bool resets_ = false;
  bool has_intx_ = false;
  bool intx_enabled_ = false;
  uint8_t msix_at_ = 0;  // Its capability; 0: none.
  uint32_t vectors_ = 0;
  uint32_t table_ = 0;
};

}  // namespace holdfast::vfio_user

#endif  // HOLDFAST_DEVICES_VFIO_USER_TESTING_CLOUD_HYPERVISOR_MODEL_H_
