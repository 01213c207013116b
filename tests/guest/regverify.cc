// regverify RESOURCE - in the guest: reads and writes the registers of
// tests/recovery/register_torture through RESOURCE, a BAR's file in sysfs, and
// compares each answer with a model, until a file named /tmp/stop is there.
// Prints REG-CHECKED now and then, REG-FINDING for each difference (ten at
// most) and in the end REG-RESULT READS WRITES DIFFERENCES.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>

namespace {

constexpr size_t kBarSize = 4096;
constexpr uint64_t kTurnsBetweenWords = 4096;
constexpr uint64_t kMaxFindings = 10;

// Registers, in words of four bytes; see register_torture.cc.
enum Register { kCount = 0, kSum = 1, kWrites = 2, kLatch = 4, kSet = 5 };

class Torture {
 public:
  // The device may have been used before.
  explicit Torture(volatile uint32_t* registers)
      : registers_(registers),
        count_(registers[kCount]),
        sum_(registers[kSum]),
        writes_(registers[kWrites]) {
    (void)registers_[kLatch];
  }

  void Turn() {
    ++turns_;
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    const auto value = static_cast<uint32_t>(random_ >> 32);
    Write(kSum, value);
    sum_ = 31 * sum_ + value;
    ++writes_;
    Expect(kCount, ++count_, "count");
    if (turns_ % 4 == 0) {
      Write(kSet, value);
      Expect(kLatch, value, "latch");
      Expect(kLatch, 0, "latch");
    }
    if (turns_ % 8 != 0) return;
    Expect(kSum, sum_, "sum");
    Expect(kWrites, writes_, "writes");
  }

  uint64_t turns() const { return turns_; }

  // Prints the result; whether there was nothing to find.
  bool Report() const {
    std::printf("REG-RESULT %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", reads_,
                posted_, findings_);
    return findings_ == 0;
  }

 private:
  void Write(Register reg, uint32_t value) {
    ++posted_;
    registers_[reg] = value;
  }

  void Expect(Register reg, uint32_t& model, const char* name) {
    ++reads_;
    const uint32_t got = registers_[reg];
    if (got == model) return;
    if (++findings_ <= kMaxFindings) {
      std::printf("REG-FINDING %s is %" PRIx32 " and not %" PRIx32
                  " in turn %" PRIu64 "\n",
                  name, got, model, turns_);
    }
    model = got;  // One mistake is one finding.
  }
  void Expect(Register reg, uint32_t&& value, const char* name) {
    uint32_t model = value;
    Expect(reg, model, name);
  }
  void Expect(Register reg, const uint32_t& value, const char* name) {
    uint32_t model = value;
    Expect(reg, model, name);
  }

  volatile uint32_t* const registers_;
  uint32_t count_;
  uint32_t sum_;
  uint32_t writes_;
  uint64_t random_ = 1;
  uint64_t turns_ = 0;
  uint64_t reads_ = 0;
  uint64_t posted_ = 0;
  uint64_t findings_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const int fd = argc == 2 ? open(argv[1], O_RDWR | O_SYNC) : -1;
  void* const bar = fd < 0 ? MAP_FAILED
                           : mmap(nullptr, kBarSize, PROT_READ | PROT_WRITE,
                                  MAP_SHARED, fd, 0);
  if (bar == MAP_FAILED) {
    std::perror("REG-FINDING no registers");
    return 1;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  Torture torture(static_cast<volatile uint32_t*>(bar));
  do {
    for (uint64_t i = 0; i < kTurnsBetweenWords; ++i) torture.Turn();
    std::printf("REG-CHECKED %" PRIu64 "\n", torture.turns());
  } while (access("/tmp/stop", F_OK) != 0);
  return torture.Report() ? 0 : 1;
}
