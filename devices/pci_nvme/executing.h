#ifndef HOLDFAST_DEVICES_PCI_NVME_EXECUTING_H_
#define HOLDFAST_DEVICES_PCI_NVME_EXECUTING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace holdfast::nvme {

// Which command a thread executes. Written and read by that thread alone, which
// may be in the handler of its crash by then.
class Executing {
 public:
  struct What {
    uint16_t queue;
    size_t slot;  // Below 65,535.
  };

  // For as long as the command is executed.
  class Scope {
   public:
    Scope(Executing& executing, What what) : what_(executing.what_) {
      Set(uint32_t{what.queue} << 16 | static_cast<uint32_t>(what.slot + 1));
    }
    ~Scope() { Set(0); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    void Set(uint32_t word) {
      std::atomic_signal_fence(std::memory_order_seq_cst);
      what_.store(word, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    std::atomic<uint32_t>& what_;
  };

  // Nothing: none.
  std::optional<What> Get() const {
    const uint32_t word = what_.load(std::memory_order_relaxed);
    if (word == 0) return std::nullopt;
    return What{static_cast<uint16_t>(word >> 16), (word & 0xffff) - 1};
  }

 private:
  std::atomic<uint32_t> what_{0};
};

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_EXECUTING_H_
