#include "devices/platform_uart/output_file_sys.h"

#include <sys/uio.h>

namespace holdfast {
namespace {

class OutputFile final : public UartOutput {
 public:
  explicit OutputFile(BorrowedFd file) : file_(file) {}

  // A full disk loses bytes, as a line that nobody reads does.
  void Put(uint64_t place, uint8_t byte) override {
    if (!file_.valid()) return;
    const iovec part = {&byte, 1};
    (void)!pwritev2(file_.get(), &part, 1, static_cast<off_t>(place), 0);
  }

 private:
  const BorrowedFd file_;
};

}  // namespace

std::unique_ptr<UartOutput> MakeOutputFile(BorrowedFd file) {
  return std::make_unique<OutputFile>(file);
}

}  // namespace holdfast
