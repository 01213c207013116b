// What a transaction costs: begin, writes, completion record, commit. The
// argument is the size of the fields in bytes. Run with -c opt. Each line comes
// from many short runs, of which a busy machine leaves some alone: the minimum
// is the figure, and repeats within a few per cent.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "benchmark/benchmark.h"
#include "statestore/cell.h"
#include "statestore/format.h"
#include "statestore/shared_word.h"
#include "statestore/state_section.h"
#include "statestore/transaction.h"

namespace holdfast {
namespace {

// A state with fields of `fields_size` bytes and one queue, in aligned memory.
class Memory {
 public:
  explicit Memory(uint32_t fields_size)
      : lines_(StateSectionSize(fields_size, 1) / sizeof(Line)) {
    FormatState(section(), fields_size, 1);
  }
  absl::Span<uint8_t> section() {
    return {lines_[0].bytes, lines_.size() * sizeof(Line)};
  }

 private:
  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  std::vector<Line> lines_;
};

struct BenchState {
  static constexpr SchemaId kSchema{"bench", 1};
  Cell<uint64_t> first{"first"};
  Cell<std::array<uint64_t, 7>> rest{"rest"};
};

void Configure(benchmark::internal::Benchmark* benchmark) {
  benchmark->Iterations(1000)->Repetitions(500)->ReportAggregatesOnly();
  benchmark->ComputeStatistics("min", [](const std::vector<double>& runs) {
    return *std::min_element(runs.begin(), runs.end());
  });
}

template <StateBank::Threads kThreads>
void BM_Commit(benchmark::State& state) {
  Memory memory(static_cast<uint32_t>(state.range(0)));
  const BenchState cells = *BindState<BenchState>(*DescribeState<BenchState>());
  StateBank bank = *StateBank::Attach(memory.section(), 1, kThreads);
  uint64_t counter = 0;
  for (auto _ : state) {
    StateTxn txn = bank.Begin();
    txn.Set(cells.first, ++counter);
    txn.RecordCompletion(0, {counter, 1, 512});
    if (!bank.Commit(txn).ok()) state.SkipWithError("commit failed");
  }
}
BENCHMARK_TEMPLATE(BM_Commit, StateBank::Threads::kOne)
    ->Apply(Configure)
    ->Arg(64)
    ->Arg(256)
    ->Arg(1024);
BENCHMARK_TEMPLATE(BM_Commit, StateBank::Threads::kMany)
    ->Apply(Configure)
    ->Arg(64)
    ->Arg(256)
    ->Arg(1024);

// What no commit can do without: sum and copy the words of a bank, store the
// sum, compare and swap. Nothing is verified and no field is written.
void BM_Floor(benchmark::State& state) {
  Memory memory(static_cast<uint32_t>(state.range(0)));
  const absl::Span<uint8_t> section = memory.section();
  const size_t words = (CheckedBankSize(state.range(0), 1) - 16) / 8;
  const size_t stride = BankStride(state.range(0), 1);
  uint8_t* const banks = section.data() + sizeof(StateHeader);
  std::vector<uint64_t> image(words + 2);
  uint64_t word = 0;
  for (auto _ : state) {
    ++image[2];
    uint8_t* const to = banks + (word & 1) * stride;
    const Crc32cStripes sums = Crc32cStripedCopy(
        to + 16, reinterpret_cast<const uint8_t*>(&image[2]), words);
    std::memcpy(to, &sums, sizeof(sums));
    CompareAndSwapWord(section.data(), word, word + 1);
    ++word;
  }
}
BENCHMARK(BM_Floor)->Apply(Configure)->Arg(64)->Arg(256)->Arg(1024);

// What the beginning of a transaction costs: image and bank are compared.
void BM_Compare(benchmark::State& state) {
  const std::vector<uint8_t> a(CheckedBankSize(state.range(0), 1)), b(a);
  for (auto _ : state) {
    const uint8_t* p = a.data();
    benchmark::DoNotOptimize(p);
    benchmark::DoNotOptimize(std::memcmp(p, b.data(), b.size()));
  }
}
BENCHMARK(BM_Compare)->Apply(Configure)->Arg(64)->Arg(256)->Arg(1024);

// The compare-and-swap alone.
void BM_CompareAndSwap(benchmark::State& state) {
  alignas(64) uint64_t word = 0;
  for (auto _ : state) {
    uint64_t expected = word;
    benchmark::DoNotOptimize(
        __atomic_compare_exchange_n(&word, &expected, expected + 1, false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE));
  }
}
BENCHMARK(BM_CompareAndSwap)->Apply(Configure);

void BM_Crc32c(benchmark::State& state) {
  std::vector<uint8_t> bytes(state.range(0), 0x5a);
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(bytes));
}
BENCHMARK(BM_Crc32c)->Apply(Configure)->Arg(64)->Arg(256)->Arg(4096);

void BM_Crc32cStriped(benchmark::State& state) {
  std::vector<uint8_t> bytes(state.range(0), 0x5a);
  for (auto _ : state) {
    benchmark::DoNotOptimize(Crc32cStriped(bytes.data(), bytes.size() / 8));
  }
}
BENCHMARK(BM_Crc32cStriped)->Apply(Configure)->Arg(64)->Arg(256)->Arg(4096);

}  // namespace
}  // namespace holdfast
