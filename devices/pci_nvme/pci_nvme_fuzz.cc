// A guest that does whatever it likes: registers, doorbells, queues in any
// place, commands of random bytes, restarts in between. The controller lives,
// answers registers, and can be reset to a state in which it works.
#include <cstdint>
#include <cstring>

#include "base/testing/fuzz_input.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/pci_nvme/testing/nvme_driver.h"

namespace {

using ::holdfast::nvme::AdminOpcode;
using ::holdfast::nvme::Command;
using ::holdfast::nvme::IoOpcode;
using ::holdfast::nvme::kConfiguration;
using ::holdfast::nvme::kDoorbells;
using ::holdfast::nvme::kReady;
using ::holdfast::nvme::Status;
using ::holdfast::nvme::testing::NvmeClass;
using ::holdfast::nvme::testing::NvmeDriver;
using ::holdfast::nvme::testing::NvmeGuest;
using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::PciClass;
using ::holdfast::testing::PciGuest;
using ::holdfast::testing::Require;

constexpr size_t kMaxInput = 128;  // Bytes.
constexpr uint64_t kShadows = 0xa000;

// Mostly such as means something.
Command CommandFrom(FuzzInput& input) {
  Command command = {};
  command.opcode = input.Take<uint8_t>() % 17;
  if (command.opcode == 16) {
    command.opcode = static_cast<uint8_t>(AdminOpcode::kDoorbellBuffers);
  }
  const uint8_t shape = input.Take<uint8_t>();
  command.flags = (shape & 0x80) != 0 ? input.Take<uint8_t>() : 0;
  command.nsid = (shape & 0x40) != 0 ? input.Take<uint32_t>() : 1;
  command.prp1 = (shape & 0x20) != 0 ? input.Take<uint64_t>()
                                     : input.Take<uint8_t>() % 20 * 4096u;
  command.prp2 = (shape & 0x10) != 0 ? input.Take<uint64_t>()
                                     : input.Take<uint8_t>() % 20 * 4096u;
  command.cdw10 =
      (shape & 0x08) != 0 ? input.Take<uint32_t>() : input.Take<uint8_t>() % 64;
  command.cdw11 =
      (shape & 0x04) != 0 ? input.Take<uint32_t>() : input.Take<uint8_t>() % 4;
  command.cdw12 =
      (shape & 0x02) != 0 ? input.Take<uint32_t>() : input.Take<uint8_t>() % 24;
  return command;
}

void Act(PciGuest& guest, NvmeDriver& driver, FuzzInput& input) {
  switch (input.Take<uint8_t>() % 8) {
    case 0:
      guest.Write32(0, input.Take<uint16_t>() % 0x40 / 4 * 4,
                    input.Take<uint32_t>());
      return;
    case 1:
      guest.Write32(0, kDoorbells.offset() + input.Take<uint8_t>() % 8 * 4,
                    input.Take<uint8_t>() % 20);
      return;
    case 2:
      return guest.Attach(guest.memory());
    case 3:
      guest.WriteConfig(0x04, input.Take<uint8_t>() % 8, 2);
      return;
    case 4:
      return driver.SetConfiguration(0x00460000 | input.Take<uint8_t>() % 2 |
                                     (input.Take<uint8_t>() % 4 << 14));
    case 7: {
      // A doorbell in memory, if the driver has told where, as the corpus does.
      const uint64_t at = kShadows + input.Take<uint8_t>() % 8 * 4;
      const uint8_t value[4] = {
          static_cast<uint8_t>(input.Take<uint8_t>() % 20)};
      return guest.StoreRam(at, value);
    }
    default: {
      const uint16_t queue = input.Take<uint8_t>() % 3;
      driver.Submit(queue, CommandFrom(input));
      driver.RingTail(queue);
      driver.Poll(queue);
      driver.Acknowledge(queue);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A life takes a millisecond: short ones find as much.
  if (size > kMaxInput) return 0;
  FuzzInput input(data, size);
  // Made once: that takes longer than most lives.
  static const PciClass device =
      NvmeClass({{"num-queues", "2"}, {"shadow-doorbells", "on"}});
  static PciGuest guest(device, NvmeGuest());
  guest.Format(guest.memory());
  guest.set_next_id(0);
  guest.Attach(guest.memory());
  NvmeDriver driver(guest);
  driver.Enable();
  driver.CreateQueue(1);
  while (!input.empty()) Act(guest, driver, input);
  guest.EnableMaster();
  driver.SetConfiguration(0x00460001);
  driver.SetConfiguration(0);
  Require(driver.status() == 0);
  std::memset(guest.ram().data(), 0, NvmeDriver::kData);
  NvmeDriver again(guest);
  again.Enable();
  Require(again.status() == kReady);
  again.CreateQueue(1);
  Require(again.Try(1, NvmeDriver::Io(IoOpcode::kWrite, 0, 1)) ==
          Status::kSuccess);
  return 0;
}
