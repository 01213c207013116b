// A hostile client and a damaged journal: answers of any id, command, size and
// error, room of any size, deaths at any time. The stream stays one of whole
// requests, no answer counts twice, and no more requests wait than may.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "base/testing/fuzz_input.h"
#include "devices/vfio_user/ask_journal.h"
#include "devices/vfio_user/testing/sending_io.h"

namespace {

using ::holdfast::testing::Require;
using namespace holdfast::vfio_user;  // NOLINT: a program of one function.

class Io final : public SendingIo {
 public:
  // The whole requests in the stream.
  size_t Requests() const {
    size_t count = 0;
    for (size_t at = 0; at + sizeof(MessageHeader) <= stream.size(); ++count) {
      MessageHeader header;
      std::memcpy(&header, stream.data() + at, sizeof(header));
      Require(header.command == 11 || header.command == 12);
      Require(header.flags == 0 && header.size >= 32);
      at += header.size;
      if (at > stream.size()) return count;
    }
    return count;
  }
};

constexpr size_t kHead = offsetof(AskMemory, message);

void Damaged(absl::Span<const uint8_t> data) {
  auto memory = std::make_unique<AskMemory>();
  std::memcpy(memory.get(), data.data(), std::min(data.size(), kHead));
  AskJournal journal(*memory);
  if (!journal.Resume().ok()) return;
  Io io;
  if (journal.unfinished()) (void)journal.Finish(io);
  (void)journal.Take({data[0], Command::kDmaRead, 0, data});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  if (data[0] == 0xff) Damaged({data, size});
  auto memory = std::make_unique<AskMemory>();
  AskJournal journal(*memory);
  Io io;
  io.room = 0;
  size_t taken = 0;
  const std::vector<uint8_t> bytes(300, 9);
  // One step: what, and a number.
  for (size_t at = 1; at + 2 <= size; at += 2) {
    const uint8_t number = data[at + 1];
    const bool write = (data[at] & 8) != 0;
    const Command command = write ? Command::kDmaWrite : Command::kDmaRead;
    switch (data[at] & 7) {
      case 0:
        io.room += number;
        break;
      case 1:  // A death.
        Require(journal.Resume().ok());
        break;
      case 2:
      case 3:
        if (journal.unfinished()) {
          Require(journal.Finish(io).ok());
        } else {
          AskJournal::Ask ask;
          ask.command = command;
          ask.address = number;
          ask.count = number;
          ask.data = absl::MakeConstSpan(bytes).first(number);
          size_t slot = 0;
          (void)journal.Send(io, ask, &slot);
        }
        break;
      default: {
        const uint32_t error = (data[at] & 16) != 0 ? number : 0;
        const size_t length = (data[at] >> 5) * 40u;
        const auto answer = journal.Take(
            {number, command, error, absl::MakeConstSpan(bytes).first(length)});
        if (!answer.has_value()) break;
        ++taken;
        Require(answer->slot < kMaxAsks);
        Require(answer->error == 0 || answer->data.empty());
      }
    }
    const size_t requests = io.Requests();
    Require(taken <= requests);
    Require(journal.waiting() <= kMaxAsks);
    const size_t partly = journal.unfinished() ? 1 : 0;
    Require(requests + partly == taken + journal.waiting());
  }
  return 0;
}
