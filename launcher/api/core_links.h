#ifndef HOLDFAST_LAUNCHER_API_CORE_LINKS_H_
#define HOLDFAST_LAUNCHER_API_CORE_LINKS_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "launcher/core_client_sys.h"

namespace holdfast::launcher {

// The connections to the core that the api was born with. A call borrows one,
// so that one that takes its time (Stop) does not keep the others waiting.
// Thread-safe.
class CoreLinks {
 public:
  explicit CoreLinks(std::vector<CoreClient> clients);

  // Waits for a free connection and calls `use` with it; its result.
  absl::Status Call(const std::function<absl::Status(CoreClient&)>& use);

 private:
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<CoreClient>> free_;
};

}  // namespace holdfast::launcher

#endif  // HOLDFAST_LAUNCHER_API_CORE_LINKS_H_
