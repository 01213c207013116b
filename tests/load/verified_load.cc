#include "tests/load/verified_load.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace holdfast::load {
namespace {

// Tries before a shorter request is taken. With less than half of the device in
// flight 16 misses in a row are rare.
constexpr int kTries = 16;

absl::string_view KindName(LoadRequest::Kind kind) {
  switch (kind) {
    case LoadRequest::Kind::kRead:
      return "read";
    case LoadRequest::Kind::kWrite:
      return "write";
    case LoadRequest::Kind::kFlush:
      return "flush";
  }
  return "unknown";
}

int Lengths(uint32_t max_request_blocks) {
  int lengths = 1;
  while ((max_request_blocks >>= 1) != 0) ++lengths;
  return lengths;
}

}  // namespace

uint64_t LoadCounts::bad_blocks() const {
  uint64_t sum = 0;
  for (uint64_t count : bad) sum += count;
  return sum;
}

VerifiedLoad::VerifiedLoad(const LoadOptions& options)
    : options_(options), random_(options.seed), state_(options.blocks) {}

bool VerifiedLoad::IsFree(uint64_t first_block, uint32_t blocks) const {
  const auto begin = state_.begin() + first_block;
  return std::none_of(begin, begin + blocks,
                      [](const BlockState& state) { return state.busy; });
}

void VerifiedLoad::SetBusy(const LoadRequest& request, bool busy) {
  for (uint32_t i = 0; i < request.blocks; ++i) {
    state_[request.first_block + i].busy = busy;
  }
}

absl::optional<LoadRequest> VerifiedLoad::Next() {
  const uint32_t dice = random_() % 256;
  LoadRequest request;
  if (dice < options_.flushes_in_256) {
    request.kind = LoadRequest::Kind::kFlush;
    return request;
  }
  if (dice >= options_.flushes_in_256 + options_.reads_in_256) {
    request.kind = LoadRequest::Kind::kWrite;
  }
  int shift = random_() % Lengths(options_.max_request_blocks);
  for (int tries = 1;; ++tries) {
    request.blocks = 1u << shift;
    request.first_block = random_() % (options_.blocks - request.blocks + 1);
    if (IsFree(request.first_block, request.blocks)) break;
    if (tries % kTries == 0 && --shift < 0) return absl::nullopt;
  }
  if (request.kind == LoadRequest::Kind::kWrite) {
    request.sequence = next_sequence_++;
  }
  SetBusy(request, true);
  return request;
}

absl::optional<LoadRequest> VerifiedLoad::NextReadBack() {
  if (read_back_ >= options_.blocks) return absl::nullopt;
  LoadRequest request;
  request.first_block = read_back_;
  request.blocks = static_cast<uint32_t>(std::min<uint64_t>(
      options_.max_request_blocks, options_.blocks - read_back_));
  read_back_ += request.blocks;
  SetBusy(request, true);
  return request;
}

void VerifiedLoad::Fill(const LoadRequest& request,
                        absl::Span<uint8_t> data) const {
  for (uint32_t i = 0; i < request.blocks; ++i) {
    StampBlock({options_.run, request.first_block + i, request.sequence},
               data.subspan(i * kBlockSize, kBlockSize));
  }
}

void VerifiedLoad::Complete(const LoadRequest& request, bool ok,
                            absl::Span<const uint8_t> data) {
  SetBusy(request, false);
  if (!ok) {
    ++counts_.errors;
    AddFinding(absl::StrCat("error: ", KindName(request.kind), " of block ",
                            request.first_block, "+", request.blocks));
  } else {
    counts_.bytes += request.bytes();
  }
  switch (request.kind) {
    case LoadRequest::Kind::kFlush:
      ++counts_.flushes;
      break;
    case LoadRequest::Kind::kWrite:
      ++counts_.writes;
      for (uint32_t i = 0; i < request.blocks; ++i) {
        state_[request.first_block + i].sequence = ok ? request.sequence : 0;
      }
      break;
    case LoadRequest::Kind::kRead:
      ++counts_.reads;
      if (ok) CheckRead(request, data);
      break;
  }
}

void VerifiedLoad::CheckRead(const LoadRequest& request,
                             absl::Span<const uint8_t> data) {
  for (uint32_t i = 0; i < request.blocks; ++i) {
    const uint64_t index = request.first_block + i;
    const uint64_t sequence = state_[index].sequence;
    if (sequence == 0) continue;
    ++counts_.checked_blocks;
    BlockId found;
    const BlockVerdict verdict =
        CheckBlock({options_.run, index, sequence},
                   data.subspan(i * kBlockSize, kBlockSize), &found);
    if (verdict == BlockVerdict::kIntact) continue;
    ++counts_.bad[static_cast<int>(verdict)];
    AddFinding(absl::StrCat(
        VerdictName(verdict), ": block ", index, " must hold write ", sequence,
        ", header says write ", found.sequence, " of block ", found.index));
  }
}

void VerifiedLoad::AddFinding(std::string finding) {
  if (findings_.size() < kMaxFindings) findings_.push_back(std::move(finding));
}

}  // namespace holdfast::load
