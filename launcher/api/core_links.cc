#include "launcher/api/core_links.h"

#include <utility>

namespace holdfast::launcher {

CoreLinks::CoreLinks(std::vector<CoreClient> clients) {
  for (CoreClient& client : clients) {
    free_.push_back(std::make_unique<CoreClient>(std::move(client)));
  }
}

absl::Status CoreLinks::Call(
    const std::function<absl::Status(CoreClient&)>& use) {
  std::unique_ptr<CoreClient> client;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    returned_.wait(lock, [this] { return !free_.empty(); });
    client = std::move(free_.back());
    free_.pop_back();
  }
  const absl::Status status = use(*client);
  const std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back(std::move(client));
  returned_.notify_one();
  return status;
}

}  // namespace holdfast::launcher
