// Random reads of 4 KiB through the queue of an NVMe controller at a depth, by
// one worker at a time and by several, in turns. No VMM, no guest: what is
// measured is doorbell, fetch, I/O, completion.
//
//   nvme_depth --image=PATH [--depth=32] [--rounds=5] [--commands=20000]
//       [--workers=4] [--uncached]
#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "base/shared_access.h"
#include "base/unique_fd.h"
#include "devices/block/file_engine.h"
#include "devices/block/image_file_sys.h"
#include "devices/bus/testing/pci_guest.h"
#include "devices/pci_nvme/pci_nvme.h"
#include "devices/pci_nvme/protocol.h"
#include "devices/pci_nvme/registers.h"
#include "devices/pci_nvme/testing/nvme_driver.h"
#include "devices/runtime/work_runner_sys.h"

ABSL_FLAG(std::string, image, "", "what is read");
ABSL_FLAG(uint32_t, depth, 32, "commands in flight, 1 to 63");
ABSL_FLAG(uint32_t, rounds, 5, "of each kind");
ABSL_FLAG(uint32_t, commands, 20000, "of each round");
ABSL_FLAG(uint32_t, workers, 4, "to compare with one");
ABSL_FLAG(bool, uncached, false, "past the page cache (O_DIRECT)");

namespace holdfast::nvme {
namespace {

using ::holdfast::nvme::testing::NvmeDriver;
using ::holdfast::testing::PciGuest;

constexpr uint16_t kEntries = 64;  // A page of commands.

uint64_t Now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class Load {
 public:
  Load(BorrowedFd image, uint64_t size, uint32_t workers)
      : nvme_(testing::NvmeClass(
            {{"num-queues", "1"}, {"workers", absl::StrCat(workers)}},
            [image](PciContext&) {
              return std::make_unique<block::FileEngine>(
                  *block::OpenImageFile(image));
            },
            size)),
        guest_(nvme_, Memory()),
        blocks_(size / 512) {
    NvmeDriver driver(guest_);
    driver.Enable();
    driver.CreateQueue(1, kEntries);
    runner_ = std::make_unique<WorkRunner>(guest_.function());
    runner_->Start();
  }

  // Commands a second.
  double Run(uint32_t commands, uint32_t depth) {
    const uint64_t begin = Now();
    uint32_t submitted = 0;
    uint32_t completed = 0;
    while (completed < commands) {
      const uint32_t before = submitted;
      while (submitted < commands && submitted - completed < depth) {
        Submit(submitted++);
      }
      if (submitted != before) Ring(0, tail_);
      const uint32_t taken = Take();
      if (taken == 0) {
        std::this_thread::yield();
        continue;
      }
      completed += taken;
      Ring(4, head_);
    }
    return commands * 1e9 / static_cast<double>(Now() - begin);
  }

 private:
  static PciGuest::Options Memory() {
    PciGuest::Options options = testing::NvmeGuest();
    options.ram_size = 1 << 20;
    return options;
  }

  void Submit(uint32_t number) {
    const uint64_t lba = random_() % (blocks_ / 8) * 8;
    Command command =
        NvmeDriver::Io(IoOpcode::kRead, lba, 8, 0x10000 + number % 64 * 0x1000);
    command.cid = static_cast<uint16_t>(number);
    std::memcpy(
        guest_.ram().data() + NvmeDriver::SqBase(1) + tail_ * sizeof(command),
        &command, sizeof(command));
    tail_ = (tail_ + 1) % kEntries;
  }

  uint32_t Take() {
    uint32_t taken = 0;
    for (;; ++taken) {
      const auto* last = reinterpret_cast<const uint32_t*>(
          guest_.ram().data() + NvmeDriver::CqBase(1) +
          head_ * sizeof(Completion) + 12);
      const uint32_t word = SharedAccess::LoadAcquire(last);
      if ((word >> 16 & 1) != phase_) return taken;
      if (word >> 17 != 0) std::fprintf(stderr, "status %x\n", word >> 17);
      head_ = (head_ + 1) % kEntries;
      if (head_ == 0) phase_ ^= 1;
    }
  }

  void Ring(uint32_t which, uint32_t value) {
    uint8_t bytes[4];
    std::memcpy(bytes, &value, sizeof(bytes));
    const absl::Status written = guest_.function().Write(
        AccessId::kNone, 0, kDoorbells.offset() + 8 + which, bytes);
    if (!written.ok()) std::fprintf(stderr, "doorbell refused\n");
    runner_->Wake();
  }

  holdfast::testing::PciClass nvme_;
  PciGuest guest_;
  std::unique_ptr<WorkRunner> runner_;
  const uint64_t blocks_;
  std::mt19937_64 random_;
  uint32_t tail_ = 0;
  uint32_t head_ = 0;
  uint32_t phase_ = 1;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int Main() {
  const int direct = absl::GetFlag(FLAGS_uncached) ? O_DIRECT : 0;
  const UniqueFd image(
      open(absl::GetFlag(FLAGS_image).c_str(), O_RDWR | O_CLOEXEC | direct));
  if (!image.valid()) {
    std::perror("--image");
    return 1;
  }
  const absl::StatusOr<uint64_t> size =
      block::FileEngine(*block::OpenImageFile(image)).Size();
  if (!size.ok()) return 1;
  std::map<uint32_t, std::vector<double>> rates;
  for (uint32_t round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
    for (const uint32_t workers : {1u, absl::GetFlag(FLAGS_workers)}) {
      Load load(image, *size, workers);
      rates[workers].push_back(
          load.Run(absl::GetFlag(FLAGS_commands), absl::GetFlag(FLAGS_depth)));
    }
  }
  for (const auto& [workers, values] : rates) {
    std::printf("%u worker(s): %.0f commands/s (median of %zu rounds)\n",
                workers, Median(values), values.size());
  }
  return 0;
}

}  // namespace
}  // namespace holdfast::nvme

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return holdfast::nvme::Main();
}
