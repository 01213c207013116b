// Whatever a guest writes, at any offset and in any width, with resets and
// successors between: status never goes back but to zero, a queue runs only
// when it was negotiated, with a size and vectors that it can have, the
// executor starts only what has ended, and all queues do what the registers
// say.
#include <cstdint>
#include <vector>

#include "base/testing/fuzz_input.h"
#include "devices/virtio_pci/testing/function_guest.h"

namespace {

using ::holdfast::GuestAddress;
using ::holdfast::kPciConfigRegion;
using ::holdfast::testing::FunctionGuest;
using ::holdfast::testing::FuzzInput;
using ::holdfast::testing::Require;
using ::holdfast::testing::SampleDevice;
namespace virtio_pci = ::holdfast::virtio_pci;

template <typename T>
uint64_t Get(FunctionGuest& guest, const ::holdfast::Reg<T>& reg) {
  uint64_t value = 0;
  // Without a name, and of registers that reading does not change.
  Require(guest.function()
              .Read(::holdfast::AccessId::kNone, virtio_pci::kBar, reg.offset(),
                    {reinterpret_cast<uint8_t*>(&value), sizeof(T)})
              .ok());
  return value;
}

// Follows what the executor is told: "start" and "end" as they must alternate.
class Follower {
 public:
  void Follow(FunctionGuest& guest) {
    const std::string said = guest.TakeSaid();
    for (size_t at = 0; at < said.size(); at = said.find(' ', at) + 1) {
      if (said.compare(at, 3, "end") == 0) runs_[Queue(said[at + 3])] = false;
      if (said.compare(at, 5, "start") != 0) continue;
      const int queue = Queue(said[at + 5]);
      Require(!runs_[queue]);
      runs_[queue] = true;
    }
  }
  void Forget() { runs_[0] = runs_[1] = false; }
  bool runs(int queue) const { return runs_[queue]; }

 private:
  static int Queue(char digit) {
    Require(digit == '0' || digit == '1');
    return digit - '0';
  }
  bool runs_[2] = {};
};

void CheckInvariants(FunctionGuest& guest, const Follower& follower) {
  const uint64_t status = Get(guest, virtio_pci::kDeviceStatus);
  const uint64_t features = Get(guest, virtio_pci::kDriverFeatures);
  const bool ready = (status & virtio_pci::kDriverOk) != 0;
  if ((status & virtio_pci::kFeaturesOk) != 0) {
    Require((features & ::holdfast::virtio::kFeatureVersion1) != 0);
    Require((features & 1) == 0);
  } else {
    Require(!ready);
  }
  const uint64_t select = Get(guest, virtio_pci::kQueueSelect);
  const uint64_t size = Get(guest, virtio_pci::kQueueSize);
  Require(select < 2 ? size != 0 && (size & (size - 1)) == 0 &&
                           size <= (select == 0 ? 256 : 64)
                     : size == 0);
  const uint64_t vector = Get(guest, virtio_pci::kQueueVector);
  Require(vector < 3 || vector == virtio_pci::kNoVector);
  const uint64_t enabled = Get(guest, virtio_pci::kQueueEnable);
  Require(enabled <= 1);
  if (select < 2) {
    Require(follower.runs(static_cast<int>(select)) == (ready && enabled == 1));
  }
  Require(Get(guest, virtio_pci::kQueueCount) == 2);
}

struct Step {
  uint8_t kind;
  uint32_t region;
  uint64_t offset;
  uint64_t value;
  size_t size;
};

// Mostly accesses that mean something.
Step TakeStep(FuzzInput& input) {
  constexpr uint64_t kPages[] = {0,
                                 0,
                                 0,
                                 virtio_pci::kIsrOffset,
                                 virtio_pci::kConfigOffset,
                                 virtio_pci::kNotifyOffset,
                                 0x800,
                                 0};
  Step step;
  step.kind = input.Take<uint8_t>();
  const uint8_t where = input.Take<uint8_t>();
  const uint8_t low = input.Take<uint8_t>();
  step.region = where < 0xc0   ? virtio_pci::kBar
                : where < 0xe0 ? kPciConfigRegion
                               : where % 10;
  step.offset = (step.region == virtio_pci::kBar ? kPages[where % 8] : 0) + low;
  if (where % 8 < 3 && step.region == virtio_pci::kBar) step.offset %= 0x40;
  step.size = size_t{1} << (step.kind >> 4) % 4;
  step.value = step.size > 2 ? input.Take<uint64_t>() : input.Take<uint16_t>();
  return step;
}

void Make(FunctionGuest& guest, const Step& step) {
  if (step.kind % 4 == 0) {
    guest.Read(step.region, step.offset, step.size);
  } else {
    guest.Write(step.region, step.offset, step.value, step.size);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Made once, as inputs are many: each begins with a function that was reset.
  static auto& guest = *new FunctionGuest();
  FuzzInput input(data, size);
  Follower follower;
  bool restarted = false;
  Require(guest.function().Resume().ok());
  Require(guest.function().Reset().ok());
  guest.TakeSaid();
  const uint8_t options = input.Take<uint8_t>();
  guest.set_has_vector_table(options % 2 != 0);
  if (options >= 0x40) {
    // Ready for queues, which few inputs would come to by themselves.
    guest.Write(virtio_pci::kBar, 0x08, 1, 4);
    guest.Write(virtio_pci::kBar, 0x0c, 1 | 1 << 8, 4);
    guest.Write(virtio_pci::kBar, 0x14, options >= 0x80 ? 15 : 11, 1);
  }
  for (int i = 0; i < 24 && !input.empty(); ++i) {
    const Step step = TakeStep(input);
    const uint64_t before = Get(guest, virtio_pci::kDeviceStatus);
    Make(guest, step);
    const uint64_t after = Get(guest, virtio_pci::kDeviceStatus);
    Require(after == 0 || (before & ~after) == 0);
    follower.Follow(guest);
    if (step.kind % 16 == 13) Require(guest.function().Reset().ok());
    if (step.kind % 16 == 14) {
      (void)guest.function().InterruptQueue(step.offset % 3);
      guest.device().config[step.offset % 10] ^= 1;
      (void)guest.function().ConfigChanged(false);
    }
    if (step.kind % 16 == 15 && step.offset % 8 == 0 && !restarted) {
      restarted = true;
      guest.Restart();
      follower.Forget();
      Require(guest.function().Resume().ok());
    }
    follower.Follow(guest);
    CheckInvariants(guest, follower);
  }
  return 0;
}
