#ifndef HOLDFAST_DEVICES_PCI_NVME_GATE_H_
#define HOLDFAST_DEVICES_PCI_NVME_GATE_H_

#include <atomic>
#include <mutex>
#include <shared_mutex>

namespace holdfast::nvme {

// Lets many pass, and now and then one alone: those that serve queues, and the
// one that makes and deletes them. Whoever wants to be alone waits for the
// commands that are being executed, and not for those that come after.
class Gate {
 public:
  // Passes with others.
  class Shared {
   public:
    explicit Shared(Gate& gate) : gate_(gate) { Enter(); }
    ~Shared() { gate_.mutex_.unlock_shared(); }
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;

    // Between two commands: lets whoever waits go first. True: it did, so
    // nothing that was known before is.
    bool Yield() {
      if (!gate_.wanted_.load(std::memory_order_relaxed)) return false;
      gate_.mutex_.unlock_shared();
      Enter();
      return true;
    }

   private:
    void Enter() {
      if (gate_.wanted_.load()) {
        std::lock_guard<std::mutex> wait(gate_.turnstile_);
      }
      gate_.mutex_.lock_shared();
    }
    Gate& gate_;
  };

  // Passes alone. Not while the same thread passes in any way.
  class Alone {
   public:
    explicit Alone(Gate& gate) : gate_(gate), turn_(gate.turnstile_) {
      gate_.wanted_.store(true);
      gate_.mutex_.lock();
    }
    ~Alone() {
      gate_.mutex_.unlock();
      gate_.wanted_.store(false);
    }
    Alone(const Alone&) = delete;
    Alone& operator=(const Alone&) = delete;

   private:
    Gate& gate_;
    std::lock_guard<std::mutex> turn_;
  };

 private:
  std::mutex turnstile_;
  std::shared_mutex mutex_;
  std::atomic<bool> wanted_{false};
};

}  // namespace holdfast::nvme

#endif  // HOLDFAST_DEVICES_PCI_NVME_GATE_H_
